package system

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

const kilometre = "CREATE TABLE road AS SELECT i, repeat(md5(i::text), 8) AS pad FROM generate_series(1, 60000) i"

// A backup that is killed leaves nothing that counts, and the next one cleans up.
func TestKillBackup(t *testing.T) {
	t.Parallel()
	skipShort(t)
	rng := rand.New(rand.NewPCG(seedOf(t), 2))
	s := newSite(t, siteOptions{})
	s.cluster.Exec(kilometre)
	began := time.Now()
	first := s.backup()
	usual := time.Since(began)
	for range 6 {
		r := s.begin("backup", "--rate-limit", "40MB")
		time.Sleep(time.Duration(rng.Int64N(int64(usual + time.Second))))
		r.signal(t, syscall.SIGKILL)
		res := s.finish(r)
		list := s.backups()
		switch {
		case len(list) == 2: // it was done, or killed after its head and before it could say so
			s.ok("verify", "--level", "data", list[1].ID)
			s.ok("backups", "delete", list[1].ID, "--yes")
		case res.code == exitDone || len(list) != 1 || list[0].ID != first.ID:
			t.Fatalf("after a killed backup there are %+v: %s", list, res)
		}
	}
	s.age(48 * time.Hour) // the grace period of what they left is over
	second := s.backup()
	if list := s.backups(); len(list) != 2 || list[1].ID != second.ID {
		t.Fatalf("after the last backup there are %+v", list)
	}
	if left := s.objects("/running/"); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
	r := s.restore("--backup", second.ID)
	if n := value[int](t, r, "SELECT count(*) FROM public.road"); n != 60000 {
		t.Errorf("the copy has %d rows", n)
	}
	s.ok("backups", "delete", first.ID, "--yes")
	s.ends(exitNotNow, "backups", "delete", second.ID, "--yes", "-o", "json").says(t, "last_backup")
	s.ok("backups", "delete", second.ID, "--yes", "--last")
	s.leavesNothing()
}

// Ctrl-C ends a backup with 130 and leaves nothing; meanwhile there is no second one.
func TestInterruptBackup(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec(kilometre)
	r := s.begin("backup", "--rate-limit", "1MB", "-o", "json")
	s.cluster.Eventually("the backup runs", func() bool { return len(s.objects("/running/")) > 0 })
	s.ends(exitNotNow, "backup", "-o", "json").says(t, "locked", "process")
	r.signal(t, syscall.SIGINT)
	if res := s.finish(r); res.code != exitCtrlC {
		t.Errorf("Ctrl-C ended it so: %s", res)
	}
	s.leavesNothing()
	if n := pgtest.QueryValue[int](s.cluster, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'salvor'"); n != 0 {
		s.cluster.Eventually("the session ends", func() bool {
			return pgtest.QueryValue[int](s.cluster, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'salvor'") == 0
		})
	}
	s.backup()
}

// A restore that is killed leaves no database, and the same command finishes it.
func TestKillRestore(t *testing.T) {
	t.Parallel()
	skipShort(t)
	rng := rand.New(rand.NewPCG(seedOf(t), 3))
	s := newSite(t, siteOptions{})
	s.cluster.Exec(kilometre)
	s.backup()
	root := s.cluster.TempDir(t)
	began := time.Now()
	s.ok("restore", "--to", filepath.Join(root, "whole"))
	usual := time.Since(began)
	dir := filepath.Join(root, "data")
	for range 8 {
		r := s.begin("restore", "--to", dir)
		time.Sleep(time.Duration(rng.Int64N(int64(usual))))
		r.signal(t, syscall.SIGKILL)
		if s.finish(r).code == exitDone || complete(dir) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if out, err := s.cluster.Command("postgres", "-D", dir, "-c", "listen_addresses=", "-k", root).CombinedOutput(); err == nil {
			t.Fatalf("a server started on an unfinished restore:\n%s", out)
		}
	}
	s.ok("restore", "--to", dir)
	if !complete(dir) {
		t.Fatal("the finished restore is not complete")
	}
	copied := &restored{s: s, dir: dir, sock: root}
	t.Cleanup(copied.stop)
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "log"), s.cluster.UID, s.cluster.GID); err != nil {
		t.Fatal(err)
	}
	copied.start(nil)
	if n := value[int](t, copied, "SELECT count(*) FROM public.road"); n != 60000 {
		t.Errorf("the copy has %d rows", n)
	}
	copied.checkPages(t)
}

// complete says whether a restored directory is a database. It is from the moment on
// when pg_control has its name: all the rest was durable before. Only the note that a
// restore was at work may be left.
func complete(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "global", "pg_control"))
	return err == nil
}

// Without its backup_label a restored directory would be corrupt: it must not start.
func TestDeletedLabel(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.backup()
	root := s.cluster.TempDir(t)
	dir := filepath.Join(root, "data")
	s.ok("restore", "--to", dir)
	for _, f := range []string{"backup_label", "recovery.signal"} {
		if err := os.Remove(filepath.Join(dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	out, err := s.cluster.Command("postgres", "-D", dir, "-c", "listen_addresses=", "-k", root).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "PANIC") {
		t.Errorf("want a panic: %v\n%s", err, out)
	}
}

// A push that is killed can be repeated, and what is fetched then is whole.
func TestKillPush(t *testing.T) {
	t.Parallel()
	skipShort(t)
	rng := rand.New(rand.NewPCG(seedOf(t), 4))
	s := newSite(t, siteOptions{noArchive: true})
	s.cluster.Exec(kilometre)
	file := pgtest.QueryValue[string](s.cluster, "SELECT pg_walfile_name(pg_current_wal_lsn())")
	s.cluster.SwitchWAL()
	path := filepath.Join(s.cluster.Dir, "pg_wal", file)
	dest := filepath.Join(s.dir, "fetched")
	for range 10 {
		r := s.begin("wal", "push", path)
		time.Sleep(time.Duration(rng.IntN(120)) * time.Millisecond)
		r.signal(t, syscall.SIGKILL)
		done := s.finish(r).code == exitDone
		switch res := s.run("wal", "fetch", file, dest); res.code {
		case exitDone:
			sameFile(t, path, dest)
		case exitAbsent:
			if done {
				t.Fatalf("pushed, and then absent: %s", res)
			}
		default:
			t.Fatal(res)
		}
	}
	s.ok("wal", "push", path)
	s.ok("wal", "push", path)
	s.ok("wal", "fetch", file, dest)
	sameFile(t, path, dest)
}

func sameFile(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Errorf("%s and %s differ", a, b)
	}
}
