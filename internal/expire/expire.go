package expire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// Grace is how long what a backup left that was cut off is kept for the next one to
// adopt: a daily backup comes in time for it.
const Grace = 36 * time.Hour

// Removed is what went.
type Removed struct {
	Objects int
	Bytes   uint64
	Backups []string // by Run
	Kept    []error  // by Run: why backups stayed that were to go
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
	Clock   clock.Clock
	// Last allows that the last backup goes.
	Last bool
}

// Delete removes one backup; a backup may run meanwhile. Its own head may be damaged. It
// fails with catalog.ErrNoBackup if there is none, with *LastBackup if it is the only one
// and that is not allowed, with *InUse or *Held if it is to stay for now, with
// *catalog.NeedsUnknown if another cannot be read and may need anything, and with
// *lock.Held while another removal runs. A backup that is damaged itself goes before
// *catalog.NeedsUnknown is given; what else it named goes with a later removal.
func Delete(ctx context.Context, o Options, id string) (Removed, error) {
	lease, ctx, err := o.Locks.Acquire(ctx, o.Place.RemovalLock(), nil)
	if err != nil {
		return Removed{}, err
	}
	defer lease.Release(context.WithoutCancel(ctx))
	r := removal{Options: o}
	keys, err := r.choose(ctx, id)
	if err != nil {
		return Removed{}, err
	}
	if err := r.free(ctx, id); err != nil {
		return r.removed, err
	}
	stone, err := catalog.WriteTombstone(ctx, o.Objects, o.Place, keys)
	if err != nil {
		return r.removed, err
	}
	// Once more: a backup may have begun, and not have seen the tombstone.
	if err := r.free(ctx, id); err != nil {
		return r.removed, errors.Join(err, catalog.RemoveTombstone(context.WithoutCancel(ctx), o.Objects, o.Place, stone.ID))
	}
	if err := r.remove(ctx, catalog.HeadName(o.Place, id)); err != nil {
		return r.removed, err
	}
	err = r.finish(ctx)
	return r.removed, err
}

// Sweep removes what backups left that were cut off, and finishes removals that were.
// What is younger than grace stays, for the next backup to adopt. It fails with
// *lock.Held while a backup or another removal runs.
func Sweep(ctx context.Context, o Options, grace time.Duration) (Removed, error) {
	backups, ctx, err := o.Locks.Acquire(ctx, o.Place.BackupLock(), nil)
	if err != nil {
		return Removed{}, err
	}
	defer backups.Release(context.WithoutCancel(ctx))
	removals, ctx, err := o.Locks.Acquire(ctx, o.Place.RemovalLock(), nil)
	if err != nil {
		return Removed{}, err
	}
	defer removals.Release(context.WithoutCancel(ctx))
	r := removal{Options: o, alone: true}
	if err := r.finish(ctx); err != nil {
		return r.removed, err
	}
	err = r.leftovers(ctx, grace)
	return r.removed, err
}

// SweepKilled is Sweep where a backup or a removal has left its mark, and a look at
// the marks elsewhere.
func SweepKilled(ctx context.Context, o Options, grace time.Duration) (Removed, error) {
	for _, prefix := range []string{o.Place.RunningName(""), o.Place.TombstonesPrefix()} {
		for _, err := range o.Objects.Store().List(ctx, prefix, store.ListOptions{}) {
			if err != nil {
				return Removed{}, fmt.Errorf("looking for what was cut off: %w", err)
			}
			return Sweep(ctx, o, grace)
		}
	}
	return Removed{}, nil
}

// removal is one at work, with the lock of removals held.
type removal struct {
	Options
	alone   bool // no backup is under way
	removed Removed
}

// choose finds the backup to remove, refuses where that must not be, and lists what it
// consists of beside its head. If its list of packs is damaged they are left for a sweep
// to find.
func (r *removal) choose(ctx context.Context, id string) ([]string, error) {
	heads, unreadable, err := catalog.ReadHeads(ctx, r.Objects, r.Place)
	if err != nil {
		return nil, err
	}
	own := slices.IndexFunc(heads, func(h catalog.Head) bool { return h.ID == id })
	bad := slices.IndexFunc(unreadable, func(err error) bool {
		u := (*catalog.Unreadable)(nil)
		return errors.As(err, &u) && u.ID == id
	})
	var infos []catalog.NamedPack
	switch {
	case own >= 0:
		infos, err = catalog.ReadPacks(ctx, r.Objects, heads[own])
	case bad < 0:
		return nil, fmt.Errorf("%s: %w", id, catalog.ErrNoBackup)
	case !errors.Is(unreadable[bad], repo.ErrDamaged):
		return nil, unreadable[bad] // a later release, or another key, knows what it is
	default:
		infos, err = catalog.ReadPacksOf(ctx, r.Objects, r.Place, id)
	}
	switch {
	case err != nil && !errors.Is(err, repo.ErrDamaged):
		return nil, err
	case !r.Last && (len(heads) == 0 || len(heads) == 1 && own == 0):
		return nil, &LastBackup{id}
	}
	keys := catalog.PartNames(r.Place, id)
	for _, i := range infos {
		keys = append(keys, r.Place.PackName(i.ID))
	}
	if own < 0 || err != nil {
		return keys, nil // it goes in any case, or of two such backups none could; its packs wait
	}
	return keys, catalog.KnowNeeds(ctx, r.Objects, unreadable)
}

// leftovers removes what no backup needs and none is under way to need.
func (r *removal) leftovers(ctx context.Context, grace time.Duration) error {
	left, err := catalog.Leftovers(ctx, r.Objects, r.Place)
	if err != nil {
		return fmt.Errorf("nothing is removed: %w", err)
	}
	now, young := r.Clock.Now(), false
	maps.DeleteFunc(left, func(_ string, o store.Object) bool {
		keep := now.Sub(o.ModTime) < grace
		young = young || keep
		return keep
	})
	if len(left) > 0 {
		if _, err := catalog.WriteTombstone(ctx, r.Objects, r.Place, slices.Sorted(maps.Keys(left))); err != nil {
			return err
		}
		if err := r.finish(ctx); err != nil {
			return err
		}
	}
	if young {
		return nil // the marks stay, so that a sweep comes back
	}
	return r.marks(ctx)
}

// marks removes those of backups that were cut off: none is under way.
func (r *removal) marks(ctx context.Context) error {
	running, err := catalog.ReadRunning(ctx, r.Objects, r.Place)
	if err != nil {
		return err
	}
	for _, b := range running {
		if err := r.remove(ctx, r.Place.RunningName(b.ID)); err != nil {
			return err
		}
	}
	return nil
}

// finish removes what the tombstones name, but for what backups need. That is looked
// at now, after the tombstones were written: a backup that adopts announces it before
// it looks for tombstones, so that one of the two sees the other.
func (r *removal) finish(ctx context.Context) error {
	stones, err := catalog.ReadTombstones(ctx, r.Objects, r.Place)
	if err != nil || len(stones) == 0 {
		return err
	}
	keys := map[string]bool{}
	for _, t := range stones {
		for _, k := range t.Keys(r.Place) {
			keys[k] = true
		}
	}
	wanted, err := r.dropAdopted(ctx, keys)
	if err != nil {
		return err
	}
	if err := catalog.DropNeeded(ctx, r.Objects, r.Place, keys); err != nil {
		return fmt.Errorf("nothing more is removed: %w", err)
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if err := r.remove(ctx, k); err != nil {
			return err
		}
	}
	if wanted {
		return nil // the tombstones stay: the backup may leave what it wanted
	}
	for _, t := range stones {
		if err := catalog.RemoveTombstone(ctx, r.Objects, r.Place, t.ID); err != nil {
			return err
		}
	}
	return nil
}

// dropAdopted deletes from keys what a backup that may be under way adopts, and says
// whether there was any.
func (r *removal) dropAdopted(ctx context.Context, keys map[string]bool) (bool, error) {
	if r.alone {
		return false, nil
	}
	running, err := catalog.ReadRunning(ctx, r.Objects, r.Place)
	if err != nil {
		return false, err
	}
	before := len(keys)
	for _, b := range running {
		for _, id := range b.Adopts {
			delete(keys, r.Place.PackName(id))
		}
	}
	return len(keys) < before, nil
}

func (r *removal) remove(ctx context.Context, key string) error {
	o, err := r.Objects.Store().Stat(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for %s: %w", key, err)
	}
	if err := r.Objects.Store().Delete(ctx, key, ""); err != nil {
		return fmt.Errorf("removing %s: %w", key, err)
	}
	r.removed.Objects++
	r.removed.Bytes += uint64(o.Size)
	return nil
}
