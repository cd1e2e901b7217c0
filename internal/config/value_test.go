package config

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseSize(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Size{
		"0": 0, "512": 512, "10MB": 10_000_000, "64MiB": 64 << 20, "1kb": 1000, "1 GiB": 1 << 30, "3B": 3, "2TB": 2e12,
		"9223372036854775807": math.MaxInt64,
	} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "MB", "-1", "+1", "1.5GB", "10 M", "1e3", "9223372036854775808", "9000000TiB", "10MB/s"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", s, got)
		}
	}
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "7d": 7 * day, "1d12h": 36 * time.Hour, "250ms": 250 * time.Millisecond,
	} {
		if got, err := ParseDuration(s); err != nil || time.Duration(got) != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "60", "-1s", "1d-1h", "d", "1.5d", "1x", "106752d", "106751d24h", "+1s", ".5s", "99999999999d"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", s, got)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", time.Minute: "1m", time.Hour: "1h", 90 * time.Minute: "1h30m", 14 * day: "14d", 36 * time.Hour: "1d12h",
		70 * time.Second: "1m10s", time.Hour + time.Second: "1h0m1s", 1500 * time.Millisecond: "1.5s", -time.Second: "-1s",
	} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%v prints as %q, want %q", d, got, want)
		}
	}
}

func TestSizesAndDurationsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Min(0).Draw(t, "n")
		n = n >> rapid.IntRange(0, 40).Draw(t, "down") << rapid.IntRange(0, 20).Draw(t, "up") & math.MaxInt64
		if got, err := ParseSize(Size(n).String()); err != nil || got != Size(n) {
			t.Fatalf("size %d prints as %s, read as %d, %v", n, Size(n), got, err)
		}
		if got, err := ParseDuration(Duration(n).String()); err != nil || got != Duration(n) {
			t.Fatalf("duration %d prints as %s, read as %d, %v", n, Duration(n), got, err)
		}
	})
}

func TestSecretResolve(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	write(t, file, "hunter2\r\n")
	t.Setenv("SALVOR_TEST_SECRET", "hunter2")
	write(t, filepath.Join(dir, "big"), strings.Repeat("x", secretSizeMax+1))
	write(t, filepath.Join(dir, "empty"), "\n")
	for _, s := range []Secret{
		{File: file},
		{Env: "SALVOR_TEST_SECRET"},
		{Command: []string{"cat", "key"}, dir: dir},
	} {
		if got, err := s.Resolve(t.Context()); err != nil || got != "hunter2" {
			t.Errorf("%v resolves to %q, %v", s, got, err)
		}
	}
	for _, tc := range []struct {
		s    Secret
		want string
	}{
		{Secret{}, "none is configured"},
		{Secret{File: filepath.Join(dir, "gone")}, "no such file"},
		{Secret{File: filepath.Join(dir, "big")}, "more than 65536 bytes"},
		{Secret{File: filepath.Join(dir, "empty")}, "empty or not set"},
		{Secret{Env: "SALVOR_TEST_UNSET"}, "{env: SALVOR_TEST_UNSET}: it is empty or not set"},
		{Secret{Command: []string{"sh", "-c", "echo hunter2; echo vault is sealed >&2; exit 3"}}, "exit status 3: vault is sealed"},
		{Secret{Command: []string{"/no/such/program"}}, "no such file"},
		{Secret{Command: []string{"head", "-c", "1000000", "/dev/zero"}}, "more than 65536 bytes"},
	} {
		_, err := tc.s.Resolve(t.Context())
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: got %v, want %q", tc.s, err, tc.want)
		}
	}
}

func TestSecretCommandIsCancelled(t *testing.T) {
	t.Parallel()
	started := filepath.Join(t.TempDir(), "started")
	if err := syscall.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by the test")
	done := make(chan error, 1)
	go func() {
		_, err := Secret{Command: []string{"sh", "-c", "echo yes >" + started + "; exec sleep 600"}}.Resolve(ctx)
		done <- err
	}()
	if _, err := os.ReadFile(started); err != nil { // returns once the command has written
		t.Fatal(err)
	}
	cancel(stop)
	if err := <-done; !errors.Is(err, stop) {
		t.Errorf("got %v, want the cause of the cancellation", err)
	}
}

func TestSecretPrintsItsReference(t *testing.T) {
	t.Setenv("DB_PASS", "hunter2")
	s := Secret{Env: "DB_PASS"}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s)
	asJSON, err := json.Marshal(map[string]any{"s": s, "none": Secret{}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(asJSON), `{"none":null,"s":{"env":"DB_PASS"}}`; got != want {
		t.Errorf("JSON is %s, want %s", got, want)
	}
	for _, printed := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %q", s, s, s, s, s), log.String()} {
		if !strings.Contains(printed, "DB_PASS") || strings.Contains(printed, "hunter2") {
			t.Errorf("prints as %q", printed)
		}
	}
	if got := (Secret{}).String(); got != "{}" {
		t.Errorf("no secret prints as %q", got)
	}
}
