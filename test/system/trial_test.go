package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// proven is what verify --level restore says.
type proven struct {
	OK       bool      `json:"ok"`
	Level    string    `json:"level"`
	Problems []problem `json:"problems"`
	Backups  []struct {
		ID        string    `json:"id"`
		OK        bool      `json:"ok"`
		Level     string    `json:"level"`
		Restore   float64   `json:"restore_seconds"`
		Recovered string    `json:"recovered_to_lsn"`
		Why       string    `json:"chosen_because"`
		Problems  []problem `json:"problems"`
		Checks    []struct {
			Name    string `json:"name"`
			OK      bool   `json:"ok"`
			Skipped bool   `json:"skipped"`
			Detail  string `json:"detail"`
		} `json:"checks"`
	} `json:"backups"`
}

// scratch gives the site a place for trials, and questions for them.
func (s *site) scratch(checks string) string {
	s.t.Helper()
	dir := s.cluster.TempDir(s.t)
	s.appendConfig("verify: {scratch_dir: " + dir + ", dump: schema, checks: [" + checks + "]}")
	return dir
}

// prove verifies at level restore, and looks that nothing is left in the scratch directory.
func (s *site) prove(code int, scratch string, args ...string) proven {
	s.t.Helper()
	var v proven
	r := s.ends(code, append([]string{"verify", "-o", "json"}, args...)...)
	r.decode(s.t, &v)
	if v.OK != (code == exitDone) || v.Level != "restore" {
		s.t.Errorf("it does not fit: %s", r)
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		s.t.Errorf("left in the scratch directory: %v, %v", left, err)
	}
	return v
}

// sound fails the test unless all backups that were verified are, with every check made.
func (v proven) sound(t testing.TB, n int) {
	t.Helper()
	for _, b := range v.Backups {
		for _, c := range b.Checks {
			if !c.OK {
				t.Errorf("backup %s: check %+v", b.ID, c)
			}
		}
		if !b.OK || b.Restore <= 0 || b.Recovered == "" || len(b.Checks) < 6 {
			t.Errorf("backup %+v", b)
		}
	}
	if len(v.Backups) != n {
		t.Errorf("%d backups were verified, want %d", len(v.Backups), n)
	}
}

// holds restores, and compares what the copy holds.
func (s *site) holds(want string, args ...string) {
	s.t.Helper()
	r := s.restore(args...)
	defer r.stop()
	if got := notes(s.t, r); got != want {
		s.t.Errorf("restore %q holds %q, want %q", args, got, want)
	}
}

type safety struct {
	OK         bool      `json:"ok"`
	To         time.Time `json:"recoverable_to"`
	Problems   []string  `json:"problems"`
	Components []struct {
		RPO *float64 `json:"rpo_seconds"`
	} `json:"components"`
}

// safety is what status says.
func (s *site) safety(code int) safety {
	s.t.Helper()
	var v safety
	s.ends(code, "status", "-o", "json").decode(s.t, &v)
	return v
}

// What verify, status and doctor call sound can be restored, and what cannot is called
// so, as an archive comes to be, falls silent and is damaged.
func TestSoundIsWhatRestores(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{pg: pgtest.Options{WALSegmentMB: 1, Settings: map[string]string{"fsync": "on"}}})
	c := s.cluster
	scratch := s.scratch(`{sql: "SELECT count(*) > 0 FROM note"}`)
	c.Exec("CREATE TABLE note (what text); INSERT INTO note VALUES ('1')")
	s.backup()

	// A first backup a second ago.
	s.safety(exitDone)
	s.ok("doctor")
	s.prove(exitDone, scratch).sound(t, 1)
	s.holds("1")

	// A committed row in the unfinished segment is not safe, and said not to be.
	c.Exec("INSERT INTO note VALUES ('2')")
	committed := pgtest.QueryValue[time.Time](c, "SELECT now()")
	if v := s.safety(exitDone); !v.To.Before(committed) || v.Components[0].RPO == nil || *v.Components[0].RPO <= 0 {
		t.Errorf("a row that is nowhere else: %+v", v)
	}
	s.holds("1")

	// Archiving is dead. What was archived is as sound as ever.
	c.Set("archive_command", "false")
	c.Reload()
	c.SwitchWAL()
	c.Eventually("archiving fails", func() bool {
		return pgtest.QueryValue[bool](c, "SELECT failed_count > 0 AND last_failed_time > coalesce(last_archived_time, '-infinity') FROM pg_stat_archiver")
	})
	if v := s.safety(exitProblem); !v.To.Before(committed) || len(v.Problems) == 0 {
		t.Errorf("with dead archiving: %+v", v)
	}
	s.ends(exitProblem, "doctor")
	s.prove(exitDone, scratch, "--latest").sound(t, 1)
	s.holds("1")
	c.Set("archive_command", s.archiveCommand)
	c.Reload()
	s.archiveAll()
	if v := s.safety(exitDone); v.To.Before(committed) {
		t.Errorf("archiving again: %+v", v)
	}
	s.holds("1 2")

	t.Run("WAL", func(t *testing.T) { s.with(t).soundWAL(scratch) })
}

// soundWAL loses, and damages, WAL after the backup.
func (s *site) soundWAL(scratch string) {
	t, c := s.t, s.cluster
	t.Helper()
	for _, row := range []string{"3", "4", "5"} {
		c.Exec("INSERT INTO note VALUES ($1)", row)
		s.archiveAll()
	}
	all := slices.DeleteFunc(s.objects("/wal/00000001/"), func(p string) bool { return strings.Contains(filepath.Base(p), ".") })
	slices.Sort(all)
	middle := all[len(all)-2] // that of row 4: each row has one
	hidden := filepath.Join(s.dir, "hidden")

	if err := os.Rename(middle, hidden); err != nil {
		t.Fatal(err)
	}
	s.safety(exitProblem)
	s.ends(exitProblem, "doctor")
	v := s.prove(exitProblem, scratch)
	v.sound(t, 1) // the backup is, as far as that goes
	if len(v.Problems) == 0 || v.Problems[0].Kind != "wal_hole" {
		t.Errorf("of the hole: %+v", v.Problems)
	}
	s.ends(exitNotFound, "restore", "--to", filepath.Join(s.dir, "none"), "-o", "json").says(t, filepath.Base(middle))
	s.holds("1 2 3", "--lsn", v.Backups[0].Recovered)

	if err := os.Rename(hidden, middle); err != nil {
		t.Fatal(err)
	}
	s.safety(exitDone)
	s.damage(middle, 300)
	v = s.prove(exitProblem, scratch)
	if b := v.Backups[0]; b.OK || len(b.Problems) == 0 {
		t.Errorf("with damaged WAL: %+v", v)
	}
	sock := c.TempDir(t)
	s.ends(exitFailed, append([]string{"restore", "--to", filepath.Join(sock, "data"), "-o", "json"}, startArgs(sock)...)...)
	s.damage(middle, 300)
	s.prove(exitDone, scratch).sound(t, 1)
	s.holds("1 2 3 4 5")
}

// Without an archive a backup leads to its own end; and when archiving is switched on, a
// new backup to all that follows.
func TestSoundWithoutArchive(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{noArchive: true, pg: pgtest.Options{Settings: map[string]string{"fsync": "on"}}})
	c := s.cluster
	scratch := s.scratch("")
	c.Exec("CREATE TABLE note (what text); INSERT INTO note VALUES ('1')")
	first := s.backup("--with-wal")
	c.Exec("INSERT INTO note VALUES ('2')")
	s.safety(exitProblem)
	s.ends(exitProblem, "doctor")
	s.prove(exitDone, scratch).sound(t, 1)
	s.holds("1")

	c.Set("archive_mode", "on")
	c.Set("archive_command", s.archiveCommand)
	c.Restart()
	second := s.backup()
	c.Exec("INSERT INTO note VALUES ('3')")
	s.archiveAll()
	s.safety(exitDone)
	s.ok("doctor")
	v := s.prove(exitDone, scratch)
	v.sound(t, 2)
	if v.Backups[0].ID != second.ID || v.Backups[0].Why != "never verified" || !strings.HasPrefix(v.Backups[1].Why, "last verified at ") {
		t.Errorf("the order: %+v", v)
	}
	s.holds("1", "--backup", first.ID, "--immediate")
	s.holds("1 2 3")
}

// A pack of a full backup is damaged that an incremental one uses: both are lost, and
// said to be. A row that fails the operator's check is told, too.
func TestSoundParent(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	scratch := s.scratch(`{sql: "SELECT count(*) < 3 FROM note", name: few notes}`)
	c.Exec(kilometre + "; CREATE TABLE note (what text); INSERT INTO note VALUES ('1')")
	full := s.backup()
	pack := slices.MaxFunc(s.objects("/packs/"), func(a, b string) int { return int(sizeOf(t, a) - sizeOf(t, b)) })
	c.Exec("INSERT INTO note VALUES ('2')")
	incremental := s.backup()
	if incremental.Kind != "incremental" {
		t.Fatalf("%+v", incremental)
	}

	// Bounded, one after the other.
	for _, id := range []string{incremental.ID, full.ID} {
		if v := s.prove(exitDone, scratch, "--max", "1"); len(v.Backups) != 1 || v.Backups[0].ID != id || v.Backups[0].Why != "never verified" {
			t.Errorf("want %s first: %+v", id, v)
		}
	}
	if v := s.prove(exitDone, scratch, "--max-duration", "1ms"); len(v.Backups) != 1 || v.Backups[0].ID != incremental.ID {
		t.Errorf("the oldest proof: %+v", v)
	}

	c.Exec("INSERT INTO note VALUES ('3')")
	s.archiveAll()
	if v := s.prove(exitProblem, scratch, "--latest"); len(v.Backups) != 1 || len(v.Backups[0].Problems) != 1 || v.Backups[0].Problems[0].Kind != "check_failed" ||
		!strings.Contains(v.Backups[0].Problems[0].Detail, "few notes") {
		t.Errorf("of the operator's check: %+v", v)
	}

	s.damage(pack, int(sizeOf(t, pack)/3))
	v := s.prove(exitProblem, scratch)
	for _, b := range v.Backups {
		if b.OK || len(b.Problems) != 1 || b.Problems[0].Kind != "damaged" || !strings.HasSuffix(pack, b.Problems[0].Object) {
			t.Errorf("backup %+v", b)
		}
		s.ends(exitRepository, "restore", "--backup", b.ID, "--to", filepath.Join(s.dir, b.ID), "-o", "json").says(t, "damaged")
	}
	if len(v.Backups) != 2 {
		t.Errorf("%+v", v)
	}
}

// A verification that is killed leaves a directory, whose server has gone, and which the
// next one removes; one that is stopped leaves nothing.
func TestTrialIsCleanedUp(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	scratch := s.scratch(`{sql: "SELECT pg_sleep(600) IS NULL"}`)
	s.backup()
	inCheck := func() (r *running, dir string) {
		r = s.begin("verify", "-o", "json")
		c.Eventually("the trial asks", func() bool {
			dirs, _ := filepath.Glob(filepath.Join(scratch, "salvor-trial-*"))
			if len(dirs) != 1 {
				return false
			}
			dir = dirs[0]
			return len(serversIn(filepath.Join(dir, "data"))) > 5
		})
		return r, dir
	}
	r, dir := inCheck()
	r.signal(t, syscall.SIGTERM)
	if res := s.finish(r); res.code != 143 {
		t.Errorf("stopped: %s", res)
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("stopped, it leaves %v, %v", left, err)
	}
	r, dir = inCheck()
	r.signal(t, syscall.SIGKILL)
	s.finish(r)
	c.Eventually("the server of the killed run has gone", func() bool { return len(serversIn(filepath.Join(dir, "data"))) == 0 })
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("nothing is left to be removed: %v", err)
	}
	s.appendConfig("# no more questions")
	text := string(readFile(t, s.config))
	writeFile(t, s.config, []byte(strings.Replace(text, "pg_sleep(600) IS NULL", "true", 1)))
	s.prove(exitDone, scratch).sound(t, 1)

	if os.Geteuid() == 0 {
		// As root the server runs as the owner of the cluster's directory.
		r := &running{cmd: exec.Command(program, "-c", s.config, "verify", "-o", "json"), text: "verify, as root"}
		res := s.finish(s.start(r))
		var v proven
		res.decode(t, &v)
		v.sound(t, 1)
		if left, err := os.ReadDir(scratch); res.code != exitDone || err != nil || len(left) > 0 {
			t.Errorf("as root: %s, and it leaves %v, %v", res, left, err)
		}
	}
}

// serversIn are the processes that work in a directory.
func serversIn(dir string) (pids []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && cwd == dir {
			pids = append(pids, link)
		}
	}
	return pids
}
