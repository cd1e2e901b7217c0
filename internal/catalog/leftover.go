package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// Leftovers lists packs and parts of backups that no head leads to: of backups that
// were cut off, or are under way, or are being removed. The keys are the store's.
//
// It fails with *NeedsUnknown if it is not known what a backup needs: its list of packs
// cannot be read. A head that is damaged does no harm while that can.
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
	heads, unreadable, err := ReadHeads(ctx, objects, p)
	if err != nil {
		return err
	}
	drop := func(id string, infos []NamedPack, err error) error {
		if err != nil {
			return &NeedsUnknown{id, err}
		}
		for _, part := range PartNames(p, id) {
			delete(keys, part)
		}
		for _, i := range infos {
			delete(keys, p.PackName(i.ID))
		}
		return nil
	}
	for _, h := range heads {
		infos, err := ReadPacks(ctx, objects, h)
		if err := drop(h.ID, infos, err); err != nil {
			return err
		}
	}
	for _, err := range unreadable {
		id, infos, err := neededBy(ctx, objects, err)
		if err := drop(id, infos, err); err != nil {
			return err
		}
	}
	return nil
}

// neededBy lists the packs of a backup whose head is damaged: the head may be mended, from
// another copy of the repository, so nothing that it names may go. Of a head that another
// release wrote, or that this key does not open, it is not known what it means.
func neededBy(ctx context.Context, objects *seal.Objects, why error) (id string, infos []NamedPack, err error) {
	var u *Unreadable
	if !errors.As(why, &u) || !errors.Is(why, repo.ErrDamaged) {
		if u != nil {
			id = u.ID
		}
		return id, nil, why
	}
	if infos, err = ReadPacksOf(ctx, objects, u.Place, u.ID); err != nil {
		err = fmt.Errorf("%w, and %w", u.Err, err)
	}
	return u.ID, infos, err
}

// KnowNeeds fails with *NeedsUnknown if it is not known what a backup needs that cannot
// be read; unreadable are those that ReadHeads gives.
func KnowNeeds(ctx context.Context, objects *seal.Objects, unreadable []error) error {
	for _, why := range unreadable {
		if id, _, err := neededBy(ctx, objects, why); err != nil {
			return &NeedsUnknown{id, err}
		}
	}
	return nil
}
