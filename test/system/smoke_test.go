package system

import (
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// A backup, one commit more, and back to before and to after it.
func TestSmoke(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{})
	c := s.cluster
	c.Exec("CREATE TABLE dish (name text); INSERT INTO dish VALUES ('soup')")
	b := s.backup()
	if b.Kind != "full" || b.Size == 0 || b.Stored == 0 || b.Stored >= b.Size || b.Timeline != 1 {
		t.Errorf("the backup says: %+v", b)
	}
	if list := s.backups(); len(list) != 1 || list[0].ID != b.ID {
		t.Fatalf("the list says: %+v", list)
	}
	between := pgtest.QueryValue[string](c, "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.USZ')")
	c.Exec("INSERT INTO dish VALUES ('noodles')")
	s.archiveAll()

	before := s.restore("--at", between)
	if n := value[int](t, before, "SELECT count(*) FROM public.dish"); n != 1 {
		t.Errorf("before the insert there were %d dishes", n)
	}
	if value[bool](t, before, "SELECT pg_is_in_recovery()") {
		t.Error("the copy still recovers")
	}
	before.checkIndexes(t)
	before.checkPages(t)

	after := s.restore()
	if n := value[int](t, after, "SELECT count(*) FROM public.dish"); n != 2 {
		t.Errorf("after the insert there were %d dishes", n)
	}
	s.ok("wal", "status")
}
