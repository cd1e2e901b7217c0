package cli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/expire"
	"github.com/salvor-dr/salvor/internal/store"
)

// readingPatience is how long a restore that has ended waits for its mark to go.
const readingPatience = 10 * time.Second

// reading announces that a backup and the WAL after it are read, so that no removal takes
// them, and checks that none has begun to. done ends that; where a server is yet to replay,
// another mark keeps the WAL for a day. A repository that cannot be
// written is read without.
func (s *session) reading(ctx context.Context, c *config.Config, r *repository, choice catalog.Choice, t catalog.Target) (done func(ctx context.Context, replays bool), err error) {
	p, id := choice.Backup.Place(), choice.Backup.ID
	host, _ := os.Hostname()
	mark := catalog.Reading{BackupID: id, For: "restore", Host: host, PID: os.Getpid(), Began: s.clock.Now().UTC()}
	mark, err = catalog.WriteReading(ctx, r.objects, p, mark)
	if err != nil {
		s.unannounced(ctx, r, err)
		return func(context.Context, bool) {}, nil
	}
	stop, stopped := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		mark = s.keepReading(stop, r, p, mark)
	}()
	done = func(ctx context.Context, replays bool) {
		stopped()
		<-ended
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readingPatience)
		defer cancel()
		if replays {
			after := mark
			after.Replaying = true
			if _, err := catalog.WriteReading(ctx, r.objects, p, after); err != nil {
				return // the mark that is there does it, too
			}
		}
		if err := catalog.RemoveReading(ctx, r.objects, p, mark); err != nil {
			s.log.Debug("that the backup is read stays announced for a day", "repository", r.name, "error", err)
		}
	}
	if err := s.stillThere(ctx, c, r, choice, t); err != nil {
		done(ctx, false)
		return nil, err
	}
	return done, nil
}

// keepReading writes the mark anew, well before it stops to count, until ctx ends, and
// gives the last.
func (s *session) keepReading(ctx context.Context, r *repository, p catalog.Place, mark catalog.Reading) catalog.Reading {
	for {
		select {
		case <-ctx.Done():
			return mark
		case <-s.clock.After(catalog.ReadingLasts / 4):
		}
		next, err := catalog.WriteReading(ctx, r.objects, p, mark)
		if err != nil {
			s.unannounced(ctx, r, err)
			continue
		}
		if err := catalog.RemoveReading(ctx, r.objects, p, mark); err != nil {
			s.log.Debug("an announcement that the backup is read stays for a day", "repository", r.name, "error", err)
		}
		mark = next
	}
}

// stays looks whether a backup stays that was announced to be needed.
func (s *session) stays(ctx context.Context, r *repository, p catalog.Place, id string) error {
	locks, err := s.locks(r)
	if err != nil {
		return err
	}
	return expire.Stays(ctx, expire.Options{Objects: r.objects, Locks: locks, Place: p, Clock: s.clock}, id)
}

// unannounced tells that a removal may take what is read. Who may only read the repository
// cannot do anything about that.
func (s *session) unannounced(ctx context.Context, r *repository, err error) {
	level := slog.LevelWarn
	switch {
	case ctx.Err() != nil:
		level = slog.LevelDebug // it ends
	case errors.Is(err, store.ErrPermission):
		level = slog.LevelInfo
	}
	s.log.Log(ctx, level, "the backup is read without protection: that it is cannot be written to the repository, so do not run salvor expire until the restore has ended and its server is up", "repository", r.name, "error", err)
}

// stillThere looks, after the announcement, whether a removal has begun before it.
func (s *session) stillThere(ctx context.Context, c *config.Config, r *repository, choice catalog.Choice, t catalog.Target) error {
	if err := s.stays(ctx, r, choice.Backup.Place(), choice.Backup.ID); err != nil {
		return err
	}
	purged, err := catalog.ReadPurged(ctx, r.objects, choice.Backup.Place())
	if err != nil || purged[choice.Backup.Timeline] <= choice.Backup.StartLSN || choice.StopLSN <= choice.Backup.StopLSN {
		return err
	}
	// Of the WAL after the backup some was removed, now or long ago.
	t.BackupID = choice.Backup.ID
	_, err = s.chooseIn(ctx, c, r, t)
	return err
}
