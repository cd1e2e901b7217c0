package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// disk is a small file system of its own.
type disk struct {
	t   *testing.T
	dir string
}

// newDisk mounts one at dir, for every user.
func newDisk(t *testing.T, dir, size string) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0777,size="+size); err != nil {
		t.Skipf("mounting a small file system is not allowed here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return &disk{t, dir}
}

// diskAnywhere mounts one at a place that every user can reach.
func diskAnywhere(t *testing.T, size string) *disk {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "salvor-disk-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return newDisk(t, dir, size)
}

func (d *disk) resize(size string) {
	d.t.Helper()
	if err := unix.Mount("", d.dir, "", unix.MS_REMOUNT, "size="+size); err != nil {
		d.t.Fatal(err)
	}
}

// fill leaves the disk as many bytes as given.
func (d *disk) fill(leave int64) {
	d.t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		d.t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(d.dir, "ballast"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if n := int64(st.Bavail)*st.Bsize - leave; n > 0 {
		if err := unix.Fallocate(int(f.Fd()), 0, 0, n); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *disk) free() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "ballast")); err != nil {
		d.t.Fatal(err)
	}
}

const noise = "CREATE TABLE noise AS SELECT gen_random_uuid() u, gen_random_uuid() v FROM generate_series(1, 400000)"

// A repository without room fails the backup, clearly. It leaves nothing, so that there
// is room for WAL, and for the next one when it needs less.
func TestRepositoryFull(t *testing.T) {
	t.Parallel()
	skipShort(t)
	d := diskAnywhere(t, "30m")
	s := newSite(t, siteOptions{repo: filepath.Join(d.dir, "repo")})
	s.cluster.Exec(noise)
	s.ends(1, "backup", "-o", "json").says(t, "no_space", "room")
	if list := s.backups(); len(list) != 0 {
		t.Errorf("listed: %+v", list)
	}
	s.leavesNothing()
	s.cluster.Exec("DROP TABLE noise; CHECKPOINT")
	// The archive may have filled the rest: make room, as the hint says.
	d.resize("300m")
	s.backup()
}

// WAL that a full repository does not take stays with the server, and is archived when
// there is room again: nothing that was committed meanwhile is lost.
func TestArchiveFull(t *testing.T) {
	t.Parallel()
	skipShort(t)
	d := diskAnywhere(t, "300m")
	s := newSite(t, siteOptions{repo: filepath.Join(d.dir, "repo")})
	b := s.backup()
	d.fill(1 << 20)
	s.cluster.Exec(noise + "; CREATE TABLE kept AS SELECT 42 AS n")
	s.cluster.SwitchWAL()
	s.cluster.Eventually("archive_command has failed", func() bool {
		return pgtest.QueryValue[int64](s.cluster, "SELECT failed_count FROM pg_stat_archiver") > 0
	})
	before := pgtest.QueryValue[string](s.cluster, "SELECT last_failed_wal FROM pg_stat_archiver")
	s.ends(1, "wal", "push", filepath.Join(s.cluster.Dir, "pg_wal", before), "-o", "json").says(t, "no_space", before)
	if there := s.objects("/" + before); len(there) != 0 {
		t.Errorf("half archived: %q", there)
	}
	s.ends(1, "backup", "-o", "json").says(t, "no_space")
	if list := s.backups(); len(list) != 1 || list[0].ID != b.ID {
		t.Errorf("listed: %+v", list)
	}
	d.free()
	s.archiveAll() // a new segment wakes the archiver up
	copied := s.restore()
	if n := value[int](t, copied, "SELECT n FROM public.kept"); n != 42 {
		t.Errorf("the copy has %d", n)
	}
	s.backup()
}

// A restore that finds no room says where, leaves no database, and succeeds over what
// it left when there is room.
func TestTargetFull(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec(noise)
	s.backup()
	s.archiveAll()
	d := diskAnywhere(t, "16m")
	to := filepath.Join(d.dir, "data")
	for range 2 { // also over what the first left
		s.ends(1, "restore", "--to", to, "-o", "json").says(t, "no_space", to, "room")
		if _, err := os.Stat(filepath.Join(to, "global", "pg_control")); err == nil {
			t.Fatal("there is a pg_control")
		}
	}
	d.resize("400m")
	s.ok("restore", "--to", to)

	// A segment for which there is no room is a fault, and not the archive's end.
	segments := s.objects("/wal/00000001/0")
	name := filepath.Base(segments[0])
	d.fill(1 << 20)
	dest := filepath.Join(d.dir, "RECOVERYXLOG")
	r := s.ends(exitFault, "wal", "fetch", name, dest)
	if !strings.Contains(r.stderr, dest) || !strings.Contains(r.stderr, "no space") {
		t.Errorf("it does not say what is full: %s", r)
	}
	if left, err := filepath.Glob(filepath.Join(d.dir, "*RECOVERYXLOG*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	if left, err := filepath.Glob(filepath.Join(d.dir, ".salvor*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	d.free()
	s.ok("wal", "fetch", name, dest)
}

// A database whose disk is full dies while it is backed up. The backup says so, and
// counts for nothing; the next one has everything that was committed.
func TestDatabaseFull(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec("CREATE TABLE kept AS SELECT 42 AS n")
	s.cluster.Stop("fast")
	wal := filepath.Join(s.cluster.Dir, "pg_wal")
	moved := wal + ".moved"
	if err := os.Rename(wal, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(wal, 0o700); err != nil {
		t.Fatal(err)
	}
	d := newDisk(t, wal, "200m")
	if out, err := exec.Command("cp", "-a", moved+"/.", wal).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chown(wal, s.cluster.UID, s.cluster.GID); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(moved); err != nil {
		t.Fatal(err)
	}
	s.cluster.Start()
	d.fill(0)
	// Whatever WAL is written next needs a new segment soon.
	r := s.begin("backup", "-o", "json")
	deadline := time.Now().Add(patience)
	for s.cluster.TryExec("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000))") == nil && time.Now().Before(deadline) {
	}
	res := s.finish(r)
	if res.code == exitDone {
		t.Fatalf("a backup of a database that died: %s", res)
	}
	if f := res.failure(t); f.Hint == "" {
		t.Errorf("no hint: %s", res)
	}
	if list := s.backups(); len(list) != 0 {
		t.Errorf("listed: %+v", list)
	}
	d.free()
	s.cluster.Kill9()
	s.cluster.Start()
	s.backup()
	s.archiveAll()
	s.cluster.Exec("CHECKPOINT")
	copied := s.restore()
	if n := value[int](t, copied, "SELECT n FROM public.kept"); n != 42 {
		t.Errorf("the copy has %d", n)
	}
}

// A repository whose storage goes away in the middle fails the backup, and nothing is
// written where it was. When it is back, the next backup succeeds.
func TestStorageGoesAway(t *testing.T) {
	t.Parallel()
	skipShort(t)
	d := diskAnywhere(t, "400m")
	real, mounted := filepath.Join(d.dir, "real"), filepath.Join(d.dir, "mounted")
	for _, dir := range []string{real, mounted} {
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	mount := func() {
		t.Helper()
		if err := unix.Mount(real, mounted, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	mount()
	s := newSite(t, siteOptions{repo: filepath.Join(mounted, "repo"), pg: pgtest.Options{Settings: map[string]string{"archive_timeout": "0"}}})
	b := s.backup()
	s.cluster.Exec(noise)
	r := s.begin("backup", "--rate-limit", "16MB", "-o", "json")
	s.cluster.Eventually("the backup has begun", func() bool { return len(s.objects("/running/")) > 0 })
	if err := unix.Unmount(mounted, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	res := s.finish(r)
	if res.code == exitDone {
		t.Fatalf("a backup into nothing: %s", res)
	}
	res.says(t, "repo")
	s.ends(exitRepository, "backups", "list", "-o", "json").says(t, "mounted")
	if left, err := os.ReadDir(mounted); err != nil || len(left) > 0 {
		t.Errorf("written below the mount point: %v, %v", left, err)
	}
	mount()
	t.Cleanup(func() {
		if err := unix.Unmount(mounted, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if list := s.backups(); len(list) != 1 || list[0].ID != b.ID {
		t.Errorf("listed: %+v", list)
	}
	second := s.backup()
	copied := s.restore("--backup", second.ID)
	if n := value[int](t, copied, "SELECT count(*) FROM public.noise"); n != 400000 {
		t.Errorf("the copy has %d rows", n)
	}
}
