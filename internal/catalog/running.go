package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// Running marks a backup that is under way, or that was cut off. It is written
// before the backup stores anything, and removed when the backup is complete. The
// mark of one that was cut off stays until what it left is gone.
type Running struct {
	ID        string    `json:"id"`
	StartedAt time.Time `json:"started_at"`
	Host      string    `json:"host"`
	PID       int       `json:"pid"`
	// Parent is the backup that this one continues, "" if it is full: it is not deleted
	// meanwhile.
	Parent string `json:"parent_id,omitempty"`
	// Adopts are packs of backups that were cut off, which this one may name.
	Adopts []repo.ID `json:"adopts,omitempty"`
}

// WriteRunning makes the mark.
func WriteRunning(ctx context.Context, objects *seal.Objects, p Place, r Running) error {
	return putDocument(ctx, objects, p.RunningName(r.ID), seal.Running, r)
}

// RemoveRunning removes the mark.
func RemoveRunning(ctx context.Context, objects *seal.Objects, p Place, id string) error {
	return objects.Store().Delete(ctx, p.RunningName(id), "")
}

// ReadRunning reads the marks of a place, oldest first. A mark that is damaged is
// given with its identifier only: the backup may be under way all the same.
func ReadRunning(ctx context.Context, objects *seal.Objects, p Place) ([]Running, error) {
	all, err := marks(ctx, objects, p.RunningName(""), seal.Running, func(r *Running, name string) bool {
		r.ID = name
		return ValidBackupID(name)
	})
	if err != nil {
		return nil, fmt.Errorf("looking for backups under way: %w", err)
	}
	return all, nil
}
