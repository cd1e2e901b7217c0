package verify

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/pg/page"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/pack"
	"github.com/salvor-dr/salvor/internal/store"
)

// packState is what is known of a pack. It belongs to one goroutine at a time.
type packState struct {
	info      pack.Info
	checksums bool  // pages in it have them
	there     bool  // with the size that the list of packs says
	uses      []use // of the window

	// What is wrong: with all of it, or else with chunks of it, by ordinal.
	whole  *catalog.Problem
	chunks map[uint32]*badChunk
}

func (p *packState) sound() bool { return p.whole == nil && len(p.chunks) == 0 }

// told says whether a chunk of it is known to be damaged, other than that pages in it do
// not check.
func (p *packState) told() bool {
	for _, c := range p.chunks {
		if c.why != "" {
			return true
		}
	}
	return false
}

// badChunk is a chunk that is damaged, or has pages that do not check, by their slots.
type badChunk struct {
	why   string // all of it
	pages map[uint32]string
}

// bad gives the chunk's entry, made if need be.
func (p *packState) bad(ordinal uint32) *badChunk {
	if p.chunks == nil {
		p.chunks = map[uint32]*badChunk{}
	}
	c := p.chunks[ordinal]
	if c == nil {
		c = &badChunk{}
		p.chunks[ordinal] = c
	}
	return c
}

// use is neighbouring pages of a relation in a chunk.
type use struct {
	ordinal uint32
	first   uint32 // number of the first page in its relation's fork, over all segments
	slot    uint16 // of that page in the chunk
	pages   uint16
	size    uint32 // of a page, bytes
}

func compareUses(a, b use) int {
	return cmp.Or(cmp.Compare(a.ordinal, b.ordinal), cmp.Compare(a.slot, b.slot), cmp.Compare(a.first, b.first), cmp.Compare(a.pages, b.pages))
}

// windowBytes is how much of packs, before compression, is read with one walk through the
// file tables: in the worst case every page of it is a run of its own.
const windowBytes = 64 << 30

// counter counts the bytes that were read of packs and WAL.
type counter struct{ n atomic.Uint64 }

// present compares the packs that the backups name with those that there are.
func (v *verification) present(ctx context.Context) error {
	prefix := v.Place.PacksPrefix()
	for o, err := range v.Objects.Store().List(ctx, prefix, store.ListOptions{}) {
		if err != nil {
			return fmt.Errorf("listing %s: %w", prefix, err)
		}
		id, ok := v.Place.PackOf(o.Key)
		p := v.packs[id]
		if !ok || p == nil {
			continue
		}
		p.there = true
		if uint64(o.Size) != p.info.Size {
			p.whole = &catalog.Problem{Kind: WrongSize, Object: o.Key, Detail: fmt.Sprintf("it has %d bytes, the backup wrote %d", o.Size, p.info.Size)}
		}
	}
	for id, p := range v.packs {
		if !p.there {
			p.whole = &catalog.Problem{Kind: Missing, Object: v.Place.PackName(id), Detail: "it is missing"}
		}
	}
	return nil
}

// readPacks reads what the level wants of all packs.
func (v *verification) readPacks(ctx context.Context) error {
	var all []*packState
	total := uint64(0)
	for _, p := range v.packs {
		if p.whole == nil {
			all = append(all, p)
			total += p.info.Size
		}
	}
	slices.SortFunc(all, func(a, b *packState) int { return bytes.Compare(a.info.ID[:], b.info.ID[:]) })
	v.Events.Phase("packs")
	for len(all) > 0 {
		n, size := 0, uint64(0)
		for n < len(all) && (n == 0 || size+all[n].info.Plain <= windowBytes) {
			size += all[n].info.Plain
			n++
		}
		if err := v.readWindow(ctx, all[:n], total); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// readWindow reads some packs.
func (v *verification) readWindow(ctx context.Context, window []*packState, total uint64) error {
	if v.data() {
		if err := v.collect(ctx, window); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(v.Workers)
	for _, p := range window {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if !v.data() {
				return v.look(ctx, p)
			}
			r := packReading{v: v, p: p, total: total}
			err := r.do(ctx)
			p.uses = nil
			return err
		})
	}
	return g.Wait()
}

// collect notes which pages of relations are in the packs of a window.
func (v *verification) collect(ctx context.Context, window []*packState) error {
	in := make(map[repo.ID]*packState, len(window))
	for _, p := range window {
		in[p.info.ID] = p
	}
	known := v.newSeen()
	for _, b := range v.backups {
		err := v.walk(ctx, b, func(f catalog.File, m chunk.Map, _ map[repo.ID]pack.Info) error {
			if !f.Relation || known.before(f) {
				return nil
			}
			base := firstPage(b.head, f)
			for _, r := range m.Runs {
				if p := in[r.Ref.Pack]; !r.Zero && p != nil {
					p.uses = append(p.uses, use{r.Ref.Ordinal, base + uint32(r.First), uint16(r.Slot), uint16(r.Blocks), f.Block})
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, p := range window { // what several backups share is noted once
			slices.SortFunc(p.uses, compareUses)
			p.uses = slices.Clip(slices.Compact(p.uses))
		}
	}
	return nil
}

// firstPage is the number that the first page of a segment file has in its relation's
// fork.
func firstPage(h *catalog.Head, f catalog.File) uint32 {
	r, _ := datadir.ParseRelation(f.Path)
	return r.Segment * h.Sizes.SegmentBlocks
}

// look reads a pack's header and footer.
func (v *verification) look(ctx context.Context, p *packState) error {
	_, err := v.reader.Entries(ctx, p.info.ID)
	if err != nil {
		return v.fault(ctx, p, err)
	}
	return nil
}

// fault notes that a pack as a whole is damaged, if that is what the error says.
func (v *verification) fault(ctx context.Context, p *packState, err error) error {
	if !unreadable(err) {
		return err
	}
	one, err := v.problem(ctx, v.Place.PackName(p.info.ID), err)
	if err == nil {
		p.whole = &one
	}
	return err
}

// packReading reads all of a pack.
type packReading struct {
	v     *verification
	p     *packState
	total uint64
	next  int // chunk
	used  int // uses of chunks before it
}

func (r *packReading) do(ctx context.Context) error {
	err := r.v.reader.Verify(ctx, r.p.info.ID, func(ref repo.Ref, plain []byte) error {
		r.pages(ref.Ordinal, plain)
		r.next++
		r.count(uint64(ref.Stored))
		return nil
	})
	if err == nil || !unreadable(err) {
		return err
	}
	entries, eerr := r.v.reader.Entries(ctx, r.p.info.ID)
	if eerr != nil {
		return r.v.fault(ctx, r.p, eerr)
	}
	if err := r.rest(ctx, entries); err != nil {
		return err
	}
	if !r.p.told() {
		return r.v.fault(ctx, r.p, err) // of what lies between the chunks, or behind them
	}
	return nil
}

// rest reads the chunks from the first damaged one on, each by itself.
func (r *packReading) rest(ctx context.Context, entries []pack.Entry) error {
	var scratch pack.Scratch
	for _, e := range entries[min(r.next, len(entries)):] {
		err := r.v.reader.Read(ctx, []repo.Ref{e.Ref}, &scratch, func(_ int, plain []byte) error {
			for i, want := range e.Hashes {
				b := plain[i*int(e.Block):]
				if chunk.BlockHash(b[:min(len(b), int(e.Block))]) != want {
					return repo.Damaged(r.v.Place.PackName(r.p.info.ID), "block %d of it has not the hash that it was stored with", i)
				}
			}
			r.pages(e.Ref.Ordinal, plain)
			return nil
		})
		switch {
		case err == nil:
		case unreadable(err):
			r.p.bad(e.Ref.Ordinal).why = detail(err)
		default:
			return err
		}
		r.count(uint64(e.Ref.Stored))
	}
	return nil
}

func (r *packReading) count(n uint64) {
	r.v.Events.Progress(r.v.read.n.Add(n), r.total)
}

// pages checks the pages of relations in a chunk. Chunks come in order.
func (r *packReading) pages(ordinal uint32, plain []byte) {
	uses := r.p.uses
	if r.used < len(uses) && uses[r.used].ordinal < ordinal {
		r.used += sort.Search(len(uses)-r.used, func(i int) bool { return uses[r.used+i].ordinal >= ordinal })
	}
	for ; r.used < len(uses) && uses[r.used].ordinal == ordinal; r.used++ {
		u := uses[r.used]
		for i := range uint32(u.pages) {
			slot := uint32(u.slot) + i
			from := uint64(slot) * uint64(u.size)
			if from+uint64(u.size) > uint64(len(plain)) {
				break // the file's last page is not whole: the WAL that extends it is
			}
			if verdict := page.Check(plain[from:from+uint64(u.size)], u.first+i, r.p.checksums); !verdict.Good() {
				c := r.p.bad(ordinal)
				if c.pages == nil {
					c.pages = map[uint32]string{}
				}
				c.pages[slot] = verdict.String()
			}
		}
	}
}

// detail is what an error says of its object.
func detail(err error) string {
	_, what, _ := strings.Cut(err.Error(), " is damaged: ")
	return cmp.Or(what, err.Error())
}

// digests sums up the hashes of each file's blocks. The packs were read, so the hashes in
// their footers are those of what is in them.
func (v *verification) digests(ctx context.Context) error {
	if !v.data() {
		return nil
	}
	v.Events.Phase("files")
	footers := pack.NewFooters(v.reader, hashesHeld)
	known := v.newSeen()
	for _, b := range v.backups {
		if err := v.digestsOf(ctx, b, footers, known); err != nil {
			return err
		}
	}
	return nil
}

// digestsOf sums up the files of a backup, several at a time.
func (v *verification) digestsOf(ctx context.Context, b *backup, footers *pack.Footers, known seen) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(v.Workers)
	err := v.walk(gctx, b, func(f catalog.File, m chunk.Map, _ map[repo.ID]pack.Info) error {
		if f.Kind != catalog.Regular || known.before(f) || !v.whole(m) {
			return nil
		}
		g.Go(func() error {
			sum, err := v.sum(gctx, f, m, footers)
			if err == nil && sum != f.Digest {
				err = repo.Damaged(catalog.FilesName(v.Place, b.id), "its blocks sum up to the digest %s, and it had %s", sum, f.Digest)
			}
			if err == nil || !unreadable(err) {
				return err
			}
			p, err := v.problem(gctx, catalog.FilesName(v.Place, b.id), err)
			if err == nil {
				p.File = f.Path
				b.add(fileStage, p)
			}
			return err
		})
		return nil
	})
	return cmp.Or(g.Wait(), err)
}

// hashesHeld is how many hashes of blocks are held while files are summed up, 8 bytes
// each.
const hashesHeld = 4 << 20

// whole says whether nothing that a map names is known to be damaged: what is, is told by
// its pack.
func (v *verification) whole(m chunk.Map) bool {
	for _, r := range m.Runs {
		if r.Zero {
			continue
		}
		p := v.packs[r.Ref.Pack]
		if p == nil || p.whole != nil {
			return false
		}
		if c := p.chunks[r.Ref.Ordinal]; c != nil && c.why != "" {
			return false
		}
	}
	return true
}

func (v *verification) sum(ctx context.Context, f catalog.File, m chunk.Map, footers *pack.Footers) (d chunk.Digest, err error) {
	zero := chunk.ZeroHash(int(f.Block))
	for _, r := range m.Runs {
		if r.Zero {
			for n := r.First; n < r.End(); n++ {
				if rest := f.Size - n*uint64(f.Block); rest < uint64(f.Block) {
					zero = chunk.ZeroHash(int(rest))
				}
				d.AddBlock(n, zero)
			}
			continue
		}
		hashes, err := footers.Hashes(ctx, r.Ref)
		if err != nil {
			return d, err
		}
		if int(r.Slot+r.Blocks) > len(hashes) {
			return d, repo.Damaged(catalog.FilesName(v.Place, ""), "its map takes block %d of a chunk of %d", r.Slot+r.Blocks-1, len(hashes))
		}
		for i := range r.Blocks {
			d.AddBlock(r.First+uint64(i), hashes[r.Slot+i])
		}
	}
	return d, nil
}

// blame finds out which backups, and which of their files, need what is damaged.
func (v *verification) blame(ctx context.Context) error {
	if len(v.damaged()) == 0 {
		return nil
	}
	// What goes with a backup is not lost.
	if err := v.forgetRemoved(ctx, true); err != nil {
		return err
	}
	hit, needed := map[repo.ID]bool{}, map[repo.ID]bool{}
	for _, b := range v.backups {
		files := map[repo.ID]int{}
		all, err := v.namedBy(ctx, b)
		if err != nil {
			return err
		}
		for _, id := range all {
			needed[id] = true
		}
		err = v.walk(ctx, b, func(f catalog.File, m chunk.Map, _ map[repo.ID]pack.Info) error {
			for _, r := range m.Runs {
				if p := v.packs[r.Ref.Pack]; !r.Zero && p != nil && !p.sound() && v.hits(b, f, r, p, files) {
					hit[p.info.ID] = true
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		// Maps of files may be all that is in a pack, and its footer all that is damaged.
		for _, id := range all {
			if p := v.packs[id]; p.whole != nil && files[id] == 0 {
				b.add(packStage, *p.whole)
				hit[id] = true
			}
		}
	}
	for _, p := range v.damaged() {
		if id := p.info.ID; needed[id] && !hit[id] {
			v.unused(p)
		}
	}
	return nil
}

// namedBy lists the damaged packs that a backup names, as far as its list can be read.
func (v *verification) namedBy(ctx context.Context, b *backup) (all []repo.ID, err error) {
	if b.head == nil {
		return nil, nil
	}
	list, err := catalog.ReadPacks(ctx, v.Objects, *b.head)
	if err != nil && !unreadable(err) {
		return nil, err
	}
	for _, n := range list {
		if p := v.packs[n.ID]; p != nil && !p.sound() {
			all = append(all, n.ID)
		}
	}
	return all, nil
}

// damaged lists the packs with anything wrong.
func (v *verification) damaged() (all []*packState) {
	for _, p := range v.packs {
		if !p.sound() {
			all = append(all, p)
		}
	}
	return all
}

// hits adds the problem that a run of a file has with its pack, and says whether it has
// one.
func (v *verification) hits(b *backup, f catalog.File, r chunk.Run, p *packState, files map[repo.ID]int) bool {
	c := p.chunks[r.Ref.Ordinal]
	if p.whole == nil && c == nil {
		return false
	}
	problem := catalog.Problem{Kind: Damaged, Object: v.Place.PackName(p.info.ID), File: f.Path}
	switch {
	case p.whole != nil:
		problem.Kind, problem.Detail = p.whole.Kind, p.whole.Detail
	case c.why != "":
		problem.Detail = fmt.Sprintf("chunk %d, with block %d of the file: %s", r.Ref.Ordinal, r.First, c.why)
	default:
		return v.badPages(b, f, r, p, c)
	}
	files[p.info.ID]++
	switch n := files[p.info.ID]; {
	case n < perFile:
		b.add(packStage, problem)
	case n == perFile:
		problem.File, problem.Detail = "", problem.Detail+", and more files are in it"
		b.add(packStage, problem)
	}
	return true
}

// badPages tells of the pages of a run that do not check.
func (v *verification) badPages(b *backup, f catalog.File, r chunk.Run, p *packState, c *badChunk) (hit bool) {
	for i := range r.Blocks {
		why, is := c.pages[r.Slot+i]
		if !is || !f.Relation {
			continue
		}
		hit = true
		at := catalog.BadPage{Path: f.Path, Block: r.First + uint64(i)}
		if b.known[at] {
			b.seen[at] = true
			continue
		}
		b.add(packStage, catalog.Problem{Kind: BadPage, Object: v.Place.PackName(p.info.ID), File: f.Path,
			Detail: fmt.Sprintf("page %d does not check: %s; it is as the backup stored it", at.Block, why)})
	}
	return hit
}

// unused tells of damage that no file of a backup is in.
func (v *verification) unused(p *packState) {
	one := catalog.Problem{Kind: Damaged, Object: v.Place.PackName(p.info.ID)}
	for n, c := range p.chunks {
		if c.why != "" {
			one.Detail = fmt.Sprintf("chunk %d, which none of these backups needs: %s", n, c.why)
		}
	}
	switch {
	case p.whole != nil:
		v.others.add(*p.whole)
	case one.Detail != "":
		v.others.add(one)
	}
}
