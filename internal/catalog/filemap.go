package catalog

import (
	"context"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/pack"
)

// FileMap gives the map of a regular file of a backup, which it reads from the packs
// if the entry does not hold it. A map that does not fit the file is damage, of the
// file table.
func FileMap(ctx context.Context, h Head, f File, packs *pack.Reader, s *pack.Scratch) (chunk.Map, error) {
	m := chunk.Map{Block: f.Block}
	if f.Size > 0 {
		encoded := f.Map
		for _, ref := range f.MapRefs {
			err := packs.Read(ctx, []repo.Ref{ref}, s, func(_ int, plain []byte) error {
				encoded = append(encoded, plain...)
				return nil
			})
			if err != nil {
				return m, err
			}
		}
		var err error
		if m, err = chunk.ParseMap(encoded); err != nil {
			return m, repo.Damaged(FilesName(h.Place(), h.ID), "the map of %s: %v", f.Path, err)
		}
	}
	if want := (f.Size + uint64(f.Block) - 1) / uint64(f.Block); m.Block != f.Block || m.Blocks() != want {
		return m, repo.Damaged(FilesName(h.Place(), h.ID), "the map of %s has %d blocks of %d bytes, the file %d of %d", f.Path, m.Blocks(), m.Block, want, f.Block)
	}
	return m, nil
}
