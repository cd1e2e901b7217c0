package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/limit"
	"github.com/salvor-dr/salvor/internal/store/retry"
)

// storeSession is a session whose log is read.
func storeSession(level slog.Level) (*session, *strings.Builder) {
	var log strings.Builder
	return &session{clock: clock.System(), log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))}, &log
}

// A store is limited where the configuration says so, and nowhere else.
func TestStoreLimits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() // not a subtest's, whose name would be in the URL
	for text, limited := range map[string]bool{"encryption: none": false, "encryption: none, upload_limit: 1MB": true,
		"encryption: none, download_limit: 1MB": true, "encryption: none, operations: 3": true} {
		t.Run(text, func(t *testing.T) {
			file := filepath.Join(dir, "salvor.yaml")
			yaml := fmt.Sprintf("cluster: main\npostgres: {data_dir: /x}\nrepositories:\n  - {name: a, url: 'file://%s/repo', %s}\n", dir, text)
			if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := config.Load(file, func(string) (string, bool) { return "", false })
			if err != nil {
				t.Fatal(err)
			}
			s, _ := storeSession(slog.LevelInfo)
			st, err := s.openStore(t.Context(), c.Repositories[0], true)
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			if _, is := store.Ability[*limit.Store](st); is != limited {
				t.Errorf("it is limited: %v, want %v", is, limited)
			}
			if _, is := store.Ability[store.TempCleaner](st); !is {
				t.Error("temporary files cannot be removed through it")
			}
		})
	}
}

// With --log-level debug the log says at the end what was done with a store.
func TestStoreMeter(t *testing.T) {
	t.Parallel()
	for _, level := range []slog.Level{slog.LevelInfo, slog.LevelDebug} {
		s, log := storeSession(level)
		st, err := s.openStore(t.Context(), config.Repository{Name: "near", URL: "file://" + t.TempDir()}, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Put(t.Context(), st, "k", []byte("hello"), store.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		want := level == slog.LevelDebug
		if got := strings.Contains(log.String(), "msg=\"store put\" repository=near operations=1 failed=0 bytes=5"); got != want {
			t.Errorf("at level %s the log is\n%s", level, log)
		}
		if strings.Contains(log.String(), "store get") {
			t.Errorf("it tells of what was not done:\n%s", log)
		}
	}
}

// Of a thousand requests that are repeated, the reason is warned of every ten seconds.
func TestRepeatingWarns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := storeSession(slog.LevelInfo)
		tell := s.repeating("far")
		for range 1000 {
			tell(fmt.Errorf("%w: SlowDown", store.ErrUnavailable), 300*time.Millisecond)
			time.Sleep(25 * time.Millisecond)
		}
		text := log.String()
		if n := strings.Count(text, "level=WARN"); n != 3 || !strings.Contains(text, "SlowDown") || !strings.Contains(text, "repository=far") || !strings.Contains(text, "pause=300ms") {
			t.Errorf("%d warnings in 25 seconds:\n%s", n, text)
		}
	})
}

// Requests are tried again for as long as the configuration says.
func TestRetryFor(t *testing.T) {
	t.Parallel()
	s, _ := storeSession(slog.LevelInfo)
	for _, total := range []time.Duration{time.Second, time.Minute, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			p := s.retryPolicy(config.Repository{Name: "far", RetryFor: config.Duration(total)})
			began := time.Now()
			err := p.Do(t.Context(), func(context.Context) error { return store.ErrUnavailable })
			took := time.Since(began)
			// Within a minute the number of calls may end it before.
			if !errors.Is(err, store.ErrUnavailable) || took > total || total != time.Minute && took < total-retry.DefaultPauseMax-time.Second {
				t.Errorf("%s: %v after %s", total, err, took)
			}
		})
	}
}
