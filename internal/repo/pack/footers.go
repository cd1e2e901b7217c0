package pack

import (
	"context"

	"github.com/salvor-dr/salvor/internal/recent"
	"github.com/salvor-dr/salvor/internal/repo"
)

// footersHeld is how many packs' footers a Footers holds: about 150 KiB each.
const footersHeld = 32

// Footers looks up the hashes of blocks in packs. Its methods may be called by several
// goroutines.
type Footers struct {
	reader *Reader
	held   *recent.Values[repo.ID, []Entry]
}

// NewFooters looks them up in the packs of reader.
func NewFooters(reader *Reader) *Footers {
	return &Footers{reader, recent.New[repo.ID, []Entry](footersHeld)}
}

// Hashes gives the hashes of a chunk's blocks, in order. The caller must not change
// them. It fails with repo.ErrDamaged if the pack has no such chunk.
func (f *Footers) Hashes(ctx context.Context, ref repo.Ref) ([]uint64, error) {
	entries, err := f.held.Get(ref.Pack, func() ([]Entry, error) { return f.reader.Entries(ctx, ref.Pack) })
	if err != nil {
		return nil, err
	}
	if int(ref.Ordinal) >= len(entries) || entries[ref.Ordinal].Ref != ref {
		return nil, repo.Damaged(f.reader.name(ref.Pack), "its footer does not list the chunk at %d that a file map names", ref.Offset)
	}
	return entries[ref.Ordinal].Hashes, nil
}
