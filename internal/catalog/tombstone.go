package catalog

import (
	"context"
	"fmt"
	"strings"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// Tombstone says that objects are about to be removed. It is written before the
// first of them goes, and removed after the last, so that a removal that was cut off
// is finished by the next, and so that no backup begins to use what goes.
//
// A tombstone does not say that its objects are garbage: a backup may name them by
// the time it is read.
type Tombstone struct {
	ID repo.ID `json:"-"`
	// Objects are packs and parts of backups, by their names in the place.
	Objects []string `json:"objects"`
}

// WriteTombstone makes it. The objects' names are whole keys of the place's store.
func WriteTombstone(ctx context.Context, objects *seal.Objects, p Place, keys []string) (Tombstone, error) {
	t := Tombstone{ID: repo.NewID()}
	for _, k := range keys {
		t.Objects = append(t.Objects, strings.TrimPrefix(k, p.Prefix()))
	}
	return t, putDocument(ctx, objects, p.tombstoneName(t.ID), seal.Tombstone, t)
}

// RemoveTombstone removes it, when its objects are gone, or are needed.
func RemoveTombstone(ctx context.Context, objects *seal.Objects, p Place, id repo.ID) error {
	return objects.Store().Delete(ctx, p.tombstoneName(id), "")
}

// ReadTombstones reads those of a place. One that is damaged is given without
// objects: who removes it leaves what it named to the next sweep.
func ReadTombstones(ctx context.Context, objects *seal.Objects, p Place) ([]Tombstone, error) {
	all, err := marks(ctx, objects, p.TombstonesPrefix(), seal.Tombstone, func(t *Tombstone, name string) bool {
		id, err := repo.ParseID(name)
		t.ID = id
		return err == nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for removals: %w", err)
	}
	return all, nil
}

// Removable says whether the key is of an object that a tombstone of the place may
// name: a pack, or a part of a backup beside its head.
func (p Place) Removable(key string) bool {
	if _, ok := p.PackOf(key); ok {
		return true
	}
	name, ok := strings.CutPrefix(key, p.BackupsPrefix())
	id, part, _ := strings.Cut(name, "/")
	return ok && ValidBackupID(id) && (part == "files" || part == "packs")
}

// Keys are the keys of the tombstone's objects, without any that no tombstone may
// name.
func (t Tombstone) Keys(p Place) []string {
	var keys []string
	for _, name := range t.Objects {
		if key := p.Prefix() + name; p.Removable(key) {
			keys = append(keys, key)
		}
	}
	return keys
}
