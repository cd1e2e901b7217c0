package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/pack"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

const packEntry = 16 + 8 + 32 + 4 + 8 + 8

// NamedPack is a pack that a backup names.
type NamedPack struct {
	pack.Info
	// Live is how many bytes of the pack's chunks, before compression, the backup's
	// files and maps consist of; what several files share counts for each.
	Live uint64
}

// WritePacks writes the list of packs that a backup names: for each its identity,
// size (8 bytes, little-endian), header digest, number of chunks (4 bytes), bytes of
// its chunks, and how many of them are live (8 bytes each).
func WritePacks(ctx context.Context, objects *seal.Objects, p Place, id string, packs []NamedPack) (Hash, uint64, error) {
	b := make([]byte, 0, len(packs)*packEntry)
	for _, i := range packs {
		b = append(b, i.ID[:]...)
		b = binary.LittleEndian.AppendUint64(b, i.Size)
		b = append(b, i.Header[:]...)
		b = binary.LittleEndian.AppendUint32(b, i.Chunks)
		b = binary.LittleEndian.AppendUint64(b, i.Plain)
		b = binary.LittleEndian.AppendUint64(b, i.Live)
	}
	w, err := objects.Create(ctx, repo.NewID(), p.backupName(id, "packs"), seal.Packs)
	if err != nil {
		return Hash{}, 0, err
	}
	if err := w.Commit(chunk.None, b, len(b)); err != nil {
		return Hash{}, 0, err
	}
	return w.HeaderDigest(), w.Size(), nil
}

// ReadPacks reads the list of packs that the backup names.
func ReadPacks(ctx context.Context, objects *seal.Objects, h Head) ([]NamedPack, error) {
	return readPacks(ctx, objects, h.Place().backupName(h.ID, "packs"), &h.PacksHeader)
}

// ReadPacksOf reads the list of packs of a backup whose head is damaged. Without the
// head's word that it is the one the backup wrote, that is what the seal says: names of
// backups are not used twice, so no other list was ever sealed under this name. It is
// good for knowing what to keep, and not for restoring.
func ReadPacksOf(ctx context.Context, objects *seal.Objects, p Place, id string) ([]NamedPack, error) {
	return readPacks(ctx, objects, p.backupName(id, "packs"), nil)
}

// readPacks reads a list, and checks that it is the one with the given header, unless nil.
func readPacks(ctx context.Context, objects *seal.Objects, name string, header *Hash) ([]NamedPack, error) {
	s, err := objects.Stream(ctx, name, seal.Packs)
	if err != nil {
		return nil, missingPart(name, err)
	}
	defer s.Close()
	if header != nil && s.HeaderDigest() != *header {
		return nil, repo.Damaged(name, "it is another list of packs than the one the backup wrote")
	}
	f, err := s.Next()
	if err != nil {
		return nil, err
	}
	if !f.Last || f.Codec != chunk.None {
		return nil, repo.Damaged(name, "it is not one plain frame")
	}
	return parsePacks(name, f.Payload)
}

func parsePacks(name string, b []byte) ([]NamedPack, error) {
	if len(b)%packEntry != 0 {
		return nil, repo.Damaged(name, "its length makes no sense")
	}
	packs := make([]NamedPack, 0, len(b)/packEntry)
	for ; len(b) > 0; b = b[packEntry:] {
		packs = append(packs, NamedPack{pack.Info{
			ID: repo.ID(b[:16]), Size: binary.LittleEndian.Uint64(b[16:]),
			Header: [32]byte(b[24:56]), Chunks: binary.LittleEndian.Uint32(b[56:]),
			Plain: binary.LittleEndian.Uint64(b[60:]),
		}, binary.LittleEndian.Uint64(b[68:])})
	}
	return packs, nil
}

// PackInfos gives what a reader needs to know of packs.
func PackInfos(packs []NamedPack) []pack.Info {
	infos := make([]pack.Info, len(packs))
	for i, p := range packs {
		infos[i] = p.Info
	}
	return infos
}

// missingPart turns the absence of a part that a head promises into damage.
func missingPart(name string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return repo.Damaged(name, "it is missing")
	}
	return fmt.Errorf("reading %s: %w", name, err)
}
