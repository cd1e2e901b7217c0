package system

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// tablespaceDir makes a directory that a tablespace can be in.
func tablespaceDir(t testing.TB, c *pgtest.Cluster) string {
	t.Helper()
	dir := filepath.Join(c.TempDir(t), "space")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, c.UID, c.GID); err != nil {
		t.Fatal(err)
	}
	return dir
}

// contents tells the files below a directory, with their sizes and times.
func contents(t testing.TB, dir string) string {
	t.Helper()
	var all string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		all += fmt.Sprintln(path, info.Size(), info.Mode(), info.ModTime())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A tablespace that was created after the backup: PostgreSQL replays that at the
// original's place. No copy may come near that, and where the original is gone, it
// must come up.
func TestTablespaceInWAL(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	older := s.backup()
	c.Exec("CREATE TABLE before AS SELECT 1 AS i")
	space := tablespaceDir(t, c)
	c.Exec("CREATE TABLESPACE late LOCATION '" + space + "'")
	c.Exec("CREATE TABLE there WITH (autovacuum_enabled = off) TABLESPACE late AS SELECT i FROM generate_series(1, 1000) i; CHECKPOINT")
	oid := pgtest.QueryValue[int](c, "SELECT oid::int FROM pg_tablespace WHERE spcname = 'late'")
	s.archiveAll()

	was := contents(t, space)
	to := filepath.Join(c.TempDir(t), "data")
	elsewhere := fmt.Sprintf("%d=%s", oid, filepath.Join(c.TempDir(t), "space"))
	for _, args := range [][]string{{}, {"--plan"}, {"--takeover"}, {"--standby"}, {"--start"}} {
		args = append([]string{"restore", "--to", to, "-o", "json"}, args...)
		s.ends(exitNotNow, args...).says(t, "refused", space, fmt.Sprint(oid), "not empty", "newer backup", "another host")
	}
	refused := s.ends(exitNotNow, "restore", "--to", to, "--tablespace-map", elsewhere, "-o", "json")
	refused.says(t, "refused", "cannot be put in", space)
	m := regexp.MustCompile(`--lsn (\S+) --exclusive`).FindStringSubmatch(refused.failure(t).Hint)
	if m == nil {
		t.Fatalf("no position to recover to: %s", refused)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("a refused restore made its directory")
	}

	// Both ways out on this host: an earlier target, and a newer backup.
	early := s.restore("--lsn", m[1], "--exclusive")
	if n := value[int](t, early, "SELECT count(*) FROM public.before"); n != 1 {
		t.Error("the copy lacks a table")
	}
	newer := s.backup()
	s.archiveAll()
	moved := s.restore("--tablespace-map", elsewhere)
	if n := value[int](t, moved, "SELECT count(*) FROM public.there"); n != 1000 || moved.res.BackupID != newer.ID {
		t.Errorf("the copy of backup %s has %d rows, want 1000", moved.res.BackupID, n)
	}
	if now := contents(t, space); now != was {
		t.Errorf("the original's tablespace was\n%s\nand is\n%s", was, now)
	}

	// The original is gone, as on another host.
	moved.stop()
	c.Stop(server.Fast)
	if err := os.Rename(filepath.Dir(space), filepath.Dir(space)+".gone"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(space) + ".gone") })
	alone := s.restore("--backup", older.ID)
	if n := value[int](t, alone, "SELECT count(*) FROM public.there"); n != 1000 {
		t.Errorf("the copy has %d rows, want 1000", n)
	}
	alone.checkIndexes(t)
	alone.checkPages(t)
}
