package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/backup"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	storeopen "github.com/salvor-dr/salvor/internal/store/open"
)

const aJob = "20261124T075634Z-d250f5"

// jobSite is a repository in which this process pretends to make a backup.
type jobSite struct {
	t      *testing.T
	config string
	locks  *lock.Locks
	what   string
}

func newJobSite(t *testing.T) *jobSite {
	t.Helper()
	if testing.Short() {
		t.Skip("needs PostgreSQL: not with -short")
	}
	file, _ := archiveSite(t)
	c, err := config.Load(file, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	here, ok := localPlace(c)
	if !ok {
		t.Fatal("the data directory has no place")
	}
	st, err := storeopen.Open(t.Context(), c.Repositories[0].URL, storeopen.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	locks, err := lock.New(st, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	return &jobSite{t, file, locks, here.BackupLock()}
}

func (s *jobSite) here(args ...string) result {
	return inProcess(commands, nil, append([]string{"-c", s.config}, args...)...)
}

// begin takes the lease, and reports.
func (s *jobSite) begin(r backup.Report) (*lock.Lease, context.Context) {
	s.t.Helper()
	lease, ctx, err := s.locks.Acquire(s.t.Context(), s.what, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	lease.Report(func() json.RawMessage {
		data, err := json.Marshal(r)
		if err != nil {
			s.t.Error(err)
		}
		return data
	})
	for {
		if st, err := s.locks.Look(s.t.Context(), s.what); err != nil || len(st.Report) > 0 {
			return lease, ctx
		}
		time.Sleep(time.Millisecond)
	}
}

// What is under way is listed, shown and cancelled, also beside a repository that is
// broken.
func TestJobs(t *testing.T) {
	t.Parallel()
	s := newJobSite(t)
	if r := s.here("job", "list"); r.exit != 0 || r.stdout != "Nothing is under way.\n" {
		t.Errorf("nothing: %+v", r)
	}
	if r := s.here("job", "list", "-o", "json"); r.exit != 0 || !strings.Contains(r.stdout, `"items":[]`) {
		t.Errorf("nothing: %+v", r)
	}
	report := backup.Report{Kind: "backup", ID: aJob, Phase: "copy", Done: 1 << 20, Total: 4 << 20, Rate: 1 << 18, StartedAt: time.Date(2026, 11, 24, 7, 56, 34, 0, time.UTC)}
	lease, ctx := s.begin(report)
	r := s.here("job", "list")
	if r.exit != 0 || !strings.Contains(r.stdout, aJob+"  backup  running  copy   1.0 MiB  4.0 MiB  256 KiB/s  12s  ") {
		t.Errorf("list: %+v", r)
	}
	r = s.here("job", "show", aJob, "-o", "json")
	got := decoded[map[string]any](t, r.stdout)
	want := map[string]any{"format_version": 1.0, "id": aJob, "kind": "backup", "cluster": "main", "repository": "local", "state": "running", "phase": "copy",
		"done_bytes": float64(1 << 20), "total_bytes": float64(4 << 20), "rate_bytes_per_second": float64(1 << 18), "eta_seconds": 12.0,
		"started_at": "2026-11-24T07:56:34.000000Z", "updated_at": got["updated_at"], "host": got["host"], "pid": float64(os.Getpid())}
	if diff := cmp.Diff(want, got); diff != "" || r.exit != 0 {
		t.Errorf("show (-want +got):\n%s%+v", diff, r)
	}
	// A second repository, which does not open, is in nobody's way.
	appendTo(t, s.config, "  - {name: away, url: 'file:///nonexistent/salvor', encryption: none}\n")
	for _, args := range [][]string{{"job", "list"}, {"job", "show", aJob}, {"job", "cancel", aJob, "--plan"}} {
		if r := s.here(args...); r.exit != 0 || !strings.Contains(r.stdout, aJob) {
			t.Errorf("%v beside a broken repository: %+v", args, r)
		}
	}
	if r := s.here("job", "list", "--repo", "away"); r.exit != exitRepository {
		t.Errorf("of a broken repository: %+v", r)
	}
	// Asked, without waiting; then asked again, with too little patience.
	if r := s.here("job", "cancel", aJob, "--wait=false", "-o", "json"); r.exit != 0 || !strings.Contains(r.stdout, `"state":"asked"`) {
		t.Errorf("cancel --wait=false: %+v", r)
	}
	if r := s.here("job", "cancel", aJob, "--timeout", "1ms", "-o", "json"); r.exit != exitFailed || !strings.Contains(r.stdout, `"code":"timeout"`) {
		t.Errorf("cancel --timeout 1ms: %+v", r)
	}
	<-ctx.Done()
	var c *lock.Cancelled
	if !errors.As(context.Cause(ctx), &c) || !strings.Contains(c.By, "process") {
		t.Errorf("the job's context ended by %v", context.Cause(ctx))
	}
	f := classify(c)
	if f.exit != exitFailed || f.code != "cancelled" || !strings.Contains(f.message, c.By) {
		t.Errorf("a cancelled command ends so: %+v", f)
	}
	ended := make(chan result, 1)
	go func() { ended <- s.here("job", "cancel", aJob, "-o", "json") }()
	time.Sleep(50 * time.Millisecond) // it may wait already, or not: both are right
	if err := lease.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if r := <-ended; r.exit != 0 && r.exit != exitNotFound {
		t.Errorf("cancel: %+v", r)
	}
	if r := s.here("job", "show", aJob, "-o", "json"); r.exit != exitNotFound || !strings.Contains(r.stdout, `"code":"no_job"`) {
		t.Errorf("afterwards: %+v", r)
	}
}

func appendTo(t *testing.T, file, text string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(filepath.Clean(file), append(data, text...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// How far a job is, in a line.
func TestJobShort(t *testing.T) {
	eta := 75.0
	one, five := uint64(1<<20), uint64(5<<20)
	for _, tc := range []struct {
		v    jobView
		want string
	}{
		{jobView{State: jobRunning, Phase: "checkpoint"}, "checkpoint"},
		{jobView{State: jobRunning, Phase: "copy", Done: &one, Total: 4 << 20}, "copy 25%, 1.0 MiB of 4.0 MiB"},
		{jobView{State: jobRunning, Phase: "copy", Done: &five, Total: 4 << 20, ETA: &eta}, "copy 100%, 5.0 MiB of 4.0 MiB, ETA 1m15s"},
		{jobView{State: jobInterrupted, Phase: "wal"}, "interrupted at wal"},
	} {
		if got := tc.v.short(); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

// Who meets a lock is told of the job that holds it.
func TestHeldHint(t *testing.T) {
	report, err := json.Marshal(backup.Report{Kind: "backup", ID: aJob})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"": "wait until it has finished", "{": "wait until it has finished", string(report): "salvor job show " + aJob} {
		f := classify(&lock.Held{What: "x", Report: json.RawMessage(text)})
		if f.exit != exitNotNow || f.code != "locked" || !strings.Contains(f.hint, want) {
			t.Errorf("report %q: %+v", text, f)
		}
	}
}
