package expire

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/repo/lock"
)

// InUse says that a removal was refused because a backup that is being made continues
// the one to be removed.
type InUse struct{ ID, By string }

// Error implements error.
func (e *InUse) Error() string {
	return fmt.Sprintf("backup %s is the parent of backup %s, which is being made", e.ID, e.By)
}

// BeingRead says that a removal was refused because a restore reads the backup, or did
// until a moment ago: its server may need the WAL that follows.
type BeingRead struct {
	ID    string
	Until time.Time // unless who reads it says so again
}

// Error implements error.
func (e *BeingRead) Error() string {
	return fmt.Sprintf("backup %s is being restored, or was a moment ago", e.ID)
}

// Held says that a removal was refused because the backup is held.
type Held struct{ catalog.Hold }

// Error implements error.
func (e *Held) Error() string {
	return fmt.Sprintf("backup %s is held by %s since %s: %s", e.BackupID, e.Owner, e.At.UTC().Format(time.RFC3339), e.Reason)
}

// Stays is what who has announced that a backup must stay, by a hold or a reading, asks
// afterwards. It fails with catalog.ErrNoBackup if the backup is gone, and with
// *catalog.BeingRemoved while a removal runs that may not have seen the announcement. One
// that was cut off before it took the backup's head will never take it: the next one looks
// for announcements anew.
func Stays(ctx context.Context, o Options, id string) error {
	err := catalog.NotRemoved(ctx, o.Objects, o.Place, id)
	if !errors.As(err, new(*catalog.BeingRemoved)) {
		return err
	}
	lease, _, failed := o.Locks.Acquire(ctx, o.Place.RemovalLock(), nil)
	if failed != nil {
		return errors.Join(err, failed)
	}
	if err := lease.Release(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	there, failed := catalog.HeadExists(ctx, o.Objects, o.Place, id)
	if failed == nil && !there {
		failed = fmt.Errorf("%s: %w", id, catalog.ErrNoBackup)
	}
	return failed
}

// free fails with *InUse or *Held if the backup is to stay for now. Who names one to
// be deleted may do that beside a restore, which then fails: a mark that one left which
// was killed would keep the backup for a day.
func (r *removal) free(ctx context.Context, id string) error {
	why, err := uses(ctx, r.Options, false)
	if err != nil {
		return err
	}
	return why[id]
}

// uses says for each backup of a place that must stay for now why that is; with read
// also for those that a restore reads, or whose WAL its server may need.
func uses(ctx context.Context, o Options, read bool) (map[string]error, error) {
	why := map[string]error{}
	holds, err := catalog.ReadHolds(ctx, o.Objects, o.Place)
	if err != nil {
		return nil, err
	}
	for id, h := range holds {
		why[id] = &Held{h}
	}
	if read {
		readings, err := readings(ctx, o)
		if err != nil {
			return nil, err
		}
		for id, until := range readings {
			why[id] = &BeingRead{id, until}
		}
	}
	return why, parents(ctx, o, func(b catalog.Running) { why[b.Parent] = &InUse{b.Parent, b.ID} })
}

// readings says which backups of a place are read, and until when that counts; also
// those whose WAL a server may need.
func readings(ctx context.Context, o Options) (map[string]time.Time, error) {
	all, err := catalog.ReadReadings(ctx, o.Objects, o.Place)
	if err != nil {
		return nil, err
	}
	now, until := o.Clock.Now(), map[string]time.Time{}
	for _, r := range all {
		if end := r.Written.Add(catalog.ReadingLasts); end.After(now) && end.After(until[r.BackupID]) {
			until[r.BackupID] = end
		}
	}
	return until, nil
}

// parents calls use with each backup under way that continues another.
func parents(ctx context.Context, o Options, use func(catalog.Running)) error {
	running, err := catalog.ReadRunning(ctx, o.Objects, o.Place)
	if err != nil {
		return err
	}
	for _, b := range running {
		if b.Parent == "" {
			continue
		}
		state, err := o.Locks.Look(ctx, o.Place.BackupLock())
		if errors.Is(err, lock.ErrNotHeld) || err == nil && state.Life == lock.Gone {
			return nil // they were cut off
		}
		if err != nil {
			return fmt.Errorf("whether backup %s, which continues %s, is being made is not known: %w", b.ID, b.Parent, err)
		}
		use(b)
	}
	return nil
}
