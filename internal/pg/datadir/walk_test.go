package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// walked is a walk made readable: a line for each entry, and the skipped paths.
type walked struct {
	lines   []string
	entries map[string]Entry
	skipped map[string]string
}

func opts15() WalkOptions { return WalkOptions{Major: 15, CatalogVersion: 202209061} }

func walk(t *testing.T, root string, opts WalkOptions) walked {
	t.Helper()
	w := walked{entries: map[string]Entry{}, skipped: map[string]string{}}
	opts.Skipped = func(path, reason string) { w.skipped[path] = reason }
	err := Walk(root, opts, func(e Entry) error {
		if _, twice := w.entries[e.Path]; twice {
			t.Errorf("%s was given twice", e.Path)
		}
		w.entries[e.Path] = e
		w.lines = append(w.lines, line(e))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// line writes directories with a slash at the end, and tablespaces with their
// location after an arrow.
func line(e Entry) string {
	switch e.Kind {
	case KindDir:
		return e.Path + "/"
	case KindTablespace:
		return e.Path + " -> " + e.Link
	}
	return e.Path
}

// build makes files, and directories for paths that end with a slash. Each file
// has its own path as content.
func build(t testing.TB, root string, paths ...string) {
	t.Helper()
	for _, path := range paths {
		name := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, "/") {
			if err := os.MkdirAll(name, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(name, []byte(path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

func wantLines(t *testing.T, got walked, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got.lines); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func wantSkipped(t *testing.T, got walked, want ...string) {
	t.Helper()
	var paths []string
	for path, reason := range got.skipped {
		if reason == "" {
			t.Errorf("%s was skipped without a reason", path)
		}
		paths = append(paths, path)
	}
	slices.Sort(paths)
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
}

// One file or directory for each rule, beside others that only look alike.
func TestWalkLeavesOutWhatRulesSay(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	build(t, root,
		"PG_VERSION", "postgresql.auto.conf", "base/5/1259", "base/5/pg_filenode.map", "global/pg_control", "log/x.log",
		"my.postmaster.pid", "sub/backup_label", "sub/pg_wal/kept", "pg_wal2/kept", "base/pg_wal/kept", "a.DS_Store")
	for _, r := range Rules() {
		name := r.Name
		if r.Prefix {
			name += "123"
		}
		if r.Effect == LeaveContents {
			build(t, root, name+"/file", name+"/deeper/file")
			continue
		}
		build(t, root, name)
		if r.Place == Anywhere {
			build(t, root, "base/"+name, "base/5/"+name)
		}
	}
	build(t, root, "base/pgsql_tmp/pgsql_tmp1.0", "global/pg_internal.init.77")

	for major, summaries := range map[int][]string{15: nil, 17: {"pg_wal/summaries/"}} {
		o := opts15()
		o.Major = major
		got := walk(t, root, o)
		want := []string{
			"./", "PG_VERSION", "a.DS_Store", "base/", "base/5/", "base/5/1259", "base/5/pg_filenode.map",
			"base/pg_wal/", "base/pg_wal/kept", "global/", "global/pg_control", "log/", "log/x.log", "my.postmaster.pid",
			"pg_dynshmem/", "pg_notify/", "pg_replslot/", "pg_serial/", "pg_snapshots/", "pg_stat_tmp/", "pg_subtrans/",
			"pg_wal/", "pg_wal/archive_status/",
		}
		want = append(want, summaries...)
		want = append(want, "pg_wal2/", "pg_wal2/kept", "postgresql.auto.conf", "sub/", "sub/backup_label",
			"sub/pg_wal/", "sub/pg_wal/kept")
		wantLines(t, got, want...)
		wantSkipped(t, got)
	}
}

func TestRulesAreNotContradictory(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Rules() {
		if seen[r.Name] || r.Name == "" || r.Reason == "" || r.Place == 0 || r.Effect == 0 {
			t.Errorf("rule %+v is incomplete or there twice", r)
		}
		seen[r.Name] = true
	}
}

func TestWalkLeavesOutUnloggedAndTemporaryRelations(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, dir := range []string{"base/5/", "global/", "pg_tblspc/16389/PG_15_202209061/5/"} {
		build(t, root, dir+"10", dir+"10.1", dir+"10.2", dir+"10_fsm", dir+"10_vm", dir+"10_init", // unlogged
			dir+"100", dir+"100_fsm", dir+"1", // not, though the numbers begin alike
			dir+"t3_10", dir+"t3_10_fsm", dir+"t3_10.1", dir+"t3_x")
	}
	build(t, root, "log/10", "log/10_init", "log/t3_10") // no relations here
	in := func(dir string, names ...string) (paths []string) {
		for _, name := range names {
			paths = append(paths, dir+name)
		}
		return paths
	}
	want := append([]string{"./", "base/", "base/5/"}, in("base/5/", "1", "100", "100_fsm", "10_init", "t3_x")...)
	want = append(want, "global/")
	want = append(want, in("global/", "1", "100", "100_fsm", "10_init", "t3_10", "t3_10.1", "t3_10_fsm", "t3_x")...)
	want = append(want, "log/", "log/10", "log/10_init", "log/t3_10",
		"pg_tblspc/", "pg_tblspc/16389 -> ", "pg_tblspc/16389/PG_15_202209061/", "pg_tblspc/16389/PG_15_202209061/5/")
	want = append(want, in("pg_tblspc/16389/PG_15_202209061/5/", "1", "100", "100_fsm", "10_init", "t3_x")...)
	got := walk(t, root, opts15())
	wantLines(t, got, want...)
	e := got.entries["pg_tblspc/16389/PG_15_202209061/5/10_init"]
	if want := (Relation{16389, 5, 10, ForkInit, 0}); !e.IsRelation || e.Relation != want {
		t.Errorf("the init fork is %+v", e)
	}
}

func TestWalkEntersOnlyItsOwnVersionInTablespaces(t *testing.T) {
	t.Parallel()
	out, root := t.TempDir(), t.TempDir()
	for _, name := range []string{"a", "ab", "a b\n\\", "behind"} {
		build(t, out, name+"/PG_15_202209061/5/2619", name+"/PG_14_202107181/5/2619", name+"/PG_15_2022090611/5/1", name+"/file")
	}
	build(t, out, "empty/", "file")
	build(t, root, "PG_VERSION", "pg_tblspc/7/PG_15_202209061/5/1", "pg_tblspc/7/PG_16_202307071/5/1",
		"pg_tblspc/readme", "pg_tblspc/07/x")
	link(t, filepath.Join(out, "behind"), filepath.Join(out, "before"))
	relative, err := filepath.Rel(filepath.Join(root, "pg_tblspc"), filepath.Join(out, "ab"))
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]string{
		"1": filepath.Join(out, "a"), "2": relative, "3": filepath.Join(out, "a b\n\\"), "4": filepath.Join(out, "before"),
		"5": filepath.Join(out, "empty"), "6": filepath.Join(out, "gone"), "8": filepath.Join(out, "file"), "x": out,
	}
	for oid, target := range targets {
		link(t, target, filepath.Join(root, "pg_tblspc", oid))
	}
	got := walk(t, root, opts15())
	want := []string{"./", "PG_VERSION", "pg_tblspc/", "pg_tblspc/07/", "pg_tblspc/07/x"}
	for _, oid := range []string{"1", "2", "3", "4"} {
		p := "pg_tblspc/" + oid
		want = append(want, p+" -> "+targets[oid], p+"/PG_15_202209061/", p+"/PG_15_202209061/5/", p+"/PG_15_202209061/5/2619")
	}
	want = append(want, "pg_tblspc/5 -> "+targets["5"], "pg_tblspc/6 -> "+targets["6"],
		"pg_tblspc/7 -> ", "pg_tblspc/7/PG_15_202209061/", "pg_tblspc/7/PG_15_202209061/5/", "pg_tblspc/7/PG_15_202209061/5/1",
		"pg_tblspc/8 -> "+targets["8"], "pg_tblspc/readme")
	wantLines(t, got, want...)
	wantSkipped(t, got, "pg_tblspc/6", "pg_tblspc/8", "pg_tblspc/x")
}

func TestTablespaceInsideTheDataDirectoryIsWalkedOnce(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	build(t, root, "PG_VERSION", "spaces/a/PG_15_202209061/5/1", "spaces/a/PG_14_202107181/5/1", "spaces/ab/other",
		"PG_15_202209061/5/1")
	link(t, filepath.Join(root, "spaces/a"), filepath.Join(root, "pg_tblspc/1"))
	link(t, "..", filepath.Join(root, "pg_tblspc/2")) // the data directory itself
	wantLines(t, walk(t, root, opts15()),
		"./", "PG_15_202209061/", "PG_VERSION", "pg_tblspc/",
		"pg_tblspc/1 -> "+filepath.Join(root, "spaces/a"), "pg_tblspc/1/PG_15_202209061/",
		"pg_tblspc/1/PG_15_202209061/5/", "pg_tblspc/1/PG_15_202209061/5/1",
		"pg_tblspc/2 -> ..", "pg_tblspc/2/PG_15_202209061/",
		"pg_tblspc/2/PG_15_202209061/5/", "pg_tblspc/2/PG_15_202209061/5/1",
		"spaces/", "spaces/a/", "spaces/ab/", "spaces/ab/other")
}

func TestWalkOfSymbolicLinks(t *testing.T) {
	t.Parallel()
	out, root := t.TempDir(), t.TempDir()
	build(t, out, "etc/postgresql.conf", "log/x.log", "wal/000000010000000000000001", "wal/archive_status/",
		"db/1259", "db/7", "db/7_init", "rel", "stat/x")
	build(t, root, "base/1/1", "base/4/x", "pg_notify")
	for name, target := range map[string]string{
		"postgresql.conf": filepath.Join(out, "etc/postgresql.conf"),
		"log":             filepath.Join(out, "log"),
		"pg_wal":          filepath.Join(out, "wal"),
		"pg_stat_tmp":     filepath.Join(out, "not there"),
		"pg_replslot":     filepath.Join(out, "stat"),
		"pg_xact":         "base", // wrong, but the server would use it
		"base/5":          filepath.Join(out, "db"),
		"base/6":          "..",
		"base/1/2":        filepath.Join(out, "rel"),
		"base/1/up":       "../..",
		"dangling":        filepath.Join(out, "nothing"),
		"beside a file":   filepath.Join(out, "rel", "x"),
		"loop":            "loop",
		"loop1":           "loop2",
		"loop2":           "loop1",
		"null":            "/dev/null",
	} {
		link(t, target, filepath.Join(root, name))
	}
	got := walk(t, root, opts15())
	wantLines(t, got,
		"./", "base/", "base/1/", "base/1/1", "base/1/2", "base/4/", "base/4/x",
		"base/5/", "base/5/1259", "base/5/7_init",
		"base/6/", "base/6/base/", "base/6/base/1/", "base/6/base/1/1", "base/6/base/1/2",
		"base/6/base/4/", "base/6/base/4/x", "base/6/pg_notify", "base/6/postgresql.conf",
		"pg_replslot/", "pg_stat_tmp/", "pg_wal/", "pg_wal/archive_status/",
		"pg_xact/", "pg_xact/1/", "pg_xact/1/1", "pg_xact/1/2", "pg_xact/4/", "pg_xact/4/x",
		"postgresql.conf")
	if _, ok := got.skipped["log"]; !ok || !strings.Contains(got.skipped["log"], "directory") {
		t.Errorf("log: skipped for %q", got.skipped["log"])
	}
	for _, path := range []string{"dangling", "beside a file", "loop", "loop1", "loop2", "null", "base/1/up", "base/6/base/6"} {
		if got.skipped[path] == "" {
			t.Errorf("%s was not reported", path)
		}
	}
	if e := got.entries["postgresql.conf"]; e.Size != int64(len("etc/postgresql.conf")) || e.Kind != KindFile {
		t.Errorf("the linked file is %+v: want the attributes of its target", e)
	}
	if e := got.entries["base/5/1259"]; !e.IsRelation || e.Relation.Database != 5 {
		t.Errorf("a relation behind a link is %+v", e)
	}
}

func TestWalkReportsSpecialFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	build(t, root, "PG_VERSION")
	if err := syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A relative name: that of a socket must be short.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: shortName(t, root) + "/s"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := walk(t, root, opts15())
	wantLines(t, got, "./", "PG_VERSION")
	want := map[string]string{"fifo": "special file: named pipe", "s": "special file: socket"}
	if diff := cmp.Diff(want, got.skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	if err := Walk(root, opts15(), func(Entry) error { return nil }); err != nil {
		t.Errorf("nobody listens to Skipped: %v", err)
	}
}

// shortName gives another name of a directory, short enough for a socket in it.
func shortName(t *testing.T, dir string) string {
	t.Helper()
	parent, err := os.MkdirTemp("", "dd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	link(t, dir, filepath.Join(parent, "d"))
	return filepath.Join(parent, "d")
}

func TestWalkOfOddNames(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	names := []string{"\x01", " ", "#", "=", "[", "\\", "a\nb", "a\tb", "é", "\xff\xfe", "~", "-rf", "..."}
	for _, name := range names {
		build(t, root, name+"/"+name)
	}
	slices.Sort(names)
	want := []string{"./"}
	for _, name := range names {
		want = append(want, name+"/", name+"/"+name)
	}
	wantLines(t, walk(t, root, opts15()), want...)
}

func TestWalkExcludesWhatTheCallerNames(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	build(t, root, "mark", "markus", "sub/mark", "big/a", "big/b/c", "bigger/a", "sub/big/a")
	o := opts15()
	o.Exclude = []string{"mark", "big", "sub/big"}
	wantLines(t, walk(t, root, o), "./", "bigger/", "bigger/a", "markus", "sub/", "sub/mark")
}

func TestWalkGivesAttributes(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	build(t, root, "base/5/1259_fsm.1", "pg_wal/archive_status/", "pg_wal/x")
	when := time.Unix(1_700_000_000, 123_456_000)
	file := filepath.Join(root, "base/5/1259_fsm.1")
	for name, mode := range map[string]fs.FileMode{
		file: 0o640, filepath.Join(root, "base/5"): 0o750, root: 0o700, filepath.Join(root, "pg_wal"): 0o710,
		filepath.Join(root, "pg_wal/archive_status"): 0o711,
	} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(file, when, when); err != nil {
		t.Fatal(err)
	}
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	if uid == 0 {
		uid, gid = 12345, 54321
		if err := os.Chown(file, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
	}
	got := walk(t, root, opts15())
	want := Entry{
		Path: "base/5/1259_fsm.1", Kind: KindFile, Size: 17, Mode: 0o640, ModTime: when, UID: uid, GID: gid,
		IsRelation: true, Relation: Relation{1663, 5, 1259, ForkFSM, 1},
	}
	if diff := cmp.Diff(want, got.entries["base/5/1259_fsm.1"]); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
	for path, mode := range map[string]fs.FileMode{".": 0o700, "base/5": 0o750, "pg_wal": 0o710, "pg_wal/archive_status": 0o711} {
		if e := got.entries[path]; e.Mode != mode || e.Kind != KindDir || e.Size != 0 || e.IsRelation {
			t.Errorf("%s: %+v, want mode %v", path, e, mode)
		}
	}
}

func TestWalkMakesUpForAMissingArchiveStatus(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	build(t, root, "pg_wal/000000010000000000000001")
	if err := os.Chmod(filepath.Join(root, "pg_wal"), 0o750); err != nil {
		t.Fatal(err)
	}
	got := walk(t, root, opts15())
	wantLines(t, got, "./", "pg_wal/", "pg_wal/archive_status/")
	if m := got.entries["pg_wal/archive_status"].Mode; m != 0o750 {
		t.Errorf("mode %v, want that of pg_wal", m)
	}
}

// The server drops what it wants during a backup: files and whole databases
// vanish after they were listed, and directories become files.
func TestWhatVanishesDuringTheWalkIsNoError(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	build(t, root, "base/1/1", "base/1/2", "base/1/3", "base/2/1", "base/3/1", "base/4/1", "base/5/1", "pg_xact/0000")
	var lines []string
	err := Walk(root, opts15(), func(e Entry) error {
		lines = append(lines, line(e))
		remove := map[string][]string{"base/1/1": {"base/1/2", "base/2"}, "base/3": {"base/3"}, "base/3/1": {}, "base/4": {"base/4"}}
		for _, path := range remove[e.Path] {
			if err := os.RemoveAll(filepath.Join(root, path)); err != nil {
				return err
			}
		}
		if e.Path == "base/4" {
			build(t, root, "base/4")
		}
		return nil
	})
	want := []string{"./", "base/", "base/1/", "base/1/1", "base/1/3", "base/3/", "base/4/", "base/5/", "base/5/1",
		"pg_xact/", "pg_xact/0000"}
	if diff := cmp.Diff(want, lines); err != nil || diff != "" {
		t.Errorf("%v, entries (-want +got):\n%s", err, diff)
	}
}

func TestWalkEndsWithTheErrorOfItsFunction(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	build(t, root, "a", "pg_tblspc/1/PG_15_202209061/5/1", "pg_wal/archive_status/", "z")
	all := walk(t, root, opts15()).lines
	for i := range all {
		stop := errors.New("stop")
		n := 0
		err := Walk(root, opts15(), func(Entry) error {
			if n++; n == i+1 {
				return stop
			}
			return nil
		})
		if !errors.Is(err, stop) || n != i+1 {
			t.Errorf("stopped at %s: %v after %d entries", all[i], err, n)
		}
	}
}

func TestWalkOfWhatIsNoDataDirectory(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	build(t, root, "file")
	fail := func(e Entry) error { return fmt.Errorf("%s was given", e.Path) }
	if err := Walk(filepath.Join(root, "nothing"), opts15(), fail); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if err := Walk(filepath.Join(root, "file"), opts15(), fail); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file: %v", err)
	}
	if err := Walk(root, WalkOptions{}, fail); err == nil || !strings.Contains(err.Error(), "catalog version") {
		t.Errorf("no version: %v", err)
	}
}

func TestKindAndForkStrings(t *testing.T) {
	got := fmt.Sprint(KindDir, KindFile, KindTablespace, Kind(9), ForkMain, ForkFSM, ForkVM, ForkInit, Fork(9))
	if want := "directory file tablespace Kind(9) main fsm vm init Fork(9)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func BenchmarkWalk(b *testing.B) {
	root := b.TempDir()
	const files = 5000
	for i := range files {
		build(b, root, fmt.Sprintf("base/%d/%d", 1+i/500, 1+i))
	}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		if err := Walk(root, opts15(), func(Entry) error { n++; return nil }); err != nil || n < files {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*files), "ns/file")
}
