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
	err := w.read(ctx, f, &f.parts[part])
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
	in, err := os.Open(filepath.Join(w.run.DataDir, f.entry.Path))
	if errors.Is(err, fs.ErrNotExist) {
		p.gone = true
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	src := reader{file: in}
	for at := p.start; ; {
		size := w.next(f, p, at)
		if size == 0 {
			return nil
		}
		if err := w.limit.wait(ctx, size); err != nil {
			return err
		}
		n, err := src.readAt(w.buf[:size], at)
		if err != nil && err != io.EOF {
			return err
		}
		if n > 0 {
			if err := w.slice(ctx, f, p, at, w.buf[:n]); err != nil {
				return err
			}
			at += int64(n)
			p.got += int64(n)
			w.progress(n)
		}
		if n < size {
			return nil // its end, or what is left after a truncation
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// next says how much to read at a place: a relation as far as it was listed, the
// rest comes from the WAL; any other file, such as a configuration, to its end.
func (w *worker) next(f *file, p *part, at int64) int {
	if f.entry.IsRelation || p.end < f.entry.Size {
		return int(min(int64(len(w.buf)), p.end-at))
	}
	const most = 1 << 30 // of growth: a file that grows faster than it is read must end
	if at > f.entry.Size+most {
		return 0
	}
	return len(w.buf)
}

func (w *worker) progress(n int) {
	done := w.copied.read.Add(uint64(n))
	w.run.Events.Progress(done, uint64(w.copied.total))
}

// slice stores the bytes of f at the given place, at most one chunk.
func (w *worker) slice(ctx context.Context, f *file, p *part, at int64, data []byte) error {
	first := uint64(at) / uint64(f.block)
	hashes := make([]uint64, 0, (len(data)+f.block-1)/f.block)
	kept := data[:0] // the blocks that are not zero, moved together
	runs := len(p.runs)
	for i := 0; i < len(data); i += f.block {
		b := data[i:min(i+f.block, len(data))]
		n := first + uint64(i/f.block)
		zero := page.IsZero(b)
		if f.entry.IsRelation && !zero {
			zero = w.check(ctx, f, p, n, b)
		}
		hash := chunk.BlockHash(b)
		p.digest.AddBlock(n, hash)
		p.addBlock(n, zero, uint32(len(hashes)), runs)
		if zero {
			continue
		}
		hashes = append(hashes, hash)
		kept = append(kept, b...)
	}
	if f.entry.IsRelation {
		w.copied.pagesRead.Add(uint64((len(data) + f.block - 1) / f.block))
	}
	if len(kept) == 0 {
		return nil
	}
	ref, err := w.store(ctx, f, kept, hashes)
	if err != nil {
		return err
	}
	for i := runs; i < len(p.runs); i++ {
		if !p.runs[i].Zero {
			p.runs[i].Ref = ref
		}
	}
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

// addBlock adds a block to the range's runs: to the last one if it goes on, which
// for stored blocks must be of this chunk, that is, from index chunkRuns on.
func (p *part) addBlock(n uint64, zero bool, slot uint32, chunkRuns int) {
	if k := len(p.runs) - 1; k >= 0 && p.runs[k].Zero == zero && (zero || k >= chunkRuns) {
		p.runs[k].Blocks++
		return
	}
	r := chunk.Run{First: n, Blocks: 1, Zero: zero}
	if !zero {
		r.Slot = slot
	}
	p.runs = append(p.runs, r)
}

// check judges a page and reads it again if it does not check. It leaves the
// last bytes read in b, and says whether they are zero.
func (w *worker) check(ctx context.Context, f *file, p *part, n uint64, b []byte) (zero bool) {
	block := f.base + uint32(n)
	checksums := w.run.source.control.DataChecksumVersion != 0
	verdict := page.Check(b, block, checksums)
	if verdict.Good() || len(b) < f.block {
		return false // a torn page at the end is repaired by the WAL that extends the file
	}
	verdict, changed := w.reread(ctx, f, p, n, b, verdict)
	if !verdict.Good() && !changed {
		p.bad = append(p.bad, catalog.BadPage{Path: f.entry.Path, Block: n, Why: verdict.String()})
		w.run.Events.Warn(fmt.Sprintf("%s: page %d is damaged: %s", f.entry.Path, n, verdict))
	}
	return verdict == page.Zero
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
	var bad []catalog.BadPage
	for _, p := range f.parts {
		if p.gone {
			return out, false, nil
		}
		m.Runs = joinRuns(m.Runs, p.runs)
		out.Digest.Add(p.digest)
		out.Size += uint64(p.got)
		bad = append(bad, p.bad...)
		if p.got < p.end-p.start {
			break // truncated here; what was read behind it belongs to a later file of that name
		}
	}
	f.parts = nil
	if out.Size > 0 {
		if err := w.storeMap(ctx, &out, m); err != nil {
			return out, false, err
		}
	}
	w.copied.add(out, bad)
	return out, true, nil
}

// joinRuns appends runs, and joins zeros that meet.
func joinRuns(a, b []chunk.Run) []chunk.Run {
	if len(a) > 0 && len(b) > 0 && a[len(a)-1].Zero && b[0].Zero {
		a[len(a)-1].Blocks += b[0].Blocks
		b = b[1:]
	}
	return append(a, b...)
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
