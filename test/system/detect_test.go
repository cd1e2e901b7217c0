package system

import (
	"os"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// By default an incremental backup reads what the WAL says has changed, and little
// else: over a crash and a promotion, too.
func TestDetectByWAL(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec("CREATE TABLE small (i int)")
	s.cluster.Exec(kilometre)
	s.cluster.Exec("VACUUM FREEZE") // or hints and frozen rows change all of it later
	full := s.backup()
	for _, turn := range []struct {
		name string
		do   func()
	}{
		{"at rest", func() {}},
		{"a crash", func() { s.round("!crash") }},
		{"a promotion", func() { s.round("!promote") }},
		{"many segments", func() {
			for range 40 {
				s.cluster.SwitchWAL()
				s.cluster.Exec("INSERT INTO small VALUES (1)")
			}
		}},
	} {
		turn.do()
		s.cluster.Exec("UPDATE road SET pad = 'new' WHERE i = 30000")
		b := s.backup()
		if b.Kind != "incremental" || b.Detector != "wal" {
			t.Fatalf("after %s the backup is %s, by %q", turn.name, b.Kind, b.Detector)
		}
		// The catalogue's maps and what is no relation are read whole.
		if b.PagesRead*4 > full.PagesRead || b.Read*3 > full.Read {
			t.Errorf("after %s %d pages and %d bytes were read; of the full backup %d and %d", turn.name, b.PagesRead, b.Read, full.PagesRead, full.Read)
		}
	}
	r := s.restore("--immediate")
	if n := value[int](t, r, "SELECT count(*) FROM public.road WHERE pad = 'new' AND i = 30000"); n != 1 {
		t.Errorf("of the row that changed %d are there", n)
	}
	if n := value[int](t, r, "SELECT count(*) FROM public.road"); n != 60000 {
		t.Errorf("the copy has %d rows", n)
	}
}

// Where the WAL cannot tell, every page is read, and the reason is said.
func TestDetectWithoutWAL(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec(kilometre)
	for _, c := range []struct {
		name string
		harm func(segment string) error
		says string
	}{
		{"lost", os.Remove, "neither in the repository nor in pg_wal"},
		{"damaged", func(path string) error { return os.Truncate(path, 5000) }, "cut short"},
	} {
		s.backup("--kind", "full")
		s.cluster.Exec("UPDATE road SET pad = $1 WHERE i % 7 = 0", c.name)
		name := pgtest.QueryValue[string](s.cluster, "SELECT pg_walfile_name(pg_current_wal_lsn())")
		s.cluster.SwitchWAL()
		s.cluster.WaitArchived(name)
		s.cluster.Exec("UPDATE road SET pad = $1 WHERE i % 7 = 1", c.name)
		for range 3 { // until the server needs the segment no more
			s.cluster.SwitchWAL()
			s.cluster.Exec("CHECKPOINT")
		}
		if err := os.Remove(s.cluster.Dir + "/pg_wal/" + name); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := c.harm(s.objects("/" + name)[0]); err != nil {
			t.Fatal(err)
		}
		s.ends(exitNotNow, "backup", "--detect", "wal", "-o", "json").says(t, "refused", name, c.says, "--detect lsn")
		res := s.ok("backup", "-o", "json")
		if !strings.Contains(res.stderr, "every page is read") || !strings.Contains(res.stderr, name) {
			t.Errorf("%s: the log does not say why:\n%s", c.name, res.stderr)
		}
		var b backup
		res.decode(t, &b)
		if b.Kind != "incremental" || b.Detector != "lsn" {
			t.Errorf("%s: the backup is %s, by %q", c.name, b.Kind, b.Detector)
		}
		r := s.restore("--immediate")
		if n := value[int](t, r, "SELECT count(*) FROM public.road WHERE pad = '"+c.name+"'"); n != 17143 {
			t.Errorf("%s: the copy has %d changed rows", c.name, n)
		}
		r.stop()
	}
}

// With wal_level=minimal tables are filled without WAL: what happened then is not taken
// from it.
func TestDetectOverMinimal(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{pg: pgtest.Options{Settings: map[string]string{"wal_keep_size": "1GB"}}})
	s.cluster.Exec(kilometre)
	s.backup()
	levels := func(level, senders, mode string) {
		s.cluster.Set("wal_level", level)
		s.cluster.Set("max_wal_senders", senders)
		s.cluster.Set("archive_mode", mode)
		s.cluster.Restart()
	}
	levels("minimal", "0", "off")
	s.round("BEGIN; TRUNCATE road; INSERT INTO road SELECT i, 'unlogged' FROM generate_series(1, 50000) i; COMMIT;")
	levels("replica", "10", "on")
	s.ends(exitNotNow, "backup", "--detect", "wal", "-o", "json").says(t, "refused", "wal_level was minimal")
	if b := s.backup(); b.Kind != "incremental" || b.Detector != "lsn" {
		t.Errorf("the backup is %s, by %q", b.Kind, b.Detector)
	}
	r := s.restore("--immediate")
	if n := value[int](t, r, "SELECT count(*) FROM public.road WHERE pad = 'unlogged'"); n != 50000 {
		t.Errorf("the copy has %d rows", n)
	}
	r.stop()
	if b := s.backup(); b.Detector != "wal" {
		t.Errorf("the next backup is found by %q", b.Detector)
	}
}
