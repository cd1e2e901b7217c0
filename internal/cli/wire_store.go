package cli

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/limit"
	"github.com/salvor-dr/salvor/internal/store/meter"
	storeopen "github.com/salvor-dr/salvor/internal/store/open"
	"github.com/salvor-dr/salvor/internal/store/retry"
)

// openStore opens the store of a repository, with its credentials and what goes around
// it: limits where the configuration sets some, a meter where somebody reads what it
// counts. create makes the place where it is missing.
func (s *session) openStore(ctx context.Context, c config.Repository, create bool) (store.Store, error) {
	o := storeopen.Options{Create: create, Retry: s.retryPolicy(c)}
	if !c.Credentials.IsZero() {
		for _, k := range []struct {
			from config.Secret
			to   *string
		}{{c.Credentials.AccessKey, &o.Credentials.AccessKey}, {c.Credentials.SecretKey, &o.Credentials.SecretKey}} {
			var err error
			if *k.to, err = k.from.Resolve(ctx); err != nil {
				return nil, &failed{exitUsage, "credentials_unreadable", "", fmt.Errorf("the credentials: %w", err)}
			}
		}
	}
	st, err := storeopen.Open(ctx, c.URL, o)
	if err != nil {
		return nil, err
	}
	l := limit.Options{Upload: int64(c.UploadLimit), Download: int64(c.DownloadLimit), Operations: c.Operations, Clock: s.clock}
	if l.Upload > 0 || l.Download > 0 || l.Operations > 0 {
		st = limit.New(st, l)
	}
	if s.log.Enabled(ctx, slog.LevelDebug) {
		st = &metered{meter.New(st, s.clock), s.log.With("repository", c.Name)}
	}
	return st, nil
}

// retryPolicy is how what the place cannot do for the moment is tried again: for as long
// as the configuration says, and as often as that takes.
func (s *session) retryPolicy(c config.Repository) retry.Policy {
	p := retry.Policy{Total: time.Duration(c.RetryFor), Clock: s.clock, Repeating: s.repeating(c.Name)}
	if p.Total != retry.DefaultTotal && p.Total > 0 {
		p.Attempts = retry.DefaultAttempts + int(p.Total/time.Second)
	}
	return p
}

// warnEvery is how often it is said that a repository does not answer: many requests
// are under way, and all of them are repeated.
const warnEvery = 10 * time.Second

// repeating tells the log that something is repeated, and why.
func (s *session) repeating(repository string) func(error, time.Duration) {
	var mu sync.Mutex
	var last time.Time
	return func(err error, pause time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		level, now := slog.LevelDebug, s.clock.Now()
		if last.IsZero() || now.Sub(last) >= warnEvery {
			level, last = slog.LevelWarn, now
		}
		s.log.Log(context.Background(), level, "the repository does not do it for the moment: trying again",
			"repository", repository, "pause", pause.Round(time.Millisecond), "error", err.Error())
	}
}

// metered is a store that says at its end what was done with it.
type metered struct {
	*meter.Store
	log *slog.Logger
}

func (m *metered) Close() error {
	for _, c := range m.Counts() {
		if c.Ended > 0 {
			m.log.Debug("store "+string(c.Op), "operations", c.Ended, "failed", c.Failed, "bytes", c.Bytes, "took", c.Time, "slowest", c.Slowest)
		}
	}
	return m.Store.Close()
}
