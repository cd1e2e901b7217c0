package backup

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/pg/page"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/pack"
	"github.com/salvor-dr/salvor/internal/wal/summary"
)

// prior is the backup that an incremental one continues: its parent.
type prior struct {
	head    catalog.Head
	files   *catalog.FileFinder
	packs   []catalog.NamedPack
	reader  *pack.Reader
	footers *pack.Footers
	stale   map[repo.ID]bool // packs whose live blocks are stored anew
	damaged map[repo.ID]bool // of these, those that a verification found damaged
	changes *summary.Map     // what the WAL changed since; nil where every page is read
	bad     map[string]bool  // files with pages that did not check
	strange map[pg.OID]bool  // databases that may not be those that the parent has
}

const (
	// A pack of which less than half is live is stale: to store that half anew frees
	// more than it takes.
	staleShare = 2
	// forwardShare bounds what is stored anew so in one backup, as a part of the
	// database: where pages change evenly, many packs become stale at once.
	forwardShare = 10
	// hashesHeld is how many hashes of the parent's blocks are held, 8 bytes each.
	hashesHeld = 512 << 10
	// forwardLeast is worth it in the smallest database, in bytes.
	forwardLeast = 256 << 20
)

// stalePacks chooses packs with little that is live, those with least first.
func stalePacks(packs []catalog.NamedPack, size uint64) map[repo.ID]bool {
	sorted := slices.Clone(packs)
	slices.SortFunc(sorted, func(a, b catalog.NamedPack) int {
		return cmp.Or(cmp.Compare(float64(a.Live)/float64(a.Plain), float64(b.Live)/float64(b.Plain)), bytes.Compare(a.ID[:], b.ID[:]))
	})
	stale := map[repo.ID]bool{}
	left := max(size/forwardShare, forwardLeast)
	for _, p := range sorted {
		if p.Live*staleShare >= p.Plain || p.Live > left {
			break
		}
		left -= p.Live
		stale[p.ID] = true
	}
	return stale
}

// openPrior makes ready to look things up in a backup.
func (r *run) openPrior(ctx context.Context, h catalog.Head) (*prior, error) {
	p := &prior{head: h, bad: map[string]bool{}}
	var err error
	if p.files, err = catalog.FindFiles(ctx, r.Objects, h); err != nil {
		return nil, err
	}
	if p.packs, err = catalog.ReadPacks(ctx, r.Objects, h); err != nil {
		return nil, err
	}
	p.reader = pack.NewReader(r.Objects, r.place.PackName, catalog.PackInfos(p.packs))
	p.footers = pack.NewFooters(p.reader, hashesHeld)
	p.stale = stalePacks(p.packs, h.Size)
	if err := r.avoidDamaged(ctx, p); err != nil {
		return nil, err
	}
	for _, b := range h.Damaged {
		p.bad[b.Path] = true
	}
	p.strange = others(h.Databases, r.head.Databases)
	return p, nil
}

// avoidDamaged makes stale the packs that a verification found damaged: what they hold is
// read from the cluster, and stored anew.
func (r *run) avoidDamaged(ctx context.Context, p *prior) error {
	damaged, unreadable, err := catalog.DamagedPacks(ctx, r.Objects, r.place)
	if err != nil {
		return fmt.Errorf("looking which packs were found damaged: %w", err)
	}
	for _, err := range unreadable {
		r.Events.Warn(fmt.Sprintf("what it says of damaged packs is not known: %v", err))
	}
	p.damaged = map[repo.ID]bool{}
	for _, n := range p.packs {
		if damaged[n.ID] {
			p.damaged[n.ID], p.stale[n.ID] = true, true
		}
	}
	if n := len(p.damaged); n > 0 {
		r.Events.Warn(fmt.Sprintf("nothing is taken from %d packs of backup %s that a verification found damaged: what is in them is stored anew", n, p.head.ID))
	}
	return nil
}

// mapDamaged says whether the map of a file is in a pack that was found damaged.
func (p *prior) mapDamaged(f catalog.File) bool {
	return slices.ContainsFunc(f.MapRefs, func(r repo.Ref) bool { return p.damaged[r.Pack] })
}

// others lists databases that were made or altered since. One that was dropped and made
// anew under its OID by copying files has pages of another, with LSNs as old as theirs.
func others(then, now []catalog.Database) map[pg.OID]bool {
	known := map[catalog.Database]bool{}
	for _, d := range then {
		known[d] = true
	}
	all := map[pg.OID]bool{}
	for _, d := range now {
		if !known[d] {
			all[d.OID] = true
		}
	}
	return all
}

// before is a file as the parent has it.
type before struct {
	catalog.File
	blocks  chunk.Map
	footers *pack.Footers
}

// remember looks up what the parent has of a file, once.
func (r *run) remember(ctx context.Context, f *file) error {
	if r.prior == nil {
		return nil
	}
	f.once.Do(func() {
		e, ok, err := r.prior.files.Find(ctx, f.entry.Path)
		if f.failed = err; err == nil && ok {
			f.replaces = &e
			f.before, f.failed = r.prior.fit(ctx, e, f)
			r.prior.narrow(f)
		}
	})
	return f.failed
}

// fit reads the map of the parent's entry; nil if the entry is of something else.
func (p *prior) fit(ctx context.Context, e catalog.File, f *file) (*before, error) {
	if e.Kind != catalog.Regular || e.Block != uint32(f.block) || e.Relation != f.entry.IsRelation {
		return nil, nil
	}
	m, err := p.blocks(ctx, e)
	if err != nil {
		return nil, err
	}
	return &before{File: e, footers: p.footers, blocks: m}, nil
}

// blocks gives the map of a file of the parent.
func (p *prior) blocks(ctx context.Context, e catalog.File) (chunk.Map, error) {
	return catalog.FileMap(ctx, p.head, e, p.reader, new(pack.Scratch))
}

// narrow notes what is to be read of a file, if that is not all of it: what the WAL
// changed, and what is in stale packs.
func (p *prior) narrow(f *file) {
	if p.changes == nil || f.before == nil || !f.entry.IsRelation || p.bad[f.entry.Path] {
		return
	}
	block := int64(f.block)
	changed := p.changes.Changed(summary.File{
		Relation: f.entry.Relation, First: uint64(f.base),
		// A block at the end that is not whole, then or now, is read.
		Had: uint32(min(f.before.Size, uint64(f.entry.Size)) / uint64(block)), Has: uint32((f.entry.Size + block - 1) / block),
	})
	if changed.All() {
		return
	}
	f.sparse = true
	for first, count := range changed.Runs() {
		f.reads = append(f.reads, extent{int64(first) * block, min(int64(first+count)*block, f.entry.Size)})
	}
	if len(p.stale) == 0 {
		return
	}
	for _, r := range f.before.blocks.Runs {
		if end := min(int64(r.End())*block, f.entry.Size); !r.Zero && p.stale[r.Ref.Pack] && int64(r.First)*block < end {
			f.reads = append(f.reads, extent{int64(r.First) * block, end})
		}
	}
	f.reads = union(f.reads)
}

// extent is bytes of a file, from start to before end.
type extent struct{ start, end int64 }

// union puts extents in order, and those together that overlap or touch.
func union(all []extent) []extent {
	slices.SortFunc(all, func(a, b extent) int { return cmp.Compare(a.start, b.start) })
	out := all[:0]
	for _, e := range all {
		if k := len(out) - 1; k >= 0 && e.start <= out[k].end {
			out[k].end = max(out[k].end, e.end)
		} else {
			out = append(out, e)
		}
	}
	return out
}

// extents gives what is to be read of a range, in order.
func (f *file) extents(p *part) []extent {
	if !f.sparse {
		return []extent{{p.start, p.end}}
	}
	var out []extent
	for i := sort.Search(len(f.reads), func(i int) bool { return f.reads[i].end > p.start }); i < len(f.reads) && f.reads[i].start < p.end; i++ {
		out = append(out, extent{max(p.start, f.reads[i].start), min(p.end, f.reads[i].end)})
	}
	return out
}

// firstNormalLSN is the least LSN that a page can have from the WAL: lower ones are
// made up where there is none (FirstNormalUnloggedLSN, xlogdefs.h).
const firstNormalLSN = 1000

// unchanged says whether a good page is the one that the parent has, judged by its LSN
// alone: the WAL last changed it before the parent's start. Free space and visibility
// maps change without WAL, so their LSNs say nothing; and where the parent has read a
// damaged page, or another database, it has not this one.
func (r *run) unchanged(f *file, b []byte) bool {
	if r.Detect != catalog.ByLSN || !f.entry.IsRelation || f.entry.Relation.Fork == datadir.ForkFSM || f.entry.Relation.Fork == datadir.ForkVM || r.prior.bad[f.entry.Path] || r.prior.strange[f.entry.Relation.Database] {
		return false
	}
	lsn := page.LSN(b)
	if page.AllVisible(b) {
		return false // it may have become so without WAL: without the flag, the visibility map would be wrong
	}
	return lsn >= firstNormalLSN && lsn < r.prior.head.StartLSN
}

// length is how many bytes block n has: all but the last have the block's size.
func (b *before) length(n uint64) int {
	return int(min(uint64(b.Block), b.Size-n*uint64(b.Block)))
}

// appendTo appends the runs of the blocks from first to before end.
func (b *before) appendTo(runs []chunk.Run, first, end uint64) []chunk.Run {
	for _, r := range b.blocks.From(first) {
		if r.First >= end {
			break
		}
		runs = appendRun(runs, r.Part(first, end))
	}
	return runs
}

// run gives the run that holds block n, cut down to it.
func (b *before) run(n uint64) (chunk.Run, bool) {
	r, ok := b.blocks.Find(n)
	if ok {
		r = r.Part(n, n+1)
	}
	return r, ok
}

// hash gives the hash of the block of a run of one.
func (b *before) hash(ctx context.Context, r chunk.Run) (uint64, error) {
	if r.Zero {
		return chunk.ZeroHash(b.length(r.First)), nil
	}
	hashes, err := b.footers.Hashes(ctx, r.Ref)
	if err != nil {
		return 0, err
	}
	if int(r.Slot) >= len(hashes) {
		return 0, repo.Damaged("the map of "+b.Path, "it takes block %d of a chunk of %d", r.Slot, len(hashes))
	}
	return hashes[r.Slot], nil
}

// lost gives the digest of the blocks from n on.
func (b *before) lost(ctx context.Context, n uint64) (d chunk.Digest, err error) {
	for _, r := range b.blocks.From(n) {
		for ; n < r.End(); n++ {
			one, _ := b.run(n)
			h, err := b.hash(ctx, one)
			if err != nil {
				return d, err
			}
			d.AddBlock(n, h)
		}
	}
	return d, nil
}

// census counts how much of each pack is live. Files of the same content may share
// a chunk, which then counts for each.
type census struct {
	mu   sync.Mutex
	live map[repo.ID]int64 // bytes of its chunks, before compression
}

// newCensus begins with what the parent has, nil for a full backup.
func newCensus(p *prior) *census {
	c := &census{live: map[repo.ID]int64{}}
	if p != nil {
		for _, n := range p.packs {
			c.live[n.ID] = int64(n.Live)
		}
	}
	return c
}

// count adds a file's map and the chunks that hold it, times sign.
func (c *census) count(sign int64, m chunk.Map, refs []repo.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range m.Runs {
		if !r.Zero {
			// The last block of a chunk may be short.
			c.live[r.Ref.Pack] += sign * min(int64(r.Blocks)*int64(m.Block), int64(r.Ref.Plain)-int64(r.Slot)*int64(m.Block))
		}
	}
	for _, r := range refs {
		c.live[r.Pack] += sign * int64(r.Plain)
	}
}

// drop takes away what only the parent has: files that are gone.
func (p *prior) drop(ctx context.Context, c *census, e catalog.File) error {
	if e.Kind != catalog.Regular {
		return nil
	}
	m, err := p.blocks(ctx, e)
	if err != nil {
		return err
	}
	c.count(-1, m, e.MapRefs)
	return nil
}

// named lists the packs with anything live: of those that the parent names, that were
// adopted, and that are new.
func (c *census) named(all []pack.Info) ([]catalog.NamedPack, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []catalog.NamedPack
	seen := map[repo.ID]bool{}
	for _, i := range all {
		live := c.live[i.ID]
		if live < 0 {
			return nil, fmt.Errorf("counting what is live: of pack %s it would be %d bytes", i.ID, live)
		}
		if live > 0 && !seen[i.ID] {
			out = append(out, catalog.NamedPack{Info: i, Live: uint64(live)})
		}
		seen[i.ID] = true
	}
	for id, live := range c.live {
		if live != 0 && !seen[id] {
			return nil, fmt.Errorf("counting what is live: pack %s has %d bytes and is not known", id, live)
		}
	}
	return out, nil
}
