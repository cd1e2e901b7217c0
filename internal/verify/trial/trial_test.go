package trial

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/server"
	"github.com/salvor-dr/salvor/internal/repo"
)

// source is a cluster that was shut down, to be copied instead of restored.
type source struct {
	*pgtest.Cluster
	scratch string
}

func newSource(t *testing.T, o pgtest.Options, sql string) *source {
	t.Helper()
	s := &source{Cluster: pgtest.New(t, o)}
	s.scratch = s.TempDir(t)
	s.Exec(sql)
	return s
}

// copyTo is a Restorer that copies the data directory, such that its server recovers,
// from the WAL that is in it.
func (s *source) copyTo(_ context.Context, to Place, progress func(done, total uint64)) (Restored, error) {
	cmd := s.Command("cp", "-a", s.Dir+"/.", to.DataDir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return Restored{}, errors.New(string(out))
	}
	conf, err := os.OpenFile(filepath.Join(to.DataDir, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = conf.WriteString("restore_command = 'false'\nshared_preload_libraries = 'no_such_library'\nport = 1\n")
		err = errors.Join(err, conf.Close())
	}
	out, touch := s.Command("touch", filepath.Join(to.DataDir, "recovery.signal")).CombinedOutput()
	progress(1, 1)
	if err := errors.Join(err, touch); err != nil {
		return Restored{}, errors.Join(err, errors.New(string(out)))
	}
	return Restored{Size: 1}, nil
}

func (s *source) options(t *testing.T) Options {
	return Options{
		Goal:    Goal{Choice: catalog.Choice{Backup: catalog.Head{ID: "20261124T065100Z-1f3a5c", Version: pg.Version(s.Major * 10000), Checksums: true, Size: 1 << 20}}},
		Restore: s.copyTo, ScratchDir: s.scratch, Owner: Owner{s.UID, s.GID}, BinDir: s.BinDir, Database: "postgres", User: "postgres",
		Dump: DumpAll, Workers: 2, CheckTimeout: time.Minute, Clock: clock.System(), Events: Events{Warn: func(m string) { t.Log(m) }},
	}
}

// try runs a trial, which leaves nothing.
func (s *source) try(t *testing.T, o Options) Result {
	t.Helper()
	res, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.nothingLeft(t)
	return res
}

func (s *source) nothingLeft(t *testing.T) {
	t.Helper()
	if left, err := os.ReadDir(s.scratch); err != nil || len(left) > 0 {
		t.Errorf("left in the scratch directory: %v, %v", left, err)
	}
}

// names are the checks, with what became of them.
func names(r Result) []string {
	var list []string
	for _, c := range r.Checks {
		state := " failed"
		switch {
		case c.OK:
			state = " ok"
		case c.Skipped:
			state = " skipped"
		}
		list = append(list, c.Name+state)
	}
	return list
}

func kinds(r Result) []string {
	var list []string
	for _, p := range r.Problems {
		list = append(list, p.Kind)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

const shop = `
	CREATE TABLE orders AS SELECT i AS id, repeat(md5(i::text), 20) AS what FROM generate_series(1, 3000) i;
	CREATE INDEX orders_id ON orders (id);
	CREATE INDEX orders_what ON orders USING hash (what);
	CREATE UNLOGGED TABLE gone AS SELECT 1 AS n;
	CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no changes here'; END $$;
	CREATE EVENT TRIGGER refuse ON ddl_command_start EXECUTE FUNCTION refuse();`

func TestTrial(t *testing.T) {
	t.Parallel()
	s := newSource(t, pgtest.Options{}, shop)
	s.Exec("CREATE ROLE limited LOGIN")
	if err := s.TryExec("CREATE TABLE not_allowed ()"); err == nil {
		t.Fatal("the event trigger does not fire")
	}
	s.Exec(`CREATE DATABASE "odd = 'name'"`) // event triggers are not for databases
	s.Stop(server.Fast)

	t.Run("sound", func(t *testing.T) {
		o := s.options(t)
		o.User = "limited" // what a backup's role may do does not matter
		o.Checks = []SQLCheck{{SQL: "SELECT count(*) = 3000 FROM orders"}}
		var phases []string
		o.Events.Phase = func(p string) { phases = append(phases, p) }
		r := s.try(t, o)
		want := []string{"restore ok", "replay ok", "checksums ok", "start ok", "amcheck ok", "pg_dump ok", "sql: SELECT count(*) = 3000 FROM orders ok"}
		if got := names(r); !slices.Equal(got, want) || !r.OK() {
			t.Errorf("checks %q, problems %+v", got, r.Problems)
		}
		if r.CopySeconds <= 0 || r.ReplaySeconds <= 0 || r.RecoveredTo == 0 {
			t.Errorf("measured %+v", r)
		}
		if len(phases) != 7 {
			t.Errorf("phases %q", phases)
		}
	})
	t.Run("the operator's checks", func(t *testing.T) {
		o := s.options(t)
		o.CheckTimeout = 300 * time.Millisecond
		o.Dump = DumpSchema
		o.Checks = []SQLCheck{
			{Name: "false", SQL: "SELECT false"}, {Name: "null", SQL: "SELECT NULL::bool"}, {Name: "no boolean", SQL: "SELECT 'x'::text"},
			{Name: "no row", SQL: "SELECT true WHERE false"}, {Name: "wrong", SQL: "SELECT nothing"}, {Name: "nowhere", SQL: "SELECT true", Database: "none"},
			{Name: "slow", SQL: "SELECT pg_sleep(60) IS NULL"}, {Name: "true", SQL: "SELECT true", Database: "odd = 'name'"},
		}
		r := s.try(t, o)
		for _, c := range r.Checks {
			if q, is := strings.CutPrefix(c.Name, "sql: "); is && c.OK != (q == "true") {
				t.Errorf("%+v", c)
			}
		}
		if len(r.Problems) != 7 || !slices.Equal(kinds(r), []string{CheckFailed}) {
			t.Errorf("problems %+v", r.Problems)
		}
	})
	t.Run("damage in the repository", func(t *testing.T) {
		o := s.options(t)
		o.Restore = func(context.Context, Place, func(uint64, uint64)) (Restored, error) {
			return Restored{}, repo.Damaged("packs/x", "it is not what it was")
		}
		r := s.try(t, o)
		if len(r.Problems) != 1 || r.Problems[0].Kind != Damaged || r.Problems[0].Object != "packs/x" {
			t.Errorf("problems %+v", r.Problems)
		}
	})
	t.Run("no server", func(t *testing.T) {
		o := s.options(t)
		o.Restore = func(ctx context.Context, to Place, progress func(uint64, uint64)) (Restored, error) {
			r, err := s.copyTo(ctx, to, progress)
			return r, errors.Join(err, os.RemoveAll(filepath.Join(to.DataDir, "pg_wal")), os.RemoveAll(filepath.Join(to.DataDir, "base", "1")))
		}
		r := s.try(t, o)
		if !slices.Equal(kinds(r), []string{NotRecovered}) || !strings.Contains(r.Problems[0].Detail, "pg_wal") {
			t.Errorf("problems %+v", r.Problems)
		}
	})
	t.Run("no room", func(t *testing.T) {
		o := s.options(t)
		o.Goal.Choice.Backup.Size = 1 << 60
		var no *NoRoom
		if _, err := Run(t.Context(), o); !errors.As(err, &no) || no.Dir != s.scratch {
			t.Errorf("%v", err)
		}
		o = s.options(t)
		o.ScratchDir = filepath.Join(s.scratch, strings.Repeat("long", 20))
		if err := os.Mkdir(o.ScratchDir, 0o700); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(o.ScratchDir)
		if _, err := Run(t.Context(), o); !errors.As(err, new(*Unfit)) || !strings.Contains(err.Error(), "too long") {
			t.Errorf("%v", err)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		o := s.options(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("enough")
		o.Events.Phase = func(p string) {
			if p == "amcheck" {
				cancel(stop)
			}
		}
		if _, err := Run(ctx, o); !errors.Is(err, stop) && !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		s.nothingLeft(t)
	})
}

// What is wrong in a file is found: a page of a heap, of a B-tree, and of an index that
// only a checksum tells of.
func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	s := newSource(t, pgtest.Options{}, shop)
	path := func(relation string) string {
		return pgtest.QueryValue[string](s.Cluster, "SELECT pg_relation_filepath('"+relation+"')")
	}
	heap, tree, hash := path("orders"), path("orders_id"), path("orders_what")
	s.Stop(server.Fast)
	for _, d := range []struct {
		name, file string
		at         int64
		bytes      []byte
		checksums  bool
		want       []string
	}{
		{"checksum", hash, 8192 + 3000, []byte("damage"), true, []string{PageDamaged}},
		{"heap", heap, 3*8192 + 24, []byte{0x05, 0x80, 0x50, 0x00}, false, []string{IndexDamaged, TableDamaged}},
		{"tree", tree, 8192 + 8192 - 40, []byte{0xff, 0xff, 0xff, 0x7f}, false, []string{IndexDamaged}},
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := &source{s.Cluster, s.TempDir(t)}
			o := s.options(t)
			// Without the head's word checksums are not looked at, and then the server
			// must not look either, for what is meant to be found by amcheck.
			o.Goal.Choice.Backup.Checksums = d.checksums
			o.Dump = DumpSchema
			o.Restore = func(ctx context.Context, to Place, progress func(uint64, uint64)) (Restored, error) {
				r, err := s.copyTo(ctx, to, progress)
				if err != nil {
					return r, err
				}
				if !d.checksums {
					if out, err := s.Command("pg_checksums", "--disable", "-D", to.DataDir).CombinedOutput(); err != nil {
						return r, errors.New(string(out))
					}
				}
				f, err := os.OpenFile(filepath.Join(to.DataDir, d.file), os.O_WRONLY, 0)
				if err != nil {
					return r, err
				}
				_, err = f.WriteAt(d.bytes, d.at)
				return r, errors.Join(err, f.Close())
			}
			r := s.try(t, o)
			if got := kinds(r); !slices.Equal(got, d.want) {
				t.Fatalf("problems %+v, checks %+v", r.Problems, r.Checks)
			}
			if !slices.ContainsFunc(r.Problems, func(p catalog.Problem) bool { return p.File == d.file }) {
				t.Errorf("they do not name %s: %+v", d.file, r.Problems)
			}
		})
	}
}

// The oldest and the newest release take the settings, and have what is asked of them.
func TestReleases(t *testing.T) {
	t.Parallel()
	for _, major := range []int{pg.OldestMajor, pg.NewestMajor} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			pgtest.FindBin(t, major)
			s := newSource(t, pgtest.Options{Major: major}, "CREATE TABLE orders AS SELECT 1 AS id; CREATE INDEX ON orders (id)")
			s.Stop(server.Fast)
			r := s.try(t, s.options(t))
			if !r.OK() || len(r.Checks) != 6 || slices.ContainsFunc(r.Checks, func(c catalog.Check) bool { return !c.OK && !c.Skipped }) {
				t.Errorf("checks %+v, problems %+v", r.Checks, r.Problems)
			}
		})
	}
}
