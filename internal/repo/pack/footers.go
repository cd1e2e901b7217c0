package pack

import (
	"context"
	"sync/atomic"

	"github.com/salvor-dr/salvor/internal/recent"
	"github.com/salvor-dr/salvor/internal/repo"
)

// Footers looks up the hashes of blocks in packs. Its methods may be called by several
// goroutines.
type Footers struct {
	reader  *Reader
	held    *recent.Values[repo.ID, []Entry]
	fetched atomic.Uint64
}

// NewFooters looks them up in the packs of reader, and holds footers of at most so many
// hashes, of 8 bytes each: by hashes and not by packs, since the map of a file that many
// backups have changed names a hundred packs, most of them small.
func NewFooters(reader *Reader, hashes int) *Footers {
	count := func(entries []Entry) (n int) {
		for _, e := range entries {
			n += len(e.Hashes)
		}
		return n
	}
	return &Footers{reader: reader, held: recent.New[repo.ID](hashes, count)}
}

// Hashes gives the hashes of a chunk's blocks, in order. The caller must not change
// them. It fails with repo.ErrDamaged if the pack has no such chunk.
func (f *Footers) Hashes(ctx context.Context, ref repo.Ref) ([]uint64, error) {
	entries, err := f.held.Get(ref.Pack, func() ([]Entry, error) { return f.fetch(ctx, ref.Pack) })
	if err != nil {
		return nil, err
	}
	if int(ref.Ordinal) >= len(entries) || entries[ref.Ordinal].Ref != ref {
		return nil, repo.Damaged(f.reader.name(ref.Pack), "its footer does not list the chunk at %d that a file map names", ref.Offset)
	}
	return entries[ref.Ordinal].Hashes, nil
}

func (f *Footers) fetch(ctx context.Context, id repo.ID) ([]Entry, error) {
	entries, err := f.reader.Entries(ctx, id)
	if n := len(entries); err == nil && n > 0 {
		size := f.reader.known[id].Size
		f.fetched.Add(size - min(size, entries[n-1].Ref.End()))
	}
	return entries, err
}

// Fetched is how many bytes of packs were read for it.
func (f *Footers) Fetched() uint64 { return f.fetched.Load() }
