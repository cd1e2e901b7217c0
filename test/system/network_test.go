package system

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/store/s3/s3test"
)

// distant is a site whose repository is in a bucket, behind a network that can be cut.
type distant struct {
	*site
	network *s3test.Proxy
	bucket  string // the directory of its objects
}

// newDistant makes one with an archive, and a table of 48 MB that no codec makes smaller.
func newDistant(t *testing.T) *distant {
	t.Helper()
	srv := s3test.Start(t)
	network := s3test.NewProxy(t, srv.Endpoint)
	behind := s3test.Server{Endpoint: network.Endpoint(), AccessKey: srv.AccessKey}
	bucket := srv.Bucket(t)
	d := &distant{newS3Site(t, &behind, bucket, srv.SecretKey), network, filepath.Join(srv.Dir, bucket)}
	var done struct {
		ArchiveCommand string `json:"archive_command"`
	}
	d.ok("init", "-o", "json").decode(t, &done)
	d.cluster.Set("archive_command", "true") // the table's WAL is not what is tested
	d.cluster.Exec(strings.Replace(lumber, "400000", "160000", 1))
	d.cluster.Exec("CHECKPOINT")
	d.cluster.SwitchWAL()
	d.cluster.Set("archive_command", done.ArchiveCommand)
	return d
}

// patient sets for how long requests are tried again.
func (d *distant) patient(retryFor string) {
	d.t.Helper()
	text, err := os.ReadFile(d.config)
	if err != nil {
		d.t.Fatal(err)
	}
	lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(l string) bool { return strings.Contains(l, "retry_for") })
	all := strings.TrimSpace(strings.Join(lines, "\n")) + "\n    retry_for: " + retryFor + "\n"
	if err := os.WriteFile(d.config, []byte(all), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// packs counts the packs that are complete.
func (d *distant) packs() (n int) {
	d.t.Helper()
	err := filepath.WalkDir(d.bucket, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.Contains(path, "/packs/") && strings.Contains(path, "some/where/clusters/") {
			n++
		}
		return nil // what is being written comes and goes
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// during begins a command, and cuts the network when something has come of it.
func (d *distant) during(what string, come func() bool, args ...string) *running {
	d.t.Helper()
	r := d.begin(append(args, "-o", "json")...)
	d.cluster.Eventually(what, come)
	d.network.Cut()
	return r
}

// slowBackup are the arguments of a full backup that takes some seconds.
func slowBackup() []string {
	return []string{"backup", "--kind", "full", "--rate-limit", "30MB", "--workers", "1"}
}

// whole restores, and fails unless all of the table is there.
func (d *distant) whole(args ...string) {
	d.t.Helper()
	r := d.restore(args...)
	if n := value[int](d.t, r, "SELECT count(DISTINCT pad) FROM public.lumber"); n != 160000 {
		d.t.Errorf("the copy has %d rows", n)
	}
	r.checkPages(d.t)
}

// A network that is down for seconds is ridden out, by a backup, by WAL and by a
// restore: only the log tells of it.
func TestNetworkHiccup(t *testing.T) {
	t.Parallel()
	skipShort(t)
	d := newDistant(t)
	const down = 2 * time.Second
	r := d.during("a pack is there", func() bool { return d.packs() > 0 }, slowBackup()...)
	d.cluster.Exec("CREATE TABLE meanwhile AS SELECT 1 AS i")
	file := pgtest.QueryValue[string](d.cluster, "SELECT pg_walfile_name(pg_switch_wal())") // its push meets the outage, too
	time.Sleep(down)
	d.network.Mend()
	res := d.finish(r)
	if res.code != exitDone || !strings.Contains(res.stderr, "trying again") {
		t.Fatalf("the backup: %s", res)
	}
	d.cluster.WaitArchived(file)
	d.archiveAll()
	d.ok("wal", "status")

	dir := filepath.Join(d.cluster.TempDir(t), "data")
	r = d.during("files are restored", func() bool { return halfRestored(dir) }, "restore", "--to", dir)
	time.Sleep(down)
	d.network.Mend()
	if res := d.finish(r); res.code != exitDone || !complete(dir) {
		t.Errorf("the restore: %s", res)
	}
	d.whole()
}

// halfRestored says whether a restore has written some megabytes, and is not done.
func halfRestored(dir string) bool {
	var size int64
	_ = filepath.WalkDir(filepath.Join(dir, "base"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size > 8<<20
}

// A network that stays down ends a command with an error that says where and what to do,
// and nothing half-done counts. When it is back, the same command finishes.
func TestNetworkGone(t *testing.T) {
	t.Parallel()
	skipShort(t)
	d := newDistant(t)
	first := d.backup()
	before := d.packs()
	d.patient("1s")
	gone := func(res result) {
		t.Helper()
		if res.code != exitFailed {
			t.Fatalf("without a network: %s", res)
		}
		res.says(t, "store_unavailable", "s3://", "can it be reached")
	}

	r := d.during("another pack is there", func() bool { return d.packs() > before }, slowBackup()...)
	gone(d.finish(r))
	gone(d.run("backups", "list", "-o", "json"))
	d.cluster.Exec("CREATE TABLE meanwhile AS SELECT 1 AS i")
	file := pgtest.QueryValue[string](d.cluster, "SELECT pg_walfile_name(pg_switch_wal())")
	gone(d.run("wal", "push", filepath.Join(d.cluster.Dir, "pg_wal", file), "-o", "json"))
	d.network.Mend()

	if list := d.backups(); len(list) != 1 || list[0].ID != first.ID {
		t.Errorf("of the backup that was cut off there is: %+v", list)
	}
	var b struct {
		backup
		Adopted int64 `json:"adopted_bytes"`
	}
	d.ok("backup", "--kind", "full", "-o", "json").decode(t, &b)
	if b.Adopted < 8<<20 {
		t.Errorf("of %d packs %d bytes were adopted", d.packs(), b.Adopted)
	}
	d.cluster.WaitArchived(file)
	d.archiveAll()
	d.ok("wal", "status")

	dir := filepath.Join(d.cluster.TempDir(t), "data")
	r = d.during("files are restored", func() bool { return halfRestored(dir) }, "restore", "--to", dir)
	gone(d.finish(r))
	if complete(dir) {
		t.Error("half a restore has a pg_control")
	}
	d.network.Mend()
	d.ok("restore", "--to", dir)
	d.whole("--backup", b.ID, "--immediate")
}
