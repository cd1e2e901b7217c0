package catalog

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// Reading marks that somebody reads a backup, and the WAL that follows it: a restore,
// or a server that was restored and replays. It is never changed: who goes on for long
// writes another and removes the one before.
type Reading struct {
	ID       repo.ID   `json:"-"`
	BackupID string    `json:"-"`
	For      string    `json:"for"` // what is done, in a word: restore, verify
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Began    time.Time `json:"began"`
	Written  time.Time `json:"-"` // by the store's clock
	// Replaying says that the backup was read, and a server that was made of it may need
	// the WAL that follows, but not the backup.
	Replaying bool `json:"-"`
}

// ReadingLasts is how long a reading counts after it was written: longer than a network
// is away, and long enough for a server that was restored to replay what it has to. One
// that was left behind keeps a backup for no longer.
const ReadingLasts = 24 * time.Hour

func (p Place) readingName(r Reading) string {
	return p.readingsPrefix(r.Replaying) + r.BackupID + "-" + r.ID.String()
}

// WriteReading makes the mark, with a new ID.
func WriteReading(ctx context.Context, objects *seal.Objects, p Place, r Reading) (Reading, error) {
	r.ID = repo.NewID()
	return r, putDocument(ctx, objects, p.readingName(r), seal.Reading, r)
}

// RemoveReading removes the mark.
func RemoveReading(ctx context.Context, objects *seal.Objects, p Place, r Reading) error {
	return objects.Store().Delete(ctx, p.readingName(r), "")
}

// ReadReadings lists the marks of a place, also those that do not count any more. It does
// not open them: which backup is read stands in their names.
func ReadReadings(ctx context.Context, objects *seal.Objects, p Place) ([]Reading, error) {
	var all []Reading
	for _, replaying := range []bool{false, true} {
		prefix := p.readingsPrefix(replaying)
		for o, err := range objects.Store().List(ctx, prefix, store.ListOptions{}) {
			if err != nil {
				return nil, fmt.Errorf("looking for restores under way: %w", err)
			}
			name := strings.TrimPrefix(o.Key, prefix)
			cut := max(0, strings.LastIndexByte(name, '-'))
			backup, text := name[:cut], strings.TrimPrefix(name[cut:], "-")
			id, err := repo.ParseID(text)
			if err != nil || !ValidBackupID(backup) {
				continue // not ours
			}
			all = append(all, Reading{ID: id, BackupID: backup, Written: o.ModTime, Replaying: replaying})
		}
	}
	return all, nil
}
