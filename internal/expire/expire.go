package expire

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// Removed is what went.
type Removed struct {
	Objects int
	Bytes   uint64
}

// LastBackup says that a removal was refused because nothing would be left to
// recover from.
type LastBackup struct{ ID string }

// Error implements error.
func (e *LastBackup) Error() string {
	return fmt.Sprintf("backup %s is the only one of its cluster: without it nothing can be recovered", e.ID)
}

// Options say where to remove.
type Options struct {
	Objects *seal.Objects
	Locks   *lock.Locks
	Place   catalog.Place
	// Last allows that the last backup goes.
	Last bool
}

// Delete removes one backup. It fails with catalog.ErrNoBackup if there is none,
// with *LastBackup if it is the only one and that is not allowed, and with
// *lock.Held while a backup runs.
func Delete(ctx context.Context, o Options, id string) (Removed, error) {
	lease, ctx, err := o.Locks.Acquire(ctx, o.Place.BackupLock(), nil)
	if err != nil {
		return Removed{}, err
	}
	defer lease.Release(context.WithoutCancel(ctx))
	heads, err := catalog.Backups(ctx, o.Objects, o.Place)
	if err != nil {
		return Removed{}, err
	}
	found := false
	for _, h := range heads {
		found = found || h.ID == id
	}
	switch {
	case !found:
		return Removed{}, fmt.Errorf("%s: %w", id, catalog.ErrNoBackup)
	case len(heads) == 1 && !o.Last:
		return Removed{}, &LastBackup{id}
	}
	s := sweep{Options: o}
	if err := s.remove(ctx, catalog.HeadName(o.Place, id)); err != nil {
		return s.removed, err
	}
	err = s.rest(ctx)
	return s.removed, err
}

// Sweep removes what no backup names: the leftovers of backups and removals that
// were cut off.
func Sweep(ctx context.Context, o Options) (Removed, error) {
	lease, ctx, err := o.Locks.Acquire(ctx, o.Place.BackupLock(), nil)
	if err != nil {
		return Removed{}, err
	}
	defer lease.Release(context.WithoutCancel(ctx))
	s := sweep{Options: o}
	err = s.rest(ctx)
	return s.removed, err
}

// SweepKilled is Sweep where a backup has left its mark, that is, was killed or runs
// now, and nothing elsewhere. It fails with *lock.Held if one runs.
func SweepKilled(ctx context.Context, o Options) (Removed, error) {
	for _, err := range o.Objects.Store().List(ctx, o.Place.RunningName(""), store.ListOptions{}) {
		if err != nil {
			return Removed{}, fmt.Errorf("looking for backups under way: %w", err)
		}
		return Sweep(ctx, o)
	}
	return Removed{}, nil
}

type sweep struct {
	Options
	removed Removed
}

// rest removes, with the lock held, everything that no head names. No backup runs,
// so what is under way is dead.
func (s *sweep) rest(ctx context.Context) error {
	// Packs are listed before heads: a pack that is not in this list is not removed.
	packs, err := s.list(ctx, s.Place.PacksPrefix())
	if err != nil {
		return err
	}
	parts, err := s.list(ctx, s.Place.BackupsPrefix())
	if err != nil {
		return err
	}
	running, err := s.list(ctx, s.Place.RunningName(""))
	if err != nil {
		return err
	}
	heads, err := catalog.Backups(ctx, s.Objects, s.Place)
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, h := range heads {
		infos, err := catalog.ReadPacks(ctx, s.Objects, h)
		if err != nil {
			return fmt.Errorf("nothing more is removed, since what backup %s names is not known: %w", h.ID, err)
		}
		for _, i := range infos {
			kept[s.Place.PackName(i.ID)] = true
		}
		for _, name := range append(catalog.PartNames(s.Place, h.ID), catalog.HeadName(s.Place, h.ID)) {
			kept[name] = true
		}
	}
	for _, o := range append(append(parts, packs...), running...) {
		if kept[o.Key] || !s.known(o.Key) {
			continue
		}
		if err := s.removeObject(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// known says whether the name is one that this release gives: anything else is not
// ours to remove.
func (s *sweep) known(name string) bool {
	dir, base := path.Split(strings.TrimPrefix(name, s.Place.Prefix()))
	switch {
	case dir == "packs/":
		_, err := repo.ParseID(base)
		return err == nil
	case dir == "running/":
		return catalog.ValidBackupID(base)
	}
	id, ok := strings.CutPrefix(strings.TrimSuffix(dir, "/"), "backups/")
	return ok && catalog.ValidBackupID(id) && (base == "files" || base == "packs")
}

func (s *sweep) list(ctx context.Context, prefix string) ([]store.Object, error) {
	var all []store.Object
	for o, err := range s.Objects.Store().List(ctx, prefix, store.ListOptions{}) {
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", prefix, err)
		}
		all = append(all, o)
	}
	return all, nil
}

func (s *sweep) remove(ctx context.Context, name string) error {
	o, err := s.Objects.Store().Stat(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for %s: %w", name, err)
	}
	return s.removeObject(ctx, o)
}

func (s *sweep) removeObject(ctx context.Context, o store.Object) error {
	if err := s.Objects.Store().Delete(ctx, o.Key, ""); err != nil {
		return fmt.Errorf("removing %s: %w", o.Key, err)
	}
	s.removed.Objects++
	s.removed.Bytes += uint64(o.Size)
	return nil
}
