package restore

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/pack"
)

// worker restores pieces, one batch after the other.
type worker struct {
	run                    *run
	written, fetched, done *atomic.Uint64
	scratch                pack.Scratch
	refs                   []repo.Ref
	uses                   []use
}

// use is a run that takes blocks of a chunk: of the ref with that index.
type use struct {
	ref   int
	piece int
	run   chunk.Run
}

// restore writes a batch: it fetches neighbouring chunks in one range, whichever
// file they are for.
func (w *worker) restore(ctx context.Context, batch []piece) error {
	sums := make([]chunk.Digest, len(batch))
	for i, p := range batch {
		if p.target.out == nil { // a whole file, ours alone
			if err := p.target.create(); err != nil {
				return err
			}
		}
		for _, r := range p.runs {
			if r.Zero {
				w.zeros(p.target, r, &sums[i])
				continue
			}
			if !w.fits(r.Ref) {
				if err := w.flush(ctx, batch, sums); err != nil {
					return err
				}
			}
			w.add(i, r)
		}
	}
	if err := w.flush(ctx, batch, sums); err != nil {
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

// fits says whether the chunk can be fetched with those that are waiting.
func (w *worker) fits(ref repo.Ref) bool {
	if len(w.refs) == 0 {
		return true
	}
	last := w.refs[len(w.refs)-1]
	return last == ref || pack.Join(last, ref) && ref.End()-w.refs[0].Offset <= fetchSize
}

func (w *worker) add(piece int, r chunk.Run) {
	if n := len(w.refs); n == 0 || w.refs[n-1] != r.Ref {
		w.refs = append(w.refs, r.Ref)
	}
	w.uses = append(w.uses, use{len(w.refs) - 1, piece, r})
}

// flush fetches the chunks that are waiting and writes their blocks.
func (w *worker) flush(ctx context.Context, batch []piece, sums []chunk.Digest) error {
	if len(w.refs) == 0 {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	uses := w.uses
	err := w.run.packs.Read(ctx, w.refs, &w.scratch, func(i int, plain []byte) error {
		w.fetched.Add(uint64(w.refs[i].Stored))
		for len(uses) > 0 && uses[0].ref == i {
			u := uses[0]
			if err := w.write(batch[u.piece].target, u.run, plain, &sums[u.piece]); err != nil {
				return err
			}
			uses = uses[1:]
		}
		return nil
	})
	w.refs, w.uses = w.refs[:0], w.uses[:0]
	return err
}

func (w *worker) write(t *target, r chunk.Run, plain []byte, sum *chunk.Digest) error {
	from := uint64(r.Slot) * uint64(t.Block)
	start := r.First * uint64(t.Block)
	n := min(uint64(r.Blocks)*uint64(t.Block), t.Size-start)
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
	block := uint64(t.Block)
	hash := chunk.ZeroHash(int(block))
	for n := r.First; n < r.End(); n++ {
		if rest := t.Size - n*block; rest < block {
			sum.AddBlock(n, chunk.ZeroHash(int(rest)))
			continue
		}
		sum.AddBlock(n, hash)
	}
	w.progress(min(uint64(r.Blocks)*block, t.Size-r.First*block))
}

func (w *worker) progress(n uint64) {
	w.run.Events.Progress(w.done.Add(n), w.run.res.Restored)
}
