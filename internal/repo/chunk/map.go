package chunk

import (
	"sort"

	"github.com/salvor-dr/salvor/internal/repo"
)

// Run is neighbouring blocks of a file that lie side by side in one chunk, or
// that are all zero and stored nowhere.
type Run struct {
	First  uint64   // number of the first block
	Blocks uint32   // how many, at least 1
	Zero   bool     // no chunk: Ref and Slot are zero
	Ref    repo.Ref // the chunk
	Slot   uint32   // place of the first block in the chunk, in blocks
}

// End is the number of the block after the run.
func (r Run) End() uint64 { return r.First + uint64(r.Blocks) }

// Part gives what the run has of the blocks from first to before end, at least one of
// which must be in it.
func (r Run) Part(first, end uint64) Run {
	first, end = max(first, r.First), min(end, r.End())
	if !r.Zero {
		r.Slot += uint32(first - r.First)
	}
	r.First, r.Blocks = first, uint32(end-first)
	return r
}

// Map says where every block of a file is. Runs are in block order and leave
// nothing out.
type Map struct {
	Block uint32 // bytes
	Runs  []Run
}

// Blocks is the number of blocks of the file.
func (m Map) Blocks() uint64 {
	if len(m.Runs) == 0 {
		return 0
	}
	return m.Runs[len(m.Runs)-1].End()
}

// Find gives the run that holds the block, and false past the end.
func (m Map) Find(block uint64) (Run, bool) {
	if runs := m.From(block); len(runs) > 0 {
		return runs[0], true
	}
	return Run{}, false
}

// From gives the runs from the one on that holds the block; none past the end.
func (m Map) From(block uint64) []Run {
	return m.Runs[sort.Search(len(m.Runs), func(i int) bool { return m.Runs[i].End() > block }):]
}
