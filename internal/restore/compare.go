package restore

import (
	"context"
	"slices"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
)

const (
	// compareSize is how much of a file is read at a time to be compared, bytes.
	compareSize = 1 << 20
	// hashesHeld is how many hashes of blocks footers hold, 8 bytes each.
	hashesHeld = 2 << 20
)

// compare adds to a digest the blocks of a piece that are in the file already, and puts
// the others among the runs that are to be fetched. Blocks that should be zero, and are
// not, it writes at once.
func (w *worker) compare(ctx context.Context, number int, p piece, sum *chunk.Digest) error {
	have, err := w.hash(ctx, p)
	if err != nil {
		return err
	}
	first := p.runs[0].First
	// In the order of chunks, so that each pack's footer is looked up once.
	runs := slices.Clone(p.runs)
	slices.SortStableFunc(runs, byChunk)
	for _, r := range runs {
		var want []uint64
		if !r.Zero {
			if want, err = w.wanted(ctx, p.target, r); err != nil {
				return err
			}
		}
		if err := w.differing(number, p.target, r, have[min(r.First-first, uint64(len(have))):], want, sum); err != nil {
			return err
		}
	}
	return nil
}

// hash gives the hashes of a piece's blocks, as far as the file reached before.
func (w *worker) hash(ctx context.Context, p piece) ([]uint64, error) {
	t, block := p.target, uint64(p.target.Block)
	first := p.runs[0].First
	end := min(p.runs[len(p.runs)-1].End(), t.had())
	if w.buf == nil {
		w.buf = make([]byte, compareSize)
	}
	hashes := make([]uint64, 0, end-first)
	for n := first; n < end; {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		size := min(uint64(len(w.buf))/block*block, min(end*block, t.Size)-n*block)
		data := w.buf[:size]
		if _, err := t.out.ReadAt(data, int64(n*block)); err != nil {
			return nil, err
		}
		w.compared.Add(size)
		for len(data) > 0 {
			b := data[:min(block, uint64(len(data)))]
			hashes = append(hashes, chunk.BlockHash(b))
			data = data[len(b):]
			n++
		}
	}
	return hashes, nil
}

// wanted gives the hashes that the blocks of a run have in the backup.
func (w *worker) wanted(ctx context.Context, t *target, r chunk.Run) ([]uint64, error) {
	hashes, err := w.run.footers.Hashes(ctx, r.Ref)
	if err != nil {
		return nil, err
	}
	if uint64(r.Slot)+uint64(r.Blocks) > uint64(len(hashes)) {
		return nil, repo.Damaged(w.run.table(), "the map of %s takes blocks %d to %d of a chunk of %d", t.Path, r.Slot, uint64(r.Slot)+uint64(r.Blocks), len(hashes))
	}
	return hashes[r.Slot:], nil
}

// differing divides a run into blocks that are right and stretches of such as are not.
// have are the hashes of the blocks as they are, and fewer than the run has where the
// file ended; want those that they should have, nil for zeros.
func (w *worker) differing(number int, t *target, r chunk.Run, have, want []uint64, sum *chunk.Digest) error {
	wrong := uint32(0) // blocks before i that are not right
	for i := uint32(0); i <= r.Blocks; i++ {
		n := r.First + uint64(i)
		if i < r.Blocks {
			right := want == nil // past the end of what was there is a hole
			hash := t.zeroHash(n)
			if want != nil {
				hash = want[i]
			}
			if int(i) < len(have) {
				right = have[i] == hash
			}
			if !right {
				wrong++
				continue
			}
			sum.AddBlock(n, hash)
			size := t.length(chunk.Run{First: n, Blocks: 1})
			if int(i) < len(have) {
				w.kept.Add(size)
			}
			w.progress(size)
		}
		if wrong == 0 {
			continue
		}
		part := r.Part(n-uint64(wrong), n)
		wrong = 0
		if !part.Zero {
			w.uses = append(w.uses, use{number, part})
			continue
		}
		if err := w.blank(t, part); err != nil {
			return err
		}
		w.zeros(t, part, sum)
	}
	return nil
}

// blank writes zeros.
func (w *worker) blank(t *target, r chunk.Run) error {
	at, left := r.First*uint64(t.Block), t.length(r)
	zeros := make([]byte, min(left, compareSize))
	for left > 0 {
		n, err := t.out.WriteAt(zeros[:min(left, compareSize)], int64(at))
		if err != nil {
			return err
		}
		w.written.Add(uint64(n))
		at, left = at+uint64(n), left-uint64(n)
	}
	return nil
}
