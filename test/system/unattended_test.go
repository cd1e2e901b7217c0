package system

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// told is a notification.
type told struct {
	Event    string          `json:"event"`
	Cluster  string          `json:"cluster"`
	ExitCode *int            `json:"exit_code"`
	Error    failure         `json:"error"`
	Result   json.RawMessage `json:"result"`
}

// board is a web server that notes what it is told.
type board struct {
	sync.Mutex
	events []told
	pings  int
}

func (b *board) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	b.Lock()
	defer b.Unlock()
	if r.Method == http.MethodGet {
		b.pings++
		return
	}
	var e told
	body, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(body, &e) != nil {
		e.Event = fmt.Sprintf("%q, %v", body, err)
	}
	b.events = append(b.events, e)
}

// take gives what was told since it was last called.
func (b *board) take() (names []string, events []told, pings int) {
	b.Lock()
	defer b.Unlock()
	for _, e := range b.events {
		names = append(names, e.Event)
	}
	events, pings = b.events, b.pings
	b.events, b.pings = nil, 0
	return names, events, pings
}

// What timers start tells how it went, waits for what runs already, and does nothing
// where nothing is due.
func TestUnattended(t *testing.T) {
	t.Parallel()
	skipShort(t)
	b := &board{}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	s := newSite(t, siteOptions{yaml: fmt.Sprintf("notify:\n  - {webhook: '%s/hook'}\n  - {ping: '%s/ping', for: [backup]}\n  - {command: [sh, -c, 'cat >> told; echo >> told'], on: [failure]}\n", server.URL, server.URL)})
	s.ok("notify", "test")
	if names, _, pings := b.take(); !slices.Equal(names, []string{"notify.test"}) || pings != 1 {
		t.Errorf("the test told %q, and %d pings", names, pings)
	}

	s.ok("backup", "--plan")
	if names, _, pings := b.take(); len(names)+pings > 0 {
		t.Errorf("a plan told %q, and %d pings", names, pings)
	}
	made := s.backup()
	names, events, pings := b.take()
	if d := cmp.Diff([]string{"backup.start", "backup.success"}, names); d != "" || pings != 1 {
		t.Fatalf("%d pings; %s", pings, d)
	}
	var result backup
	if err := json.Unmarshal(events[1].Result, &result); err != nil || result.ID != made.ID || events[1].Cluster != "main" || *events[1].ExitCode != 0 {
		t.Errorf("told %+v, %v", events[1], err)
	}

	var skipped struct {
		Skipped bool   `json:"skipped"`
		Newest  string `json:"newest_id"`
	}
	for _, kind := range []string{"auto", "full"} {
		s.ok("backup", "-o", "json", "--kind", kind, "--if-older-than", "1h").decode(t, &skipped)
		if names, _, pings := b.take(); !skipped.Skipped || skipped.Newest != made.ID || len(names)+pings > 0 {
			t.Errorf("%s: %+v, told %q, and %d pings", kind, skipped, names, pings)
		}
	}
	if n := len(s.backups()); n != 1 {
		t.Errorf("%d backups", n)
	}
	if again := s.backup("--if-older-than", "1ms"); again.Kind != "incremental" {
		t.Errorf("the next is %+v", again)
	}
	if full := s.backup("--kind", "full", "--if-older-than", fmt.Sprint(time.Since(made.StoppedAt).Truncate(time.Millisecond))); full.Kind != "full" {
		t.Errorf("a full one is %+v", full)
	}
	b.take()

	s.ok("verify", "--level", "objects", made.ID)
	names, events, pings = b.take()
	if d := cmp.Diff([]string{"verify.start", "verify.success"}, names); d != "" || pings != 0 || !bytes.Contains(events[1].Result, []byte(made.ID)) {
		t.Errorf("%d pings, %s; %s", pings, events[1].Result, d)
	}

	s.ends(exitNotNow, "restore", "--to", s.cluster.Dir)
	names, events, pings = b.take()
	if d := cmp.Diff([]string{"restore.start", "restore.failure"}, names); d != "" || pings != 0 {
		t.Fatalf("%d pings; %s", pings, d)
	}
	if e := events[1]; *e.ExitCode != exitNotNow || e.Error.Code == "" || !strings.Contains(e.Error.Message, s.cluster.Dir) {
		t.Errorf("told %+v", e)
	}
	written, err := os.ReadFile(s.dir + "/told") // of the test, and of this
	if err != nil || bytes.Count(written, []byte("\n")) != 2 || !bytes.Contains(written, []byte(`"restore.failure"`)) {
		t.Errorf("the program was told %q, %v", written, err)
	}
}

func TestBackupWaitsForAnother(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	first := s.begin("backup", "--rate-limit", "2MB", "-o", "json")
	s.underWay("the first runs", func(j job) bool { return j.State == "running" })
	s.ends(exitNotNow, "backup", "--retry-lock", "1s", "-o", "json").says(t, "locked")
	second := s.backup("--retry-lock", "2m")
	if r := s.finish(first); r.code != exitDone {
		t.Errorf("the first: %s", r)
	}
	if list := s.backups(); len(list) != 2 || list[1].ID != second.ID {
		t.Errorf("there are %+v", list)
	}
}
