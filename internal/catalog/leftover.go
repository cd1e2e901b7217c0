package catalog

import (
	"context"
	"fmt"

	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// Leftovers lists packs and parts of backups that no head leads to: of backups that
// were cut off, or are under way, or are being removed. The keys are the store's.
//
// It fails if a head or a list of packs cannot be read, since then it is not known
// what is needed.
func Leftovers(ctx context.Context, objects *seal.Objects, p Place) (map[string]store.Object, error) {
	// Listed before the heads are: what a backup that ends meanwhile has written is
	// either not in the list, or named by its head.
	all := map[string]store.Object{}
	for _, prefix := range []string{p.PacksPrefix(), p.BackupsPrefix()} {
		for o, err := range objects.Store().List(ctx, prefix, store.ListOptions{}) {
			if err != nil {
				return nil, fmt.Errorf("listing %s: %w", prefix, err)
			}
			if p.Removable(o.Key) {
				all[o.Key] = o
			}
		}
	}
	return all, DropNeeded(ctx, objects, p, all)
}

// DropNeeded deletes from keys what a backup with a head needs: its parts, and the
// packs it names. It fails as Leftovers does.
func DropNeeded[V any](ctx context.Context, objects *seal.Objects, p Place, keys map[string]V) error {
	if len(keys) == 0 {
		return nil
	}
	heads, err := Backups(ctx, objects, p)
	if err != nil {
		return err
	}
	for _, h := range heads {
		for _, part := range PartNames(p, h.ID) {
			delete(keys, part)
		}
	}
	for _, h := range heads {
		infos, err := ReadPacks(ctx, objects, h)
		if err != nil {
			return fmt.Errorf("what backup %s needs is not known: %w", h.ID, err)
		}
		for _, i := range infos {
			delete(keys, p.PackName(i.ID))
		}
	}
	return nil
}
