package restore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/pack"
)

// worker restores pieces, one batch after the other.
type worker struct {
	*counters
	run     *run
	scratch pack.Scratch
	uses    []use // of the batch, runs that are to be fetched
	refs    []repo.Ref
	buf     []byte // of a comparison
}

// use is a run of a piece that takes blocks of a chunk.
type use struct {
	piece int
	run   chunk.Run
}

// restore writes a batch. Chunks are fetched in the order in which they lie in packs,
// neighbours in one range, whichever file they are for and however often one is used:
// the map of a file that has changed in many backups goes to and fro between chunks.
func (w *worker) restore(ctx context.Context, batch []piece) error {
	sums := make([]chunk.Digest, len(batch))
	w.uses = w.uses[:0]
	for i, p := range batch {
		if p.target.out == nil { // a whole file, ours alone
			if err := p.target.open(w.run.over()); err != nil {
				return err
			}
		}
		if len(p.runs) > 0 && p.runs[0].First < p.target.had() {
			if err := w.compare(ctx, i, p, &sums[i]); err != nil {
				return fmt.Errorf("comparing %s: %w", p.target.Path, err)
			}
			continue
		}
		for _, r := range p.runs {
			if r.Zero {
				w.zeros(p.target, r, &sums[i])
				continue
			}
			w.uses = append(w.uses, use{i, r})
		}
	}
	if err := w.fetch(ctx, batch, sums); err != nil {
		return err
	}
	for i, p := range batch {
		p.target.digest <- sums[i]
		if p.target.left.Add(-1) > 0 {
			continue
		}
		if err := w.run.finish(ctx, p.target); err != nil {
			return fmt.Errorf("restoring %s: %w", p.target.Path, err)
		}
	}
	return nil
}

// fetch fetches the chunks that are used, and writes their blocks.
func (w *worker) fetch(ctx context.Context, batch []piece, sums []chunk.Digest) error {
	slices.SortStableFunc(w.uses, func(a, b use) int { return byChunk(a.run, b.run) })
	for uses := w.uses; len(uses) > 0; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := w.gather(uses)
		if err := w.read(ctx, batch, uses[:n], sums); err != nil {
			return err
		}
		uses = uses[n:]
	}
	return nil
}

// byChunk compares runs by where their chunks lie.
func byChunk(a, b chunk.Run) int {
	return cmp.Or(bytes.Compare(a.Ref.Pack[:], b.Ref.Pack[:]), cmp.Compare(a.Ref.Offset, b.Ref.Offset))
}

// gather makes refs the chunks that can be fetched in one range, and gives how many of
// the runs use them.
func (w *worker) gather(uses []use) int {
	w.refs = append(w.refs[:0], uses[0].run.Ref)
	for n, u := range uses {
		ref, last := u.run.Ref, w.refs[len(w.refs)-1]
		switch {
		case ref == last:
		case pack.Join(last, ref) && ref.End()-w.refs[0].Offset <= fetchSize:
			w.refs = append(w.refs, ref)
		default:
			return n
		}
	}
	return len(uses)
}

// read fetches refs in one range, and writes the runs that use them.
func (w *worker) read(ctx context.Context, batch []piece, uses []use, sums []chunk.Digest) error {
	return w.run.packs.Read(ctx, w.refs, &w.scratch, func(i int, plain []byte) error {
		w.fetched.Add(uint64(w.refs[i].Stored))
		for len(uses) > 0 && uses[0].run.Ref == w.refs[i] {
			u := uses[0]
			if err := w.write(batch[u.piece].target, u.run, plain, &sums[u.piece]); err != nil {
				return err
			}
			uses = uses[1:]
		}
		return nil
	})
}

func (w *worker) write(t *target, r chunk.Run, plain []byte, sum *chunk.Digest) error {
	from := uint64(r.Slot) * uint64(t.Block)
	start := r.First * uint64(t.Block)
	n := t.length(r)
	if from+n > uint64(len(plain)) {
		return repo.Damaged(w.run.table(), "the map of %s takes bytes %d to %d of a chunk of %d", t.Path, from, from+n, len(plain))
	}
	data := plain[from : from+n]
	sum.AddData(r.First, data, int(t.Block))
	if _, err := t.out.WriteAt(data, int64(start)); err != nil {
		return err
	}
	w.written.Add(n)
	w.progress(n)
	return nil
}

// zeros adds blocks that are all zero to a digest: in the file they are a hole.
func (w *worker) zeros(t *target, r chunk.Run, sum *chunk.Digest) {
	for n := r.First; n < r.End(); n++ {
		sum.AddBlock(n, t.zeroHash(n))
	}
	w.progress(t.length(r))
}

func (w *worker) progress(n uint64) {
	w.run.Events.Progress(w.done.Add(n), w.run.res.Restored)
}
