package system

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// What the source's configuration says of recovery was meant for another time: it
// neither adds a second target, nor delays, nor runs commands.
func TestLeftoverSettings(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	ran := filepath.Join(c.TempDir(t), "ran")
	for name, v := range map[string]string{
		"recovery_target_time": "2020-01-01 00:00:00+00", "recovery_target_action": "shutdown", "recovery_target_inclusive": "off",
		"recovery_target_timeline": "1", "recovery_min_apply_delay": "1h", "restore_command": "/bin/false",
		"archive_cleanup_command": "touch " + ran, "recovery_end_command": "touch " + ran,
	} {
		c.Set(name, v)
	}
	c.Exec("ALTER SYSTEM SET recovery_target_name = 'left over'")
	c.Exec("CREATE TABLE note (what text); INSERT INTO note VALUES ('1')")
	s.backup()
	c.Exec("INSERT INTO note VALUES ('2')")
	xid := pgtest.QueryValue[string](c, "SELECT xmin::text FROM note WHERE what = '2'")
	c.Exec("INSERT INTO note VALUES ('3')")
	s.archiveAll()
	for _, try := range []struct {
		args []string
		want string
	}{{nil, "1 2 3"}, {[]string{"--xid", xid}, "1 2"}, {[]string{"--immediate"}, "1"}} {
		r := s.restore(try.args...)
		if got := notes(t, r); got != try.want {
			t.Errorf("%q leads to %q, want %q", try.args, got, try.want)
		}
		r.exec(t, "CHECKPOINT")
		r.stop()
		r.start(nil) // and it starts again
		r.stop()
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a command of the source's configuration ran")
	}
}

// A restore point's name that occurs in the backup's own WAL too means the later one.
func TestRestorePointTwice(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	c.Exec("CREATE TABLE note (what text); INSERT INTO note VALUES ('1')")
	r := s.begin("backup", "--rate-limit", "20MB")
	c.Eventually("the backup copies", func() bool {
		return pgtest.QueryValue[bool](c, "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'salvor'") && len(s.objects("/packs/")) > 0
	})
	c.Exec("SELECT pg_create_restore_point('twice')")
	if res := s.finish(r); res.code != exitDone {
		t.Fatal(res)
	}
	c.Exec("INSERT INTO note VALUES ('2')")
	c.Exec("SELECT pg_create_restore_point('twice')")
	c.Exec("INSERT INTO note VALUES ('3')")
	s.archiveAll()
	if got := notes(t, s.restore("--restore-point", "twice")); got != "1 2" {
		t.Errorf("it leads to %q", got)
	}
}
