package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// Clusters and repositories of other shapes: a load runs, a backup is made, and the
// end of the archive holds what was committed.
func TestShapes(t *testing.T) {
	t.Parallel()
	skipShort(t)
	for _, try := range []struct {
		name  string
		o     siteOptions
		args  []string
		plain bool
	}{
		{"1 MB segments, no compression", siteOptions{pg: pgtest.Options{WALSegmentMB: 1}, yaml: "backup: {compression: none}\nwal: {compression: none}"}, []string{"--workers", "1"}, false},
		{"64 MB segments, s2", siteOptions{pg: pgtest.Options{WALSegmentMB: 64}, yaml: "backup: {compression: s2}"}, []string{"--workers", "8"}, false},
		{"no checksums, not encrypted, zstd", siteOptions{pg: pgtest.Options{ChecksumsOff: true}, init: []string{"--no-encryption"}, yaml: "backup: {compression: zstd}\nwal: {compression: zstd}"}, nil, true},
		{"spread checkpoint", siteOptions{pg: pgtest.Options{Settings: map[string]string{"checkpoint_timeout": "30s", "checkpoint_completion_target": "0.1"}}}, []string{"--checkpoint", "spread"}, false},
	} {
		t.Run(try.name, func(t *testing.T) {
			s := newSite(t, try.o)
			load := s.cluster.Load(t, 2)
			load.WaitFor(100)
			b := s.backup(try.args...)
			load.WaitMore(200)
			ledger := load.Stop()
			s.archiveAll()
			r := s.restore("--workers", "4")
			if r.res.BackupID != b.ID {
				t.Errorf("backup %s was restored, want %s", r.res.BackupID, b.ID)
			}
			all := func(pgtest.Change) bool { return true }
			for _, d := range ledger.Compare(loadRows(t, r), all, all) {
				t.Error(d)
			}
			if found := s.contains("salvor salvor salvor"); found != try.plain && !strings.Contains(try.o.yaml, "zstd") {
				t.Errorf("what was stored can be read without a key: %v", found)
			}
			r.checkIndexes(t)
			if !try.o.pg.ChecksumsOff {
				r.checkPages(t)
			}
		})
	}
}

func loadRows(t testing.TB, r *restored) map[int64]int64 {
	t.Helper()
	rows := map[int64]int64{}
	c := r.conn(t, "postgres")
	defer c.Close()
	err := c.Rows(t.Context(), "SELECT id, version FROM public."+pgtest.LoadTable, nil, func(scan func(...any) error) error {
		var id, version int64
		err := scan(&id, &version)
		rows[id] = version
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// contains says whether any object holds the words.
func (s *site) contains(words string) bool {
	s.t.Helper()
	for _, path := range s.objects("/") {
		data, err := os.ReadFile(path)
		if err != nil {
			s.t.Fatal(err)
		}
		if strings.Contains(string(data), words) {
			return true
		}
	}
	return false
}

// A rate limit is kept, by all workers together.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	began := time.Now()
	b := s.backup("--rate-limit", "10MB", "--workers", "4")
	least := time.Duration(b.Read-4<<20) * time.Second / 10_000_000
	if took := time.Since(began); took < least {
		t.Errorf("%d bytes at 10 MB a second took %s, want %s at least", b.Read, took, least)
	}
}

// Files that change while they are read: cut off, dropped, grown, and no relations.
func TestFilesChange(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	for _, name := range []string{"cut", "dropped", "grown", "moved"} {
		c.Exec(strings.Replace(kilometre, "road", name, 1))
	}
	space := filepath.Join(c.TempDir(t), "space")
	if err := os.Mkdir(space, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(space, c.UID, c.GID); err != nil {
		t.Fatal(err)
	}
	c.Exec("CREATE TABLESPACE space LOCATION '" + space + "'")
	oid := pgtest.QueryValue[int](c, "SELECT oid::int FROM pg_tablespace WHERE spcname = 'space'")
	if err := os.WriteFile(filepath.Join(c.Dir, "growing.conf"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(c.Dir, "growing.conf"), c.UID, c.GID); err != nil {
		t.Fatal(err)
	}
	r := s.begin("backup", "--rate-limit", "20MB", "-o", "json")
	for i := range 12 {
		time.Sleep(300 * time.Millisecond)
		switch i {
		case 2:
			c.Exec("DELETE FROM cut WHERE i > 100")
			c.Exec("VACUUM cut")
		case 3:
			c.Exec("DROP TABLE dropped; CHECKPOINT")
		case 5:
			c.Exec("ALTER TABLE moved SET TABLESPACE space; CHECKPOINT")
		case 7:
			c.Exec("TRUNCATE cut; INSERT INTO cut SELECT i, 'again' FROM generate_series(1, 5000) i")
		default:
			c.Exec("INSERT INTO grown SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 3000) i")
			appendTo(t, filepath.Join(c.Dir, "growing.conf"), "# "+strings.Repeat("more ", 1000)+"\n")
		}
	}
	if res := s.finish(r); res.code != exitDone {
		t.Fatal(res)
	}
	s.archiveAll()
	to := filepath.Join(c.TempDir(t), "space")
	copied := s.restore("--tablespace-map", fmt.Sprintf("%d=%s", oid, to))
	for _, table := range []string{"cut", "grown", "moved"} {
		q := "SELECT md5(string_agg(i || pad, ',' ORDER BY i, pad)) FROM public." + table
		if want, got := pgtest.QueryValue[string](c, q), value[string](t, copied, q); got != want {
			t.Errorf("table %s differs", table)
		}
	}
	if n := value[int](t, copied, "SELECT count(*) FROM pg_class WHERE relname = 'dropped'"); n != 0 {
		t.Error("the dropped table is there")
	}
	copied.checkIndexes(t)
	copied.checkPages(t)
}

func appendTo(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// A tablespace that comes while the checkpoint of a backup is under way is part of it.
func TestNewTablespace(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{pg: pgtest.Options{Settings: map[string]string{"checkpoint_timeout": "30s", "checkpoint_completion_target": "0.3"}}})
	c := s.cluster
	c.Exec(kilometre) // something for the checkpoint to spread
	space := tablespaceDir(t, c)
	r := s.begin("backup", "--checkpoint", "spread", "-o", "json")
	c.Eventually("the checkpoint begins", func() bool {
		return pgtest.QueryValue[bool](c, "SELECT count(*) > 0 FROM pg_stat_activity WHERE query ~ 'pg_backup_start' AND pid <> pg_backend_pid()")
	})
	c.Exec("CREATE TABLESPACE late LOCATION '" + space + "'")
	c.Exec("CREATE TABLE there TABLESPACE late AS SELECT 1 AS i")
	oid := pgtest.QueryValue[int](c, "SELECT oid::int FROM pg_tablespace WHERE spcname = 'late'")
	res := s.finish(r)
	if res.code != exitDone {
		t.Fatal(res)
	}
	// The WAL creates it once more, where it was: PostgreSQL replays it so, whatever
	// was mapped, and so the original must be away.
	s.archiveAll()
	to := filepath.Join(c.TempDir(t), "data")
	elsewhere := fmt.Sprintf("%d=%s", oid, filepath.Join(c.TempDir(t), "space"))
	s.ends(exitNotNow, "restore", "--to", to, "-o", "json").says(t, "refused", space, "not empty")
	s.ends(exitNotNow, "restore", "--to", to, "--tablespace-map", elsewhere, "-o", "json").says(t, "refused", "cannot be put in", space)
	c.Stop(server.Fast)
	if err := os.Rename(space, space+".gone"); err != nil {
		t.Fatal(err)
	}
	copied := s.restore()
	if n := value[int](t, copied, "SELECT count(*) FROM public.there"); n != 1 {
		t.Error("the copy lacks the table")
	}
}
