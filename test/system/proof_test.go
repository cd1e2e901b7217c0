package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What restores took is kept with the backups, and tells how long the next one would
// take. The records stay when their backup goes; what failed or was only planned leaves
// none.
func TestPlannedTime(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	c.Exec("CREATE TABLE note (what text); INSERT INTO note VALUES ('1')")
	first := s.backup()
	c.Exec(kilometre)
	s.archiveAll()
	to := filepath.Join(s.dir, "planned")
	records := func() []string {
		t.Helper()
		names, err := filepath.Glob(filepath.Join(s.repo, "clusters", "*", "*", "proofs", "2*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	type planned struct {
		Replay   int64 `json:"replay_bytes"`
		Estimate *struct {
			Copy         float64 `json:"copy_seconds"`
			Replay       float64 `json:"replay_seconds"`
			Total        float64 `json:"total_seconds"`
			Low          float64 `json:"low_seconds"`
			High         float64 `json:"high_seconds"`
			Measurements int     `json:"measurements"`
			Here         bool    `json:"this_host"`
		} `json:"estimate"`
	}
	plan := func() (p planned) {
		t.Helper()
		s.ok("restore", "--to", to, "--plan", "-o", "json").decode(t, &p)
		return p
	}
	if p := plan(); p.Estimate != nil || p.Replay < 10<<20 {
		t.Errorf("without history the plan is %+v", p)
	}
	if r := s.ok("restore", "--to", to, "--plan"); !strings.Contains(r.stdout, "no restore has been measured yet") {
		t.Errorf("it does not say so:\n%s", r)
	}
	// A server that does not come up.
	s.ends(exitFailed, append([]string{"restore", "--to", filepath.Join(c.TempDir(t), "data"), "--set", "no_such_setting=1", "-o", "json"}, startArgs(c.TempDir(t))...)...)
	if names := records(); len(names) > 0 {
		t.Fatalf("nothing was restored, and there is %v", names)
	}

	var measured []*restored
	for range 2 {
		r := s.restore()
		r.stop()
		measured = append(measured, r)
	}
	p := plan()
	e := p.Estimate
	if len(records()) != 2 || e == nil || e.Measurements != 2 || !e.Here || e.Copy <= 0 || e.Replay <= 0 ||
		e.Low > e.Total || e.Total > e.High || e.Total < max(e.Copy, e.Replay) {
		t.Fatalf("after two restores the plan is %+v, %+v, with %v", p, e, records())
	}
	// The same work: no longer than both took together, as they said.
	if most := measured[0].res.Seconds + measured[1].res.Seconds; e.High > most {
		t.Errorf("both took %g s, and the plan says %+v", most, e)
	}
	if r := s.ok("restore", "--to", to, "--plan"); !strings.Contains(r.stdout, "by 2 restores measured on this host") {
		t.Errorf("it does not say so:\n%s", r)
	}

	s.backup()
	s.ok("--yes", "backups", "delete", first.ID)
	if e := plan().Estimate; e == nil || e.Measurements != 2 {
		t.Errorf("the backup went that was restored, and the plan is %+v", e)
	}

	if os.Geteuid() != 0 {
		return // who may only read is another user
	}
	t.Run("who may only read", func(t *testing.T) {
		dir := filepath.Dir(records()[0])
		if err := os.Chown(dir, 0, 0); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		s := s.with(t)
		s.restoreCold()
		if names := records(); len(names) != 2 {
			t.Errorf("records where nobody may write: %v", names)
		}
	})
}
