package datadir

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The tests in this file run real servers of every major version that is found:
// in the directory SALVOR_PG_<major> names, where scripts/postgres puts it,
// or where packages put it. This package can't use pgtest, which stands above it.

// program finds a program of a major version, or of any for major 0.
func program(major int, name string) (string, bool) {
	majors := []int{major}
	if major == 0 {
		majors = []int{18, 17, 16, 15, 14}
	}
	for _, m := range majors {
		for _, dir := range []string{
			os.Getenv(fmt.Sprintf("SALVOR_PG_%d", m)),
			fmt.Sprintf("/var/tmp/salvor-postgresql/%d/bin", m),
			fmt.Sprintf("/usr/lib/postgresql/%d/bin", m),
			fmt.Sprintf("/usr/pgsql-%d/bin", m),
		} {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); dir != "" && err == nil && info.Mode()&0o111 != 0 {
				abs, err := filepath.Abs(path)
				return abs, err == nil
			}
		}
	}
	return "", false
}

// Each major version that is there, with -short the first that is found, gets one
// cluster, which the tests have one after the other.
func TestServers(t *testing.T) {
	found := 0
	for _, major := range []int{15, 18, 17, 16, 14} {
		if _, ok := program(major, "postgres"); !ok || found > 0 && testing.Short() {
			continue
		}
		found++
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, major)
			t.Run("control", func(t *testing.T) { testControl(t, c, "shut down") })
			c.mustStart(c.data)
			t.Run("control, running", func(t *testing.T) { testControl(t, c, "in production") })
			t.Run("walk", func(t *testing.T) { testWalk(t, c.with(t)) })
			t.Run("poison", func(t *testing.T) { testPoison(t, c.with(t)) })
		})
	}
	if found == 0 && os.Getenv("CI") == "true" {
		t.Fatal("PostgreSQL must be there in CI")
	}
	if found == 0 {
		t.Skip("needs PostgreSQL")
	}
}

// cluster is a real cluster in base/data, and a place for copies beside it.
type cluster struct {
	t     *testing.T
	major int
	base  string // what the server's user can reach and write
	data  string
	cred  *syscall.Credential // nil if not run as root
}

func newCluster(t *testing.T, major int) *cluster {
	t.Helper()
	base, err := os.MkdirTemp("", "dd") // short: a socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	c := &cluster{t: t, major: major, base: base, data: filepath.Join(base, "data")}
	if os.Getuid() == 0 {
		c.cred = serverUser(t)
		if err := os.Chown(base, int(c.cred.Uid), int(c.cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	c.must("initdb", "-k", "--no-sync", "-A", "trust", "-U", "postgres", "--locale=C", "-E", "UTF8", "-D", c.data)
	c.write(c.data, "postgresql.conf", fmt.Sprintf(
		"listen_addresses = ''\nunix_socket_directories = '%s'\nfsync = off\nmax_wal_senders = 2\nwal_keep_size = 256MB\n", base))
	return c
}

// with is the same cluster, for a subtest.
func (c *cluster) with(t *testing.T) *cluster {
	other := *c
	other.t = t
	return &other
}

// serverUser is whom PostgreSQL runs as, since it refuses root.
func serverUser(t *testing.T) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// run runs a program of PostgreSQL, or any by its full name, as the server's user.
func (c *cluster) run(name string, args ...string) ([]byte, error) {
	c.t.Helper()
	if path, ok := program(c.major, name); ok {
		name = path
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = c.base
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "HOME=" + c.base}
	if c.cred != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.cred}
	}
	return cmd.CombinedOutput()
}

func (c *cluster) must(name string, args ...string) []byte {
	c.t.Helper()
	out, err := c.run(name, args...)
	if err != nil {
		c.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

// write appends to a file of a data directory, and leaves it to the server's user.
func (c *cluster) write(dir, name, text string) {
	c.t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Close())
	if c.cred != nil {
		err = errors.Join(err, os.Chown(path, int(c.cred.Uid), int(c.cred.Gid)))
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// start starts a server and waits until it is ready or has given up. It returns
// what the server printed.
func (c *cluster) start(dir string) (log string, err error) {
	c.t.Helper()
	name := dir + ".log"
	c.t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(dir, "postmaster.pid")); err == nil {
			c.must("pg_ctl", "-D", dir, "-m", "immediate", "-w", "stop")
		}
	})
	out, err := c.run("pg_ctl", "-D", dir, "-l", name, "-w", "-t", "60", "start")
	text, _ := os.ReadFile(name)
	return string(out) + string(text), err
}

func (c *cluster) mustStart(dir string) {
	c.t.Helper()
	if log, err := c.start(dir); err != nil {
		c.t.Fatalf("%v\n%s", err, log)
	}
}

func (c *cluster) stop(dir string) {
	c.t.Helper()
	c.must("pg_ctl", "-D", dir, "-m", "fast", "-w", "stop")
}

// sql runs a script in one session, with psql of any version.
func (c *cluster) sql(script string) string {
	c.t.Helper()
	psql, ok := program(0, "psql")
	if !ok {
		c.t.Skip("needs psql")
	}
	c.write(c.base, "script.sql", script)
	defer os.Remove(filepath.Join(c.base, "script.sql"))
	return strings.TrimSuffix(string(c.must(psql, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1",
		"-h", c.base, "-U", "postgres", "-d", "postgres", "-f", filepath.Join(c.base, "script.sql"))), "\n")
}

// backup copies the running cluster to base/backup and returns its backup_label.
func (c *cluster) backup() (dir, label string) {
	c.t.Helper()
	start, stop := "pg_backup_start('test', true)", "labelfile FROM pg_backup_stop(false)"
	if c.major == 14 {
		start, stop = "pg_start_backup('test', true, false)", "labelfile FROM pg_stop_backup(false, false)"
	}
	dir = filepath.Join(c.base, "backup")
	label = filepath.Join(c.base, "label")
	c.sql("CREATE TABLE dish AS SELECT generate_series(1, 1000) AS id;\n" +
		"SELECT " + start + ";\n" +
		"\\! cp -a " + c.data + " " + dir + "\n" +
		"INSERT INTO dish SELECT generate_series(1001, 2000);\n" +
		"\\o " + label + "\n" +
		"SELECT " + stop + ";\n")
	text, err := os.ReadFile(label)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, name := range []string{"postmaster.pid", "postmaster.opts"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			c.t.Fatal(err)
		}
	}
	return dir, strings.TrimSuffix(string(text), "\n")
}

// A restored cluster whose checkpoint is poisoned recovers by its backup_label,
// and refuses to start once that file is gone. The cluster is left down: its copy has
// the same tablespaces.
func testPoison(t *testing.T, c *cluster) {
	backup, label := c.backup()
	c.stop(c.data)
	if _, err := ParseLabel([]byte(label)); err != nil {
		t.Error(err)
	}

	control := filepath.Join(backup, filepath.FromSlash(ControlPath))
	poisoned, err := PoisonCheckpoint(readFile(t, control))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(control, poisoned, 0o600); err != nil {
		t.Fatal(err)
	}
	c.write(backup, "postgresql.auto.conf", fmt.Sprintf("restore_command = 'cp \"%s/pg_wal/%%f\" \"%%p\"'\n", c.data))
	c.write(backup, "recovery.signal", "")
	deleted, crashed := backup+"-deleted", backup+"-crashed"
	c.must("/bin/cp", "-a", backup, deleted)
	c.must("/bin/cp", "-a", backup, crashed)
	if err := os.Remove(filepath.Join(crashed, "recovery.signal")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{deleted, crashed} {
		log, err := c.start(dir)
		if err == nil {
			t.Errorf("the server started without backup_label in %s", filepath.Base(dir))
		}
		if !strings.Contains(log, "checkpoint record") {
			t.Errorf("the server says something else about it in %s:\n%s", filepath.Base(dir), log)
		}
		if got, err := ReadControl(dir); err != nil || got.Checkpoint != PoisonedCheckpoint {
			t.Errorf("the failed start left checkpoint %v, %v", got.Checkpoint, err)
		}
	}

	c.write(backup, "backup_label", label)
	c.mustStart(backup)
	got := c.sql("DO $$ BEGIN WHILE pg_is_in_recovery() LOOP PERFORM pg_sleep(0.02); END LOOP; END $$;\n" +
		"SELECT count(*) FROM dish;")
	if got != "2000" {
		t.Errorf("%s rows after recovery, want 2000", got)
	}
	c.stop(backup)
	checkRecovered(t, c, backup)
}

func checkRecovered(t *testing.T, c *cluster, dir string) {
	t.Helper()
	got, err := ReadControl(dir)
	if err != nil || got.Checkpoint == PoisonedCheckpoint || got.State != StateShutdown || got.Major() != c.major {
		t.Errorf("after recovery: major %d, checkpoint %v, %v, %v", got.Major(), got.Checkpoint, got.State, err)
	}
}

// ReadControl reads what pg_controldata prints, of a cluster in the state that it is in.
func testControl(t *testing.T, c *cluster, state string) {
	if _, ok := program(c.major, "pg_controldata"); !ok {
		t.Skip("needs pg_controldata")
	}
	got, err := ReadControl(c.data)
	if err != nil {
		t.Fatal(err)
	}
	if got.State.String() != state {
		t.Errorf("the cluster is %v, want %s", got.State, state)
	}
	want := parseControldata(c.with(t).must("pg_controldata", "-D", c.data))
	if diff := cmp.Diff(want, controldata(got)); diff != "" {
		t.Errorf("pg_controldata (-) and Control (+) differ:\n%s", diff)
	}
}

// The walk and the server's own base backup agree on what a backup holds.
func testWalk(t *testing.T, c *cluster) {
	if _, ok := program(c.major, "pg_basebackup"); !ok {
		t.Skip("needs pg_basebackup")
	}
	space := filepath.Join(c.base, "space")
	c.must("/bin/mkdir", space)
	c.sql("CREATE TABLESPACE far LOCATION '" + space + "';\n" +
		"CREATE TABLE a (id int PRIMARY KEY);\nCREATE UNLOGGED TABLE b (id int PRIMARY KEY);\n" +
		"CREATE TABLE c (id int PRIMARY KEY) TABLESPACE far;\nCREATE UNLOGGED TABLE d (t text) TABLESPACE far;\n" +
		"INSERT INTO a SELECT generate_series(1, 1000);\nINSERT INTO c SELECT generate_series(1, 1000);\n" +
		"VACUUM a, c;\nCHECKPOINT;\n")
	for _, name := range []string{"base/5/t7_16400", "base/5/t7_16400_fsm", "global/pg_internal.init.5", "backup_label.old.kept", "log.txt", "postgresql.auto.conf.tmp"} {
		c.write(c.data, name, "x")
	}
	control, err := ReadControl(c.data)
	if err != nil {
		t.Fatal(err)
	}
	got := walk(t, c.data, WalkOptions{Major: control.Major(), CatalogVersion: control.CatalogVersion})

	out := filepath.Join(c.base, "out")
	c.must("pg_basebackup", "-h", c.base, "-U", "postgres", "-D", out, "-F", "t", "-X", "none", "-c", "fast", "--no-sync", "--no-manifest")
	want := []string{"./"}
	tars, err := filepath.Glob(filepath.Join(out, "*.tar"))
	if err != nil || len(tars) != 2 {
		t.Fatalf("%q, %v", tars, err)
	}
	for _, name := range tars {
		if oid := strings.TrimSuffix(filepath.Base(name), ".tar"); oid != "base" {
			want = append(want, "pg_tblspc/"+oid+" -> "+space)
			want = append(want, tarNames(t, name, "pg_tblspc/"+oid+"/")...)
		} else {
			want = append(want, tarNames(t, name, "")...)
		}
	}
	want = slices.DeleteFunc(want, func(name string) bool { return name == "backup_label" || name == "tablespace_map" })
	slices.Sort(want)
	slices.Sort(got.lines)
	if diff := cmp.Diff(want, got.lines); diff != "" {
		t.Errorf("base backup (-) and walk (+) differ:\n%s", diff)
	}
	if len(got.skipped) != 0 {
		t.Errorf("skipped %v", got.skipped)
	}
}

// tarNames lists an archive in the form of walked.lines.
func tarNames(t *testing.T, name, prefix string) (names []string) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(readFile(t, name)))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		path := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
		if h.Typeflag == tar.TypeDir {
			path += "/"
		}
		names = append(names, prefix+path)
	}
}
