package system

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// job is one as the command line shows it.
type job struct {
	ID         string    `json:"id"`
	Kind       string    `json:"kind"`
	Cluster    string    `json:"cluster"`
	Repository string    `json:"repository"`
	State      string    `json:"state"`
	Phase      string    `json:"phase"`
	Done       int64     `json:"done_bytes"`
	Total      int64     `json:"total_bytes"`
	Rate       float64   `json:"rate_bytes_per_second"`
	ETA        float64   `json:"eta_seconds"`
	StartedAt  time.Time `json:"started_at"`
	UpdatedAt  time.Time `json:"updated_at"`
	PID        int       `json:"pid"`
}

func (s *site) jobs() []job {
	s.t.Helper()
	var list struct {
		Items []job `json:"items"`
	}
	s.ok("job", "list", "-o", "json").decode(s.t, &list)
	return list.Items
}

// underWay waits until the list shows a job for which ok says so.
func (s *site) underWay(what string, ok func(job) bool) job {
	s.t.Helper()
	var found job
	s.cluster.Eventually(what, func() bool {
		list := s.jobs()
		if len(list) > 0 {
			found = list[0]
		}
		return len(list) == 1 && ok(found)
	})
	return found
}

// outOfBackupMode waits until no session of ours is left, which ends backup mode.
func (s *site) outOfBackupMode() {
	s.t.Helper()
	s.cluster.Eventually("the server is out of backup mode", func() bool {
		return pgtest.QueryValue[int](s.cluster, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'salvor%'") == 0
	})
}

// A backup is watched from another shell, and cancelled from there.
func TestJob(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec(kilometre)
	if list := s.jobs(); len(list) != 0 {
		t.Errorf("before, there are %+v", list)
	}
	s.ends(exitNotFound, "job", "show", "20261124T075634Z-d250f5", "-o", "json").says(t, "no_job", "job list")
	s.ends(exitNotFound, "job", "cancel", "../x", "-o", "json").says(t, "no_job")

	// 1 MB a second makes most of a minute.
	r := s.begin("backup", "--rate-limit", "1MB", "-o", "json")
	first := s.underWay("the job is listed", func(j job) bool { return j.State == "running" && j.Done > 0 })
	if first.Kind != "backup" || first.Cluster != "main" || first.Repository != "repo1" || first.Phase != "copy" || first.Total < first.Done || first.PID != r.cmd.Process.Pid {
		t.Errorf("the job is %+v", first)
	}
	s.ends(exitNotNow, "backup", "-o", "json").says(t, "locked", "salvor job show "+first.ID)
	second := s.underWay("it makes progress", func(j job) bool { return j.Done > first.Done })
	if second.ID != first.ID || !second.StartedAt.Equal(first.StartedAt) || !second.UpdatedAt.After(first.UpdatedAt) || second.Rate <= 0 || second.ETA <= 0 {
		t.Errorf("the job was %+v and is %+v", first, second)
	}
	var shown job
	s.ok("job", "show", first.ID, "-o", "json").decode(t, &shown)
	if shown.ID != first.ID || shown.State != "running" {
		t.Errorf("shown is %+v", shown)
	}
	var status struct {
		Jobs []job `json:"jobs"`
	}
	s.run("status", "-o", "json").decode(t, &status)
	if len(status.Jobs) != 1 || status.Jobs[0].ID != first.ID {
		t.Errorf("status shows %+v", status.Jobs)
	}
	if text := s.run("status").stdout; !strings.Contains(text, "backup under way") || !strings.Contains(text, first.ID) {
		t.Errorf("status shows:\n%s", text)
	}
	s.ok("job", "cancel", first.ID, "--plan")
	if list := s.jobs(); len(list) != 1 {
		t.Errorf("after --plan there are %+v", list)
	}

	began := time.Now()
	var done struct {
		ID    string `json:"id"`
		State string `json:"state"`
	}
	s.ok("job", "cancel", first.ID, "-o", "json").decode(t, &done)
	if done.ID != first.ID || done.State != "cancelled" {
		t.Errorf("cancelled: %+v", done)
	}
	t.Logf("cancelled after %s", time.Since(began))
	ended := s.finish(r)
	if ended.code != exitFailed {
		t.Errorf("the backup ended so: %s", ended)
	}
	ended.says(t, "cancelled", first.ID, "process")
	s.outOfBackupMode()
	if list := s.backups(); len(list) != 0 {
		t.Errorf("visible are %+v", list)
	}
	if left := s.objects("/locks/"); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
	// It is known still if it had completed a pack.
	if again := s.run("job", "cancel", first.ID, "-o", "json"); again.code != exitNotFound && again.code != exitNotNow {
		t.Errorf("cancelled again: %s", again)
	}

	made := s.backup()
	s.ends(exitNotNow, "job", "cancel", made.ID, "-o", "json").says(t, "not_running", "complete", "backups delete")
	s.ok("job", "show", made.ID, "-o", "json").decode(t, &shown)
	if shown.ID != made.ID || shown.State != "done" || shown.Done != made.Size {
		t.Errorf("shown is %+v", shown)
	}
	copied := s.restore("--backup", made.ID)
	if n := value[int](t, copied, "SELECT count(*) FROM public.road"); n != 60000 {
		t.Errorf("the copy has %d rows", n)
	}
}

// A backup that was killed is shown as such, cannot be cancelled, and is in nobody's way.
func TestJobKilled(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec(kilometre)
	r := s.begin("backup", "--rate-limit", "1MB")
	killed := s.underWay("the job is listed", func(j job) bool { return j.State == "running" })
	r.signal(t, syscall.SIGKILL)
	s.finish(r)
	j := s.underWay("it is known to be dead", func(j job) bool { return j.State == "interrupted" })
	if j.ID != killed.ID || j.ETA != 0 {
		t.Errorf("the job is %+v", j)
	}
	s.ends(exitNotNow, "job", "cancel", killed.ID, "-o", "json").says(t, "not_running", "without completing")
	s.outOfBackupMode()
	made := s.backup()
	if list := s.backups(); len(list) != 1 || list[0].ID != made.ID {
		t.Errorf("there are %+v", list)
	}
	if list := s.jobs(); len(list) != 0 {
		t.Errorf("jobs after all has ended: %+v", list)
	}
}
