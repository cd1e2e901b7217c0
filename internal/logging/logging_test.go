package logging_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/logging"
)

func TestNewJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := logging.New(&out, slog.LevelInfo, logging.JSON)
	when := time.Date(2026, 3, 1, 2, 0, 0, 5e8, time.FixedZone("", 2*60*60))
	log.Debug("not shown")
	log.Info("backup done",
		logging.KeyBackup, "b1",
		"stopped_at", when,
		logging.Took(1500*time.Millisecond),
		logging.Err(nil))

	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("not exactly one JSON object: %v\n%s", err, out.String())
	}
	stamp, _ := got["time"].(string)
	if _, err := time.Parse("2006-01-02T15:04:05.999999999Z", stamp); err != nil {
		t.Errorf("time %q is not RFC 3339 in UTC: %v", stamp, err)
	}
	delete(got, "time")
	want := map[string]any{
		"level": "INFO", "msg": "backup done", "backup_id": "b1",
		"stopped_at": "2026-03-01T00:00:00.5Z", "duration_seconds": 1.5,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

func TestNewText(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	level := new(slog.LevelVar)
	level.Set(slog.LevelWarn)
	log := logging.New(&out, level, logging.Text)
	log.Info("not shown")
	level.Set(slog.LevelDebug)
	log.Debug("shown", logging.Err(errors.New("no such file")), logging.Took(2*time.Second))

	line := out.String()
	if strings.Count(line, "\n") != 1 {
		t.Fatalf("want one line, got:\n%s", line)
	}
	for _, want := range []string{"Z level=DEBUG msg=shown", `error="no such file"`, "duration_seconds=2\n"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is not in %q", want, line)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]slog.Level{
		"debug": slog.LevelDebug, "INFO": slog.LevelInfo, "Warn": slog.LevelWarn,
		"warning": slog.LevelWarn, "error": slog.LevelError,
	} {
		if got, err := logging.ParseLevel(s); err != nil || got != want {
			t.Errorf("ParseLevel(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for s, want := range map[string]logging.Format{"text": logging.Text, "JSON": logging.JSON} {
		if got, err := logging.ParseFormat(s); err != nil || got != want {
			t.Errorf("ParseFormat(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "loud", "info+2"} {
		if _, err := logging.ParseLevel(s); err == nil {
			t.Errorf("ParseLevel(%q) gave no error", s)
		}
		if _, err := logging.ParseFormat(s); err == nil {
			t.Errorf("ParseFormat(%q) gave no error", s)
		}
	}
}
