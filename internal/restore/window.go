package restore

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/salvor-dr/salvor/internal/repo"
)

const (
	// windowFiles and windowRuns bound what a window holds: a few MiB. A backup
	// stores small files in the order of its file table, some MiB to one pack, then to
	// another: a window is many of those.
	windowFiles = 8192
	windowRuns  = 64 << 10
	// batchFiles is how many files one worker takes at a time.
	batchFiles = 64
)

// window is small files that follow one another in the file table. They are sent in
// the order in which they lie in packs, so that one range fetches many.
type window struct {
	files []placed
	runs  int
}

// placed is a file with the place of its first chunk.
type placed struct {
	*target
	at     repo.Ref
	stored uint64 // bytes of its chunks
}

// add takes a file, and says whether the window is full.
func (w *window) add(t *target) bool {
	p := placed{target: t}
	var last repo.Ref
	for _, r := range t.blocks.Runs {
		if r.Zero || r.Ref == last {
			continue
		}
		if p.stored == 0 {
			p.at = r.Ref
		}
		p.stored, last = p.stored+uint64(r.Ref.Stored), r.Ref
	}
	w.files, w.runs = append(w.files, p), w.runs+len(t.blocks.Runs)
	return len(w.files) >= windowFiles || w.runs >= windowRuns
}

// flush sends the files in batches, each about what one range fetches.
func (w *window) flush(send func([]piece) error) error {
	slices.SortStableFunc(w.files, func(a, b placed) int {
		return cmp.Or(bytes.Compare(a.at.Pack[:], b.at.Pack[:]), cmp.Compare(a.at.Offset, b.at.Offset))
	})
	var batch []piece
	var stored uint64
	for i, f := range w.files {
		f.expect(1)
		batch, stored = append(batch, piece{f.target, f.blocks.Runs}), stored+f.stored
		if stored < fetchSize && len(batch) < batchFiles && i < len(w.files)-1 {
			continue
		}
		if err := send(batch); err != nil {
			return err
		}
		batch, stored = nil, 0
	}
	*w = window{}
	return nil
}
