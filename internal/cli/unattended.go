package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/repo/lock"
)

// What a command needs that a timer starts: to wait for another, and to know that there
// is nothing to do.

// lockPause is how long a lock that is held is left alone.
const lockPause = 2 * time.Second

func retryLockFlag(cmd *cobra.Command, d *config.Duration) {
	cmd.Flags().TextVar(d, "retry-lock", config.Duration(0), "how long to wait, as a `duration`, while another command holds the lock")
}

// retryLocked does work again as long as another command holds the lock it needs, for so
// long.
func (s *session) retryLocked(ctx context.Context, wait time.Duration, work func() error) error {
	end := s.clock.Now().Add(wait)
	for said := false; ; said = true {
		err := work()
		held := (*lock.Held)(nil)
		if !errors.As(err, &held) || !s.clock.Now().Add(lockPause).Before(end) {
			return err
		}
		if !said {
			s.log.Info("waiting for the lock", "what", held.What, "process", held.Holder.PID, "host", held.Holder.Host, "for", wait)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lockPause):
		}
	}
}

// youngBackup finds a backup that makes another one needless, by --if-older-than; nil if
// there is none.
func (s *session) youngBackup(ctx context.Context, c *config.Config, r *repository, f backupFlags) (*catalog.Head, error) {
	if f.ifOlder == 0 {
		return nil, nil
	}
	origins, err := s.places(ctx, c, r, true)
	if errors.Is(err, catalog.ErrNoPlace) {
		return nil, nil // the backup itself says what is to be done
	}
	if err != nil {
		return nil, err
	}
	heads, _, err := catalog.ListHeads(ctx, r.objects, origins[0].Place())
	if err != nil {
		return nil, err
	}
	var young *catalog.Head
	for _, h := range heads {
		if (f.kind != string(catalog.Full) || h.Kind == catalog.Full) && (young == nil || h.StoppedAt.After(young.StoppedAt)) {
			young = h
		}
	}
	if young == nil || s.clock.Now().Sub(young.StoppedAt) >= time.Duration(f.ifOlder) {
		return nil, nil
	}
	return young, nil
}

// skipBackup tells that none was made.
func (s *session) skipBackup(young catalog.Head, repository string) error {
	age := s.clock.Now().Sub(young.StoppedAt)
	view := struct {
		Skipped    bool    `json:"skipped"`
		NewestID   string  `json:"newest_id"`
		Age        float64 `json:"age_seconds"`
		Repository string  `json:"repository"`
	}{true, young.ID, seconds(age), repository}
	return s.out.document(view, details{{"no backup made", fmt.Sprintf("%s in %s is only %s old", young.ID, repository, formatDuration(age))}})
}
