package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg/page"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/pack"
)

const (
	// A page that does not check is read again this often. The first time is at
	// once, then with growing pauses, together about a second: a write of the
	// server is over long before.
	rereads    = 8
	rereadWait = 5 * time.Millisecond
	// patience is for how many damaged pages of one range the pauses are made:
	// the thousandth does not deserve a second.
	patience = 16
)

// worker reads ranges of files and stores their chunks in packs of its own.
type worker struct {
	run    *run
	copied *copied
	limit  *limiter
	packs  *pack.Writer
	buf    []byte
	again  []byte // a page that is read once more

	// the chunk that is being made, of blocks of one range
	gathered []byte
	hashes   []uint64
	pending  []int // runs of the range that wait for it
}

func (w *worker) do(ctx context.Context, t task) error {
	if t.file != nil {
		return w.copy(ctx, t.file, t.part)
	}
	for i := t.from; i < t.to; i++ {
		e, err := w.copied.listed(i)
		if err != nil {
			return err
		}
		if err := w.copy(ctx, w.run.file(e), 0); err != nil {
			return err
		}
	}
	return nil
}

// copy copies one range of a file, and if it is the last, completes the file.
func (w *worker) copy(ctx context.Context, f *file, part int) error {
	err := w.run.remember(ctx, f)
	if err == nil {
		err = w.read(ctx, f, &f.parts[part])
	}
	if err == nil && w.copied.last(f) {
		_, _, err = w.finish(ctx, f)
	}
	if err != nil {
		return fmt.Errorf("copying %s: %w", f.entry.Path, err)
	}
	return nil
}

// last says that a range of a file has been read, and whether it was the last.
func (c *copied) last(f *file) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.left--
	return f.left == 0
}

// read copies one range of a file.
func (w *worker) read(ctx context.Context, f *file, p *part) error {
	if err := w.scan(ctx, f, p); err != nil {
		return err
	}
	return w.flush(ctx, f, p)
}

// scan reads what is to be read of one range of a file, and gathers what is to be
// stored. The rest is as the parent has it.
func (w *worker) scan(ctx context.Context, f *file, p *part) error {
	src := reader{path: filepath.Join(w.run.DataDir, f.entry.Path)}
	defer src.close()
	for _, e := range f.extents(p) {
		w.keep(f, p, p.start+p.got, e.start)
		err := src.open()
		if errors.Is(err, fs.ErrNotExist) {
			p.gone = true
			return nil
		}
		if err != nil {
			return err
		}
		if whole, err := w.span(ctx, f, p, &src, e); err != nil || !whole {
			return err
		}
	}
	if f.sparse {
		w.keep(f, p, p.start+p.got, p.end)
	}
	return nil
}

// keep takes over the parent's blocks between two places of a range.
func (w *worker) keep(f *file, p *part, from, to int64) {
	if from >= to {
		return
	}
	p.runs = f.before.appendTo(p.runs, uint64(from)/uint64(f.block), uint64(to)/uint64(f.block))
	p.got += to - from
	w.copied.spared.Add(uint64(to - from))
	w.progress(0)
}

// span reads an extent, and says whether it was all there: if not, the file has ended.
func (w *worker) span(ctx context.Context, f *file, p *part, src *reader, e extent) (bool, error) {
	for at := e.start; ; {
		size := w.next(f, e, at)
		if size == 0 {
			return true, nil
		}
		if err := w.limit.wait(ctx, size); err != nil {
			return false, err
		}
		n, err := src.readAt(w.buf[:size], at)
		if err != nil && err != io.EOF {
			return false, err
		}
		if n > 0 {
			if err := w.slice(ctx, f, p, at, w.buf[:n]); err != nil {
				return false, err
			}
			at += int64(n)
			p.got += int64(n)
			w.progress(n)
		}
		if n < size {
			return false, nil // its end, or what is left after a truncation
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
	}
}

// next says how much to read at a place: a relation as far as it was listed, the
// rest comes from the WAL; any other file, such as a configuration, to its end.
func (w *worker) next(f *file, e extent, at int64) int {
	if f.entry.IsRelation || e.end < f.entry.Size {
		return int(min(int64(len(w.buf)), e.end-at))
	}
	const most = 1 << 30 // of growth: a file that grows faster than it is read must end
	if at > f.entry.Size+most {
		return 0
	}
	return len(w.buf)
}

func (w *worker) progress(n int) {
	done := w.copied.read.Add(uint64(n)) + w.copied.spared.Load()
	w.run.Events.Progress(done, uint64(w.copied.total))
}

// slice takes the bytes of f at the given place, at most one chunk: it judges each
// block, and stores those that the parent does not have.
func (w *worker) slice(ctx context.Context, f *file, p *part, at int64, data []byte) error {
	n := uint64(at) / uint64(f.block)
	for i := 0; i < len(data); i += f.block {
		b := data[i:min(i+f.block, len(data))]
		j, err := w.judge(ctx, f, p, n, b)
		if err != nil {
			return err
		}
		switch {
		case j.kept:
			p.addRun(j.run)
		case j.zero:
			p.addRun(chunk.Run{First: n, Blocks: 1, Zero: true})
		default:
			if err := w.gather(ctx, f, p, n, b, j.hash); err != nil {
				return err
			}
		}
		n++
	}
	if f.entry.IsRelation {
		w.copied.pagesRead.Add(uint64((len(data) + f.block - 1) / f.block))
	}
	return nil
}

// judgement is what is to become of a block that was read.
type judgement struct {
	zero bool
	kept bool      // the parent has it
	run  chunk.Run // there, if kept
	hash uint64
}

// judge checks block n, compares it with what the parent has, and brings the file's
// digest up to date: it begins as the parent's, if there is one.
func (w *worker) judge(ctx context.Context, f *file, p *part, n uint64, b []byte) (judgement, error) {
	j := judgement{zero: page.IsZero(b)}
	good := true
	if f.entry.IsRelation && !j.zero {
		j.zero, good = w.check(ctx, f, p, n, b)
	}
	old := f.before
	if old == nil || n >= old.blocks.Blocks() {
		j.hash = chunk.BlockHash(b)
		p.digest.AddBlock(n, j.hash)
		return j, nil
	}
	j.run, _ = old.run(n)
	same := len(b) == old.length(n)
	stale := !j.run.Zero && w.run.prior.stale[j.run.Ref.Pack]
	if same && good && !j.zero && !j.run.Zero && !stale && w.run.unchanged(f, b) {
		j.kept = true
		return j, nil
	}
	j.hash = chunk.BlockHash(b)
	before, err := old.hash(ctx, j.run)
	if err != nil {
		return j, err
	}
	if same && j.hash == before {
		j.kept = !stale
		if stale {
			w.copied.forwarded.Add(uint64(len(b)))
		}
		return j, nil
	}
	p.digest.SubBlock(n, before)
	p.digest.AddBlock(n, j.hash)
	return j, nil
}

// gather adds a block to the chunk that is being made, and stores that when it is full.
func (w *worker) gather(ctx context.Context, f *file, p *part, n uint64, b []byte, hash uint64) error {
	if len(w.gathered)+len(b) > chunk.MaxPlain {
		if err := w.flush(ctx, f, p); err != nil {
			return err
		}
	}
	if w.hashes == nil {
		w.hashes = make([]uint64, 0, chunk.MaxPlain/f.block)
	}
	r := chunk.Run{First: n, Blocks: 1, Slot: uint32(len(w.hashes))}
	w.gathered, w.hashes = append(w.gathered, b...), append(w.hashes, hash)
	if k := p.addRun(r); len(w.pending) == 0 || w.pending[len(w.pending)-1] != k {
		w.pending = append(w.pending, k)
	}
	return nil
}

// flush stores the chunk that is being made, if any, and names it in the runs that
// wait for it.
func (w *worker) flush(ctx context.Context, f *file, p *part) error {
	if len(w.gathered) == 0 {
		return nil
	}
	ref, err := w.store(ctx, f, w.gathered, w.hashes)
	if err != nil {
		return err
	}
	for _, k := range w.pending {
		p.runs[k].Ref = ref
	}
	w.gathered, w.hashes, w.pending = w.gathered[:0], nil, w.pending[:0]
	return nil
}

// store stores a chunk, or finds it where a backup stored it that was cut off. Only
// pages are looked for: the rest is little.
func (w *worker) store(ctx context.Context, f *file, plain []byte, hashes []uint64) (repo.Ref, error) {
	if pool := w.run.pool; pool != nil && f.entry.IsRelation {
		if ref, ok := pool.Find(ctx, hashes, len(plain)); ok {
			w.copied.adopted.Add(uint64(ref.Stored))
			return ref, nil
		}
	}
	if f.entry.IsRelation {
		w.copied.pagesStored.Add(uint64(len(hashes)))
	}
	return w.packs.Add(ctx, plain, f.block, hashes)
}

// addRun adds blocks behind the range's last run, and gives the index of their run.
func (p *part) addRun(r chunk.Run) int {
	p.runs = appendRun(p.runs, r)
	return len(p.runs) - 1
}

// appendRun appends a run, to the last one if it goes on in the same chunk, or in zeros.
// A chunk that is not stored yet has no identity, and all runs without one are of the
// one that is being made.
func appendRun(runs []chunk.Run, r chunk.Run) []chunk.Run {
	if k := len(runs) - 1; k >= 0 {
		last := &runs[k]
		if last.End() == r.First && last.Zero == r.Zero && last.Ref == r.Ref && (r.Zero || last.Slot+last.Blocks == r.Slot) {
			last.Blocks += r.Blocks
			return runs
		}
	}
	return append(runs, r)
}

// check judges a page and reads it again if it does not check. It leaves the
// last bytes read in b, and says whether they are zero, and whether they are good.
func (w *worker) check(ctx context.Context, f *file, p *part, n uint64, b []byte) (zero, good bool) {
	block := f.base + uint32(n)
	checksums := w.run.source.control.DataChecksumVersion != 0
	verdict := page.Check(b, block, checksums)
	if verdict.Good() || len(b) < f.block {
		return false, verdict.Good() // a torn page at the end is repaired by the WAL that extends the file
	}
	verdict, changed := w.reread(ctx, f, p, n, b, verdict)
	switch {
	case verdict.Good():
	case changed:
		p.inFlight = append(p.inFlight, catalog.BadPage{Path: f.entry.Path, Block: n, Why: verdict.String()})
	default:
		p.bad = append(p.bad, catalog.BadPage{Path: f.entry.Path, Block: n, Why: verdict.String()})
		w.run.Events.Warn(fmt.Sprintf("%s: page %d is damaged: %s", f.entry.Path, n, verdict))
	}
	return verdict == page.Zero, verdict.Good()
}

// reread reads a page again until it checks, or until it has had its chances.
// Bytes that change mean that the server is writing it.
func (w *worker) reread(ctx context.Context, f *file, p *part, n uint64, b []byte, v page.Verdict) (page.Verdict, bool) {
	if cap(w.again) < len(b) {
		w.again = make([]byte, len(b))
	}
	again, changed := w.again[:len(b)], false
	for try := range rereads {
		if try > 0 && (len(p.bad) > patience || sleep(ctx, rereadWait<<try) != nil) {
			return v, changed
		}
		// A new descriptor and no buffer in between: these are the file's bytes now.
		in, err := os.Open(filepath.Join(w.run.DataDir, f.entry.Path))
		if err != nil {
			return v, true // dropped meanwhile: it was no damage
		}
		m, err := in.ReadAt(again, int64(n)*int64(f.block))
		_ = in.Close()
		if m < len(b) || err != nil && err != io.EOF {
			return v, true // truncated meanwhile
		}
		if !bytes.Equal(again, b) {
			changed = true
			copy(b, again)
		}
		if v = page.Check(b, f.base+uint32(n), w.run.source.control.DataChecksumVersion != 0); v.Good() {
			return v, changed
		}
	}
	return v, changed
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// finish makes the entry of a file whose ranges have all been read; false if the file
// was dropped while it was read: replay will drop it too.
func (w *worker) finish(ctx context.Context, f *file) (catalog.File, bool, error) {
	e := f.entry
	out := catalog.File{Kind: catalog.Regular, Path: e.Path, Mode: uint32(e.Mode.Perm()), ModTime: e.ModTime,
		Block: uint32(f.block), Relation: e.IsRelation}
	m := chunk.Map{Block: uint32(f.block)}
	var bad, inFlight []catalog.BadPage
	for _, p := range f.parts {
		if p.gone {
			return out, false, nil
		}
		if m.Runs == nil {
			m.Runs, p.runs = p.runs, nil // mostly all there is
		}
		for _, r := range p.runs {
			m.Runs = appendRun(m.Runs, r)
		}
		out.Digest.Add(p.digest)
		out.Size += uint64(p.got)
		bad, inFlight = append(bad, p.bad...), append(inFlight, p.inFlight...)
		if p.got < p.end-p.start {
			break // truncated here; what was read behind it belongs to a later file of that name
		}
	}
	f.parts = nil
	if err := w.settle(ctx, f, &out, m); err != nil {
		return out, false, err
	}
	w.copied.add(out, bad, inFlight)
	return out, true, nil
}

// settle gives the entry its map and its digest, and counts what it names.
func (w *worker) settle(ctx context.Context, f *file, out *catalog.File, m chunk.Map) error {
	blocks := (out.Size + uint64(f.block) - 1) / uint64(f.block)
	if m.Blocks() != blocks {
		return fmt.Errorf("its map has %d blocks, %d bytes were copied", m.Blocks(), out.Size)
	}
	old := f.before
	if old != nil && out.Size > 0 {
		lost, err := old.lost(ctx, blocks)
		if err != nil {
			return err
		}
		out.Digest.Add(old.Digest)
		out.Digest.Sub(lost)
		if slices.Equal(m.Runs, old.blocks.Runs) && !w.run.prior.mapDamaged(old.File) {
			out.Map, out.MapRefs = old.Map, old.MapRefs
			return nil
		}
	}
	if out.Size > 0 {
		if err := w.storeMap(ctx, out, m); err != nil {
			return err
		}
	}
	w.copied.census.count(1, m, out.MapRefs)
	if old != nil {
		w.copied.census.count(-1, old.blocks, old.MapRefs)
		return nil
	}
	if f.replaces != nil { // of another kind or size of blocks
		return w.run.prior.drop(ctx, w.copied.census, *f.replaces)
	}
	return nil
}

// storeMap puts the map into the entry, or, if it is large, into chunks.
func (w *worker) storeMap(ctx context.Context, out *catalog.File, m chunk.Map) error {
	b := m.AppendTo(nil)
	if len(b) <= catalog.MaxInlineMap {
		out.Map = b
		return nil
	}
	for len(b) > 0 {
		piece := b[:min(len(b), chunk.MaxPlain)]
		ref, err := w.packs.Add(ctx, piece, chunk.SliceSize, []uint64{chunk.BlockHash(piece)})
		if err != nil {
			return err
		}
		out.MapRefs = append(out.MapRefs, ref)
		b = b[len(piece):]
	}
	return nil
}
