package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// With --start, restore comes back when the server has done its action: a server with
// much to replay takes connections long before.
func TestActions(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	c.Exec("CREATE TABLE note (what text); INSERT INTO note VALUES ('1')")
	s.backup()
	c.Exec(strings.Replace(kilometre, "road", "much", 1))
	c.Exec("INSERT INTO note VALUES ('2')")
	c.Exec("SELECT pg_create_restore_point('here')")
	c.Exec("INSERT INTO note VALUES ('3')")
	s.archiveAll()
	for _, action := range []string{"pause", "shutdown"} {
		r := s.ends(exitUsage, "restore", "--to", filepath.Join(s.dir, "none"), "--action", action, "-o", "json")
		r.says(t, "--action "+action+" needs a target")
	}

	t.Run("pause", func(t *testing.T) {
		r := s.with(t).restore("--restore-point", "here", "--action", "pause")
		if !value[bool](t, r, "SELECT pg_is_in_recovery() AND pg_is_wal_replay_paused()") {
			t.Error("the copy is not paused")
		}
		if got := notes(t, r); got != "1 2" {
			t.Errorf("the paused copy holds %q", got)
		}
		if at := value[string](t, r, "SELECT pg_last_wal_replay_lsn()::text"); at != r.res.RecoveredToLSN {
			t.Errorf("the copy is at %s, and restore said %s", at, r.res.RecoveredToLSN)
		}
		// One may change one's mind, and go on with another target.
		r.stop()
		r.start(map[string]string{"recovery_target_name": ""})
		r.leftRecovery(t)
		if got := notes(t, r); got != "1 2 3" {
			t.Errorf("the copy that went on holds %q", got)
		}
	})
	t.Run("shutdown", func(t *testing.T) {
		r := s.with(t).restore("--restore-point", "here", "--action", "shutdown")
		down := func() {
			t.Helper()
			if status, err := server.Probe(r.dir); err != nil || status.Running {
				t.Fatalf("the server was to shut down: %+v, %v", status, err)
			}
		}
		down()
		if r.res.RecoveredToLSN == "" {
			t.Error("restore does not say how far the server came")
		}
		// The next one that has the same settings shuts down too.
		if err := r.tryStart(nil, never); err == nil || !strings.Contains(r.log(), "shutdown at recovery target") {
			t.Errorf("the second start: %v\n%s", err, r.log())
		}
		down()
		r.start(map[string]string{"recovery_target_action": "promote"})
		r.leftRecovery(t)
		if got := notes(t, r); got != "1 2" {
			t.Errorf("the copy holds %q", got)
		}
	})
}

func never(server.Status) bool { return false }

// The configuration lies outside the data directory, as Debian's packages have it,
// and is in no backup. It may allow less than the WAL demands, and names files of the
// original's server.
func TestConfigFile(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s, etc := newDebian(t)
	c := s.cluster
	c.Exec("CREATE TABLE note (what text); INSERT INTO note VALUES ('1')")
	s.backup()
	c.Exec("INSERT INTO note VALUES ('2')")
	s.archiveAll()
	pid := func() string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(etc, "server.pid"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}
	original := pid()

	to := filepath.Join(c.TempDir(t), "data")
	res := s.ends(exitUsage, append([]string{"restore", "--to", to, "-o", "json"}, startArgs(filepath.Dir(to))...)...)
	res.says(t, "--config-file", filepath.Join(etc, "postgresql.conf"))
	if _, err := os.Stat(to); !os.IsNotExist(err) {
		t.Errorf("the refused restore made %s", to)
	}

	r := s.restore("--config-file", filepath.Join(etc, "postgresql.conf"))
	if got := notes(t, r); got != "1 2" {
		t.Errorf("the copy holds %q", got)
	}
	for name, want := range map[string]string{
		"config_file": filepath.Join(etc, "postgresql.conf"), "hba_file": filepath.Join(etc, "pg_hba.conf"),
		"data_directory": r.dir, "archive_mode": "off", "work_mem": "5MB", "cluster_name": "conf.d was read",
	} {
		if got := value[string](t, r, "SHOW "+name); got != want {
			t.Errorf("the copy has %s %q, want %q", name, got, want)
		}
	}
	r.stop()
	if now := pid(); now != original {
		t.Errorf("the file with the original's process %s says %s", original, now)
	}

	// One for the copy alone, which knows nothing of the original.
	small := filepath.Join(c.TempDir(t), "small.conf")
	hba := filepath.Join(etc, "pg_hba.conf")
	writeFor(t, c, small, fmt.Sprintf("max_connections = 10\nhba_file = '%s'\nident_file = '%s'\n", hba, filepath.Join(etc, "pg_ident.conf")))
	r = s.restore("--config-file", small)
	if got := notes(t, r); got != "1 2" {
		t.Errorf("the copy with a small configuration holds %q", got)
	}
	if got := value[string](t, r, "SHOW max_connections"); got != "150" {
		t.Errorf("it has max_connections %s, and the WAL demands 150", got)
	}
	r.checkPages(t)

	// Without --start, whoever starts it brings the configuration.
	cold := s.restoreCold()
	copied := pgtest.Open(t, cold.dir, map[string]string{"config_file": small, "hot_standby": "on", "max_connections": "150"})
	copied.Eventually("the copy has left recovery", func() bool { return !pgtest.QueryValue[bool](copied, "SELECT pg_is_in_recovery()") })
	if got := pgtest.QueryValue[string](copied, "SELECT string_agg(what, ' ' ORDER BY what) FROM note"); got != "1 2" {
		t.Errorf("the copy started by hand holds %q", got)
	}
}

// newDebian is a site whose cluster has its configuration in another directory.
func newDebian(t *testing.T) (s *site, etc string) {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Stopped: true})
	etc = c.TempDir(t)
	for _, name := range []string{"postgresql.conf", "pg_hba.conf", "pg_ident.conf"} {
		data, err := os.ReadFile(filepath.Join(c.Dir, name))
		if err == nil {
			err = os.Remove(filepath.Join(c.Dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
		writeFor(t, c, filepath.Join(etc, name), string(data))
	}
	if err := os.Mkdir(filepath.Join(etc, "conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFor(t, c, filepath.Join(etc, "conf.d", "more.conf"), "work_mem = 5MB\ncluster_name = 'conf.d was read'\n")
	appendTo(t, filepath.Join(etc, "postgresql.conf"), fmt.Sprintf(
		"data_directory = '%s'\nhba_file = '%s'\nident_file = '%s'\nexternal_pid_file = '%s'\ninclude_dir = 'conf.d'\narchive_mode = on\nmax_connections = 150\n",
		c.Dir, filepath.Join(etc, "pg_hba.conf"), filepath.Join(etc, "pg_ident.conf"), filepath.Join(etc, "server.pid")))
	running := pgtest.Open(t, c.Dir, map[string]string{"config_file": filepath.Join(etc, "postgresql.conf")})
	s = siteOf(t, running, siteOptions{noArchive: true})
	running.Exec("ALTER SYSTEM SET archive_command = '" + strings.ReplaceAll(s.archiveCommand, "'", "''") + "'")
	running.Reload()
	return s, etc
}

// writeFor writes a file for the server's user.
func writeFor(t testing.TB, c *pgtest.Cluster, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, c.UID, c.GID); err != nil {
		t.Fatal(err)
	}
}
