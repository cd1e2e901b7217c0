package system

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// deltaDoc is what a delta restore adds to the document of a restore.
type deltaDoc struct {
	restoreDoc
	Compared int64 `json:"compared_bytes"`
	Kept     int64 `json:"kept_bytes"`
	Removed  int64 `json:"removed_count"`
}

// delta restores over what is in a directory.
func (s *site) delta(dir string, args ...string) deltaDoc {
	s.t.Helper()
	var d deltaDoc
	s.ok(append([]string{"restore", "--to", dir, "--delta", "--yes", "-o", "json"}, args...)...).decode(s.t, &d)
	return d
}

// picture tells all names below a directory, with their modes and owners, where links
// lead and what files hold, but for the file that says whose life the directory is.
func picture(t testing.TB, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, root)
		st := info.Sys().(*syscall.Stat_t)
		all[name] = fmt.Sprintf("%s %d:%d", info.Mode(), st.Uid, st.Gid)
		switch {
		case name == "/salvor.incarnation":
		case strings.HasPrefix(name, "/pg_tblspc/"): // each copy has its own place
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			all[name] += " " + to
			return err
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			all[name] += fmt.Sprintf(" %d %x", len(data), sha256.Sum256(data))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// same fails the test unless both directories hold the same.
func same(t testing.TB, plain, delta string) {
	t.Helper()
	if d := cmp.Diff(picture(t, plain), picture(t, delta)); d != "" {
		t.Errorf("%s and %s differ (-plain +delta)\n%s", plain, delta, d)
	}
}

// stateOf is a number for the rows of the table that these tests change.
const stateOf = "SELECT count(*) + sum(hashtext(t::text)::bigint) FROM public.road t"

// drift lets a copy live its own life: pages change, and files come, go, grow and shrink.
func drift(t testing.TB, r *restored) {
	t.Helper()
	for _, sql := range []string{
		"UPDATE public.road SET pad = 'drifted' WHERE i % 4000 = 7",
		"CREATE TABLE public.other AS SELECT i FROM generate_series(1, 20000) i",
		"CREATE DATABASE own", "DROP TABLE public.gone", "TRUNCATE public.shrunk",
		"INSERT INTO public.grown SELECT i FROM generate_series(1, 30000) i",
		"SELECT pg_create_physical_replication_slot('slot', true)",
		"ALTER SYSTEM SET work_mem = '5MB'", "SELECT pg_switch_wal()", "CHECKPOINT",
	} {
		r.exec(t, sql)
	}
}

// A copy that went on for a while, with a tablespace, becomes what a plain restore
// makes, by what differs; onto the same again next to nothing is fetched.
func TestDelta(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{pg: pgtest.Options{Settings: map[string]string{"autovacuum": "off"}}})
	c := s.cluster
	space := tablespaceDir(t, c)
	c.Exec("CREATE TABLESPACE space LOCATION '" + space + "'")
	oid := pgtest.QueryValue[int](c, "SELECT oid::int FROM pg_tablespace WHERE spcname = 'space'")
	c.Exec(kilometre)
	c.Exec("ALTER TABLE road SET TABLESPACE space")
	c.Exec("VACUUM FREEZE road") // with all hints on its pages: to read them does not change them
	c.Exec("CREATE TABLE gone (i int); CREATE TABLE shrunk AS SELECT i FROM generate_series(1, 30000) i; CREATE TABLE grown TABLESPACE space AS SELECT 1 AS i; CREATE UNLOGGED TABLE loose AS SELECT 1 AS i")
	first := s.backup()
	place := func() (string, []string) {
		dir := filepath.Join(c.TempDir(t), "space")
		return dir, []string{"--tablespace-map", fmt.Sprintf("%d=%s", oid, dir)}
	}
	mine, mapped := place()
	r := s.restore(append(mapped, "--backup", first.ID, "--immediate")...)
	drift(t, r)
	r.stop()
	c.Exec("UPDATE road SET pad = 'later' WHERE i % 5000 = 3; CREATE TABLE newer AS SELECT 1 AS i")
	want := pgtest.QueryValue[int64](c, stateOf)
	s.backup()
	s.archiveAll()

	theirs, elsewhere := place()
	plain := s.restoreCold(elsewhere...)
	if err := os.Remove(filepath.Join(plain.dir, "log")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var plan struct {
		Delta struct {
			Replaces struct {
				State    string `json:"state"`
				Timeline int    `json:"timeline"`
			} `json:"replaces"`
			Compared int64    `json:"compared_bytes"`
			Removed  int64    `json:"removed_count"`
			Some     []string `json:"removed"`
		} `json:"delta"`
	}
	before := picture(t, r.dir)
	s.ok(append(mapped, "restore", "--to", r.dir, "--delta", "--plan", "-o", "json")...).decode(t, &plan)
	s.ends(exitUsage, append(mapped, "restore", "--to", r.dir, "--delta", "-o", "json")...).says(t, "confirmation_required", r.dir, "timeline 2", "--yes")
	if d := cmp.Diff(before, picture(t, r.dir)); d != "" {
		t.Fatalf("neither planned nor confirmed, and yet\n%s", d)
	}
	d := s.delta(r.dir, mapped...)
	same(t, plain.dir, r.dir)
	same(t, theirs, mine)
	if p := plan.Delta; p.Replaces.State != "shut down" || p.Replaces.Timeline != 2 || p.Compared < 10<<20 || p.Removed != d.Removed-1 /* pg_control */ || !slices.Contains(p.Some, "pg_wal/00000002.history") {
		t.Errorf("the plan is %+v", plan)
	}
	t.Logf("plain %+v, delta %+v", plain.res, d)
	if d.FetchedBytes*3 > plain.res.FetchedBytes || d.WrittenBytes*3 > plain.res.WrittenBytes || d.RestoredBytes != plain.res.RestoredBytes || d.Removed < 200 {
		t.Errorf("plain %+v, delta %+v", plain.res, d)
	}

	again := s.delta(plain.dir, elsewhere...)
	same(t, r.dir, plain.dir)
	if again.WrittenBytes > 32<<10 || again.FetchedBytes > plain.res.FetchedBytes/20 || again.Kept != again.Compared {
		t.Errorf("onto the same: %+v", again)
	}

	if err := os.MkdirAll(filepath.Join(r.dir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(r.dir, "log"), c.UID, c.GID); err != nil {
		t.Fatal(err)
	}
	r.start(nil)
	r.leftRecovery(t)
	if got := value[int64](t, r, stateOf); got != want {
		t.Error("it has other rows")
	}
	r.checkIndexes(t)
	r.checkPages(t)
}

func read(t testing.TB, r *restored, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A delta restore that is killed leaves no database, and the same command makes it what
// a plain one makes; a plain one says so.
func TestKillDelta(t *testing.T) {
	t.Parallel()
	skipShort(t)
	rng := rand.New(rand.NewPCG(seedOf(t), 6))
	s := newSite(t, siteOptions{})
	c := s.cluster
	c.Exec(kilometre + "; CREATE TABLE gone (i int); CREATE TABLE shrunk AS SELECT 1 AS i; CREATE TABLE grown (i int)")
	s.backup()
	s.archiveAll()
	plain := s.restoreCold()
	if err := os.Remove(filepath.Join(plain.dir, "log")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	r := s.restore()
	drift(t, r)
	r.stop()
	old := r.dir + ".old"
	if err := os.Rename(r.dir, old); err != nil {
		t.Fatal(err)
	}
	reset := func() {
		t.Helper()
		if err := os.RemoveAll(r.dir); err != nil {
			t.Fatal(err)
		}
		if out, err := c.Command("cp", "-a", old, r.dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	reset()
	began := time.Now()
	s.delta(r.dir)
	usual := time.Since(began)
	same(t, plain.dir, r.dir)
	reset()
	untouched := picture(t, r.dir)
	killed := 0
	for i := range 7 {
		run := s.begin("restore", "--to", r.dir, "--delta", "--yes")
		if i == 0 {
			time.Sleep(time.Duration(rng.Int64N(int64(usual))))
		} else { // when it has begun to change something
			for limit := time.Now().Add(5 * usual); missing(r.dir, "salvor.restoring") && time.Now().Before(limit); {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Duration(rng.Int64N(int64(usual / 4))))
		}
		run.signal(t, syscall.SIGKILL)
		s.finish(run)
		over := missing(r.dir, "salvor.restoring")
		switch {
		case !over && !complete(r.dir):
			killed++
			if out, err := c.Command("postgres", "-D", r.dir, "-c", "listen_addresses=", "-k", r.sock).CombinedOutput(); err == nil {
				t.Fatalf("a server started on it:\n%s", out)
			}
			s.ends(exitNotNow, "restore", "--to", r.dir, "-o", "json").says(t, "refused", "cut off", "--delta")
			if rng.IntN(2) == 0 {
				continue // the next one goes on where it was killed
			}
			s.delta(r.dir)
			same(t, plain.dir, r.dir)
		case over && !maps.Equal(untouched, picture(t, r.dir)): // it was over
			same(t, plain.dir, r.dir)
		}
		reset()
	}
	if killed == 0 {
		t.Error("it was never killed in the middle")
	}
	t.Logf("killed %d times in the middle; it takes %s", killed, usual)
	s.delta(r.dir)
	same(t, plain.dir, r.dir)
}

// missing says whether a directory has no such name.
func missing(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return err != nil
}

// Mount points stay, and what is on one that the backup does not know; what a wanted
// one holds becomes the backup's. lost+found of a mount stays, and elsewhere goes.
func TestDeltaMounts(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	s.backup()
	s.archiveAll()
	r := s.restoreCold()
	put := func(name string) {
		t.Helper()
		path := filepath.Join(r.dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.WriteFile(path, []byte("x"), 0o600)
		}
		if err == nil {
			err = filepath.WalkDir(r.dir, func(path string, _ fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				return os.Lchown(path, c.UID, c.GID)
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("extra/deep/file")
	newDisk(t, filepath.Join(r.dir, "extra", "deep"), "1m")
	newDisk(t, filepath.Join(r.dir, "pg_stat_tmp"), "1m")
	wal := filepath.Join(r.dir, "pg_wal") // a link to where something is mounted
	if err := os.RemoveAll(wal); err != nil {
		t.Fatal(err)
	}
	disk := diskAnywhere(t, "1m").dir
	if err := os.Chown(disk, c.UID, c.GID); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(disk, wal); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"extra/deep/precious", "extra/trash", "pg_wal/000000010000000000000009", "pg_wal/lost+found/1", "pg_stat_tmp/lost+found/4", "pg_stat_tmp/old", "lost+found/2", "base/lost+found/3"} {
		put(name)
	}
	res := s.run("restore", "--to", r.dir, "--delta", "--yes")
	if res.code != exitDone || !strings.Contains(res.stderr, filepath.Join(r.dir, "extra", "deep")+" is a mount point") {
		t.Fatal(res)
	}
	for name, stays := range map[string]bool{"extra/deep/precious": true, "extra/trash": false, "pg_wal/000000010000000000000009": false,
		"pg_wal/lost+found/1": true, "pg_stat_tmp/lost+found/4": true, "pg_stat_tmp/old": false, "lost+found/2": false, "base/lost+found/3": false, "pg_wal/archive_status": true, "global/pg_control": true} {
		if _, err := os.Lstat(filepath.Join(r.dir, name)); (err == nil) != stays {
			t.Errorf("%s: want that it stays: %v; %v", name, stays, err)
		}
	}
}

// What a delta restore must not touch, it refuses, and does not touch.
func TestDeltaRefusals(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	space := tablespaceDir(t, c)
	c.Exec("CREATE TABLESPACE space LOCATION '" + space + "'")
	c.Exec("CREATE TABLE there TABLESPACE space AS SELECT 1 AS i")
	s.backup()
	s.archiveAll()
	refused := func(dir string, words ...string) {
		t.Helper()
		s.ends(exitNotNow, "restore", "--to", dir, "--delta", "--yes", "-o", "json").says(t, append(words, "refused")...)
	}
	refused(c.Dir, "runs in")
	home := c.TempDir(t)
	if err := os.WriteFile(filepath.Join(home, "letter"), []byte("dear"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := pgtest.New(t, pgtest.Options{Stopped: true})
	// A copy made with cp has links to the original's tablespaces.
	copied := filepath.Join(c.TempDir(t), "copied")
	if out, err := c.Command("cp", "-a", c.Dir, copied).CombinedOutput(); err != nil {
		t.Logf("cp beside a running server: %v\n%s", err, out)
	}
	if err := os.Remove(filepath.Join(copied, "postmaster.pid")); err != nil {
		t.Fatal(err)
	}
	foreign, theirs, linked := picture(t, other.Dir), picture(t, space), picture(t, copied)
	system := func(dir string) string {
		out, err := c.Command("pg_controldata", "-D", dir).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		_, after, _ := strings.Cut(string(out), "Database system identifier:")
		id, _, _ := strings.Cut(strings.TrimSpace(after), "\n")
		return id
	}
	refused(other.Dir, "another cluster", system(other.Dir), system(c.Dir))
	refused(home, "letter", "no data directory of PostgreSQL")
	refused(copied, space, "belongs to the server that runs in", c.Dir, "--tablespace-map")
	for dir, was := range map[string]map[string]string{other.Dir: foreign, space: theirs, copied: linked} {
		if d := cmp.Diff(was, picture(t, dir)); d != "" {
			t.Errorf("%s was refused, and yet\n%s", dir, d)
		}
	}
	if data, err := os.ReadFile(filepath.Join(home, "letter")); err != nil || string(data) != "dear" {
		t.Error(err)
	}
}

// A former primary that lived on after another took over becomes the new one's standby,
// and then takes over itself.
func TestDeltaFormerPrimary(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	c.Exec(kilometre + "; CREATE TABLE note (what text); INSERT INTO note VALUES ('1')")
	s.backup()
	s.archiveAll()
	two := s.restore("--takeover")
	two.exec(t, "INSERT INTO public.note VALUES ('2taken')")
	// The original does not know, and its WAL is in its own place.
	space := tablespaceDir(t, c)
	for _, sql := range []string{"INSERT INTO note VALUES ('3original')", "UPDATE road SET pad = 'original' WHERE i % 3000 = 1",
		"CREATE TABLESPACE lost LOCATION '" + space + "'", "CREATE TABLE lost TABLESPACE lost AS SELECT 1 AS i"} {
		c.Exec(sql)
	}
	c.Kill9()
	over := s.at(two)
	over.backup()
	two.exec(t, "INSERT INTO public.note VALUES ('4after')")
	two.archived(t)

	former := &restored{s: s, dir: c.Dir, sock: c.TempDir(t)}
	t.Cleanup(former.stop)
	d := over.delta(c.Dir, "--standby")
	if d.Kept*2 < d.RestoredBytes {
		t.Errorf("of what it had little was kept: %+v", d)
	}
	if err := os.MkdirAll(filepath.Join(c.Dir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(c.Dir, "log"), c.UID, c.GID); err != nil {
		t.Fatal(err)
	}
	former.start(nil)
	c.Eventually("the former primary follows", func() bool { return notes(t, former) == "1 2taken 4after" })
	two.exec(t, "INSERT INTO public.note VALUES ('5last')")
	two.archived(t)
	c.Eventually("it goes on following", func() bool { return notes(t, former) == "1 2taken 4after 5last" })
	if !value[bool](t, former, "SELECT pg_is_in_recovery()") {
		t.Error("it is no standby")
	}
	if identity(t, former) != identity(t, two) {
		t.Error("it is another life than the primary")
	}

	former.stop()
	two.stop()
	life := identity(t, two)
	over.delta(c.Dir, "--takeover")
	former.start(nil)
	former.leftRecovery(t)
	if got := notes(t, former); got != "1 2taken 4after 5last" {
		t.Errorf("after the takeover it has %q", got)
	}
	if identity(t, former) == life || value[string](t, former, "SHOW archive_mode") != "on" {
		t.Error("it has not taken over")
	}
	former.archived(t)
	former.checkIndexes(t)
	former.checkPages(t)
}

// identity is the incarnation of a data directory.
func identity(t testing.TB, r *restored) string {
	t.Helper()
	_, after, ok := strings.Cut(string(read(t, r, "salvor.incarnation")), `"incarnation":"`)
	id, _, _ := strings.Cut(after, `"`)
	if !ok || id == "" {
		t.Fatalf("%s does not say which life it is", r.dir)
	}
	return id
}
