package walrec

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/pg"
)

// TestRealServerOverwritesRecord crashes a server whose last record begins in
// one segment and ends in the next, and takes the second segment away, as a
// crash before its write would (after 026_overwrite_contrecord.pl of
// PostgreSQL's recovery tests).
func TestRealServerOverwritesRecord(t *testing.T) {
	if testing.Short() {
		t.Skip("runs servers for some seconds")
	}
	for _, major := range liveMajors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			s := newServer(t, major)
			s.start()
			s.sql("create table t (i int)")
			s.switchWAL()
			s.sql("checkpoint; select pg_logical_emit_message(false, 'fill', repeat('x', 600000));")
			first := s.sql("insert into t values (1); select pg_walfile_name(pg_current_wal_insert_lsn());")[0]
			s.sql("select pg_logical_emit_message(false, 'cut', repeat('y', 600000)); insert into t values (2);")
			s.archived(first)
			s.run("pg_ctl", "stop", "-m", "immediate", "-D", s.data)
			removeAfter(t, filepath.Join(s.data, "pg_wal"), first)
			s.start()
			s.sql("insert into t values (3)")
			second := s.switchWAL()
			s.stop()

			var all []byte
			var indexes []Index
			for _, name := range []string{first, second} {
				b, err := os.ReadFile(filepath.Join(s.archive, name))
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, b...)
				indexes = append(indexes, mustScan(t, b))
			}
			whole := mustScan(t, all)
			if d := cmp.Diff(whole.Events, joined(t, indexes)); d != "" {
				t.Error(d)
			}
			checkOverwrite(t, s, whole, indexes[1], first, second)
		})
	}
}

// removeAfter removes the segments after the given one.
func removeAfter(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	removed := 0
	for _, e := range entries {
		if n := e.Name(); len(n) == 24 && n > name {
			if err := os.Remove(filepath.Join(dir, n)); err != nil {
				t.Fatal(err)
			}
			removed++
		}
	}
	if removed == 0 {
		t.Fatal("no segment held the rest of the record")
	}
}

func checkOverwrite(t *testing.T, s *server, whole, second Index, names ...string) {
	t.Helper()
	if second.Head != nil || len(second.Events) == 0 || second.Events[0].Kind != Overwrite {
		t.Fatalf("the second segment has head %+v and events %+v", second.Head, second.Events)
	}
	e := second.Events[0]
	if since := time.Since(e.Time); since < 0 || since > 10*time.Minute {
		t.Errorf("overwritten at %s", e.Time)
	}
	if e.Overwritten <= whole.From || e.Overwritten >= second.From || e.LSN != second.From+LongHeaderSize {
		t.Errorf("%+v", e)
	}
	if _, err := os.Stat(filepath.Join(s.bin, "pg_waldump")); err != nil {
		return
	}
	out := s.run("pg_waldump", "-p", s.archive, names[0], names[1])
	m := regexp.MustCompile(`lsn: (\S+), prev \S+, desc: OVERWRITE_CONTRECORD lsn ([^;]+); time (\S+ \S+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("pg_waldump shows none:\n%s", out)
	}
	if got := fmt.Sprint(e.LSN, e.Overwritten, e.Time.Format(" 2006-01-02 15:04:05.000000")); got != fmt.Sprint(mustLSN(t, m[1]), mustLSN(t, m[2]), " "+m[3]) {
		t.Errorf("got %s, pg_waldump shows %s", got, m[1:])
	}
}

func mustLSN(t *testing.T, s string) pg.LSN {
	t.Helper()
	l, err := pg.ParseLSN(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
