package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// Hold says that a backup is not to be removed, whatever the policy says, until it is
// released.
type Hold struct {
	BackupID string    `json:"-"`
	Reason   string    `json:"reason"`
	Owner    string    `json:"owner"` // who made it: user@host
	At       time.Time `json:"at"`
}

// ErrHeld says that there is a hold already.
var ErrHeld = errors.New("the backup is held already")

// ErrNotHeld says that there is no hold.
var ErrNotHeld = errors.New("the backup is not held")

// WriteHold makes a hold. It fails with ErrHeld if the backup has one. The caller looks
// afterwards whether the backup is there, and not being removed: see NotRemoved.
func WriteHold(ctx context.Context, objects *seal.Objects, p Place, h Hold) error {
	err := putDocument(ctx, objects, p.HoldsPrefix()+h.BackupID, seal.Hold, h)
	if errors.Is(err, store.ErrExists) {
		return fmt.Errorf("%s: %w", h.BackupID, ErrHeld)
	}
	return err
}

// RemoveHold releases a backup. It fails with ErrNotHeld if there is no hold.
func RemoveHold(ctx context.Context, objects *seal.Objects, p Place, id string) error {
	there, err := objects.Exists(ctx, p.HoldsPrefix()+id)
	if err != nil {
		return fmt.Errorf("looking for a hold: %w", err)
	}
	if !there {
		return fmt.Errorf("%s: %w", id, ErrNotHeld)
	}
	return objects.Store().Delete(ctx, p.HoldsPrefix()+id, "")
}

// ReadHolds reads the holds of a place, by the backups' identifiers. One that is damaged
// holds all the same.
func ReadHolds(ctx context.Context, objects *seal.Objects, p Place) (map[string]Hold, error) {
	all, err := marks(ctx, objects, p.HoldsPrefix(), seal.Hold, func(h *Hold, name string) bool {
		h.BackupID = name
		return ValidBackupID(name)
	})
	if err != nil {
		return nil, fmt.Errorf("looking for holds: %w", err)
	}
	holds := make(map[string]Hold, len(all))
	for _, h := range all {
		holds[h.BackupID] = h
	}
	return holds, nil
}

// BeingRemoved says that a removal of the backup has begun.
type BeingRemoved struct{ ID string }

// Error implements error.
func (b *BeingRemoved) Error() string {
	return fmt.Sprintf("backup %s is being removed, or its removal was cut off", b.ID)
}

// NotRemoved fails with ErrNoBackup if the backup is not there any more, and with
// *BeingRemoved if its removal has begun. Who has announced that the backup must stay, by
// a hold or a reading, asks afterwards: a removal writes its tombstone before it looks for
// those, so that one of the two sees the other.
func NotRemoved(ctx context.Context, objects *seal.Objects, p Place, id string) error {
	stones, err := ReadTombstones(ctx, objects, p)
	if err != nil {
		return err
	}
	parts := map[string]bool{}
	for _, part := range PartNames(p, id) {
		parts[part] = true
	}
	for _, t := range stones {
		for _, key := range t.Keys(p) {
			if parts[key] {
				return &BeingRemoved{id}
			}
		}
	}
	there, err := HeadExists(ctx, objects, p, id)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("%s: %w", id, ErrNoBackup)
	}
	return nil
}
