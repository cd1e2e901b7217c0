package pack

import (
	"context"
	"slices"
	"sync"

	"github.com/salvor-dr/salvor/internal/repo"
)

// footersHeld is how many packs' footers a Footers holds: about 150 KiB each.
const footersHeld = 32

// Footers looks up the hashes of blocks in packs. Its methods may be called by several
// goroutines.
type Footers struct {
	reader *Reader

	mu   sync.Mutex
	held []heldFooter // last used first
}

type heldFooter struct {
	pack    repo.ID
	entries []Entry
}

// NewFooters looks them up in the packs of reader.
func NewFooters(reader *Reader) *Footers { return &Footers{reader: reader} }

// Hashes gives the hashes of a chunk's blocks, in order. The caller must not change
// them. It fails with repo.ErrDamaged if the pack has no such chunk.
func (f *Footers) Hashes(ctx context.Context, ref repo.Ref) ([]uint64, error) {
	entries, err := f.entries(ctx, ref.Pack)
	if err != nil {
		return nil, err
	}
	if int(ref.Ordinal) >= len(entries) || entries[ref.Ordinal].Ref != ref {
		return nil, repo.Damaged(f.reader.name(ref.Pack), "its footer does not list the chunk at %d that a file map names", ref.Offset)
	}
	return entries[ref.Ordinal].Hashes, nil
}

func (f *Footers) entries(ctx context.Context, id repo.ID) ([]Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.IndexFunc(f.held, func(h heldFooter) bool { return h.pack == id }); i >= 0 {
		h := f.held[i]
		copy(f.held[1:i+1], f.held[:i])
		f.held[0] = h
		return h.entries, nil
	}
	entries, err := f.reader.Entries(ctx, id)
	if err != nil {
		return nil, err
	}
	f.held = slices.Insert(f.held, 0, heldFooter{id, entries})
	f.held = f.held[:min(len(f.held), footersHeld)]
	return entries, nil
}
