package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// A damaged history keeps nobody from the timelines that do not need it, and a damaged
// head nobody from deleting other backups, or that one.
func TestDamageIsContained(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	c.Exec(kilometre)
	first := s.backup()
	c.Exec("INSERT INTO road VALUES (-1, 'later')")
	fork := pgtest.QueryValue[string](c, "SELECT pg_current_wal_insert_lsn()")
	s.archiveAll()
	path := filepath.Join(c.TempDir(t), "00000002.history")
	if err := os.WriteFile(path, fmt.Appendf(nil, "1\t%s\tno recovery target specified\n", fork), 0o644); err != nil {
		t.Fatal(err)
	}
	s.ok("wal", "push", path)
	history := s.objects("/wal/00000002/00000002.history")[0]
	name := strings.TrimPrefix(history, s.repo+"/")
	s.damage(history, -20)

	to := filepath.Join(c.TempDir(t), "refused")
	s.ends(exitRepository, "restore", "--to", to, "-o", "json").says(t, "damaged", name, "timeline 2")
	if r := s.ends(exitProblem, "wal", "status"); !strings.Contains(r.stdout+r.stderr, name) {
		t.Errorf("wal status does not name the history: %s", r)
	}
	s.ends(exitFault, "wal", "fetch", "00000002.history", filepath.Join(c.Dir, "pg_wal", "fetched"))
	// At its end PostgreSQL would ask for the history to know that timeline 2 is taken, and
	// must not be told that it is free: so far and no further.
	r := s.restore("--timeline", "1", "--lsn", fork, "--action", "pause")
	if n := value[int](t, r, "SELECT count(*) FROM public.road"); n != 60001 {
		t.Errorf("along timeline 1 there are %d rows", n)
	}

	second, third := s.backup("--kind", "full"), s.backup("--kind", "full")
	head := s.objects("/" + second.ID + "/head")[0]
	s.damage(head, 200)
	s.ok("backups", "delete", first.ID, "--yes")
	if r := s.ends(exitProblem, "backups", "list"); !strings.Contains(r.stderr, second.ID) {
		t.Errorf("the list does not name the damaged backup: %s", r)
	}
	s.ends(exitNotNow, "backups", "delete", third.ID, "--yes", "-o", "json").says(t, "last_backup")
	s.damage(head, 200) // mended
	s.restore("--backup", second.ID, "--timeline", "1", "--immediate", "--action", "pause")
	s.damage(head, 200)
	s.ok("backups", "delete", second.ID, "--yes")
	if left := s.objects(second.ID); len(left) > 0 {
		t.Errorf("left of the damaged backup: %q", left)
	}
	if list := s.backups(); len(list) != 1 || list[0].ID != third.ID {
		t.Errorf("there are %+v", list)
	}
}
