package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/server"
)

// DefaultMajor is the version a test gets that asks for none, where it is
// installed; else it gets the newest that is.
const DefaultMajor = 15

// Options describe a cluster. The zero value is good for most tests.
type Options struct {
	// Major is the version of PostgreSQL; zero is DefaultMajor, or what is installed.
	Major int
	// InitDB are more arguments for initdb.
	InitDB []string
	// Settings go into postgresql.conf.
	Settings map[string]string
	// ChecksumsOff makes a cluster without data checksums.
	ChecksumsOff bool
	// WALSegmentMB is the size of a WAL segment; zero is PostgreSQL's own 16 MB.
	WALSegmentMB int
	// Stopped leaves the cluster down: the test calls Start.
	Stopped bool
}

// Cluster is one data directory with a server that runs on it, most of the
// time. Its methods end the test if they fail. They are for one goroutine.
type Cluster struct {
	Major     int
	BinDir    string // PostgreSQL's programs
	Dir       string // the data directory
	SocketDir string
	LogFile   string // what the server printed, over all starts
	UID, GID  int    // who the server runs as

	t     testing.TB
	root  string // everything of this cluster is below it
	user  *account
	port  *port
	extra map[string]string // settings given as arguments, which win over the files
}

// New makes a cluster with initdb and starts it. At the end of the test it is
// stopped and removed.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Major == 0 {
		o.Major = installed(t)
	}
	c := prepare(t, o.Major)
	c.Dir = filepath.Join(c.root, "data")
	template, err := makeTemplate(c.BinDir, c.user, o)
	if err == nil {
		err = copyTree(template, c.Dir)
	}
	if err == nil {
		err = renewSystemID(c.Dir)
	}
	if err != nil {
		t.Fatalf("making a cluster: %v", err)
	}
	c.configure(o.Settings)
	if !o.Stopped {
		c.Start()
	}
	return c
}

// Open starts a server on a data directory that the test made, as a restored
// one. Port, socket and listening address are overridden, and so is what set
// names; nothing in the directory is written. The directory must belong to the
// user that Command runs programs as. At the end of the test the server is
// stopped; the directory stays.
func Open(t testing.TB, dir string, set map[string]string) *Cluster {
	t.Helper()
	major, err := majorOf(dir)
	if err != nil {
		t.Fatalf("opening a cluster: %v", err)
	}
	c := prepare(t, major)
	c.Dir = dir
	c.extra = set
	c.Start()
	return c
}

// majorOf reads PG_VERSION.
func majorOf(dir string) (int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// prepare makes everything of a cluster but its data directory.
func prepare(t testing.TB, major int) *Cluster {
	t.Helper()
	binDir := FindBin(t, major)
	user, err := serverAccount()
	if err != nil {
		t.Fatalf("looking for a user to run PostgreSQL as: %v", err)
	}
	root, err := makeRoot(user)
	if err != nil {
		t.Fatalf("making a directory for a cluster: %v", err)
	}
	c := &Cluster{
		Major: major, BinDir: binDir, UID: user.uid, GID: user.gid,
		SocketDir: filepath.Join(root, "s"), LogFile: filepath.Join(root, "log"),
		t: t, root: root, user: user,
	}
	dog, err := startWatchdog(root)
	if err != nil {
		t.Fatalf("starting the watchdog: %v", errors.Join(err, os.RemoveAll(root)))
	}
	t.Cleanup(func() {
		c.cleanUp()
		dog.dismiss()
	})
	if err := user.mkdir(c.SocketDir, 0o755); err != nil {
		t.Fatalf("making a directory for a socket: %v", err)
	}
	return c
}

// makeRoot makes a directory that the server's user can reach and write.
func makeRoot(user *account) (string, error) {
	base := os.TempDir()
	if !reachable(base) {
		base = "/tmp"
	}
	root, err := os.MkdirTemp(base, "pgt-") // short: a socket's path has 107 bytes
	if err != nil {
		return "", err
	}
	if err = os.Chmod(root, 0o755); err == nil {
		err = user.own(root)
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(root))
	}
	return root, nil
}

// reachable says whether every user may pass through dir and all above it.
func reachable(dir string) bool {
	for {
		fi, err := os.Stat(dir)
		if err != nil || fi.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == "/" {
			return true
		}
		dir = filepath.Dir(dir)
	}
}

// baseSettings make a cluster fast, small and quiet. Shared memory is kept in
// files below the data directory, which go with it.
var baseSettings = [...]struct{ name, value string }{
	{"fsync", "off"},
	{"shared_buffers", "16MB"},
	{"max_connections", "40"},
	{"dynamic_shared_memory_type", "mmap"},
	{"wal_retrieve_retry_interval", "100ms"},
	{"logging_collector", "off"},
	{"log_line_prefix", "%m [%p] %b "},
	{"timezone", "UTC"},
	{"log_timezone", "UTC"},
	{"jit", "off"},
}

func (c *Cluster) configure(settings map[string]string) {
	c.t.Helper()
	var b strings.Builder
	add := func(name, value string) {
		line, err := server.ConfigLine(name, value)
		if err != nil {
			c.t.Fatalf("configuring a cluster: %v", err)
		}
		b.WriteString(line)
	}
	b.WriteString("\n")
	for _, s := range baseSettings {
		add(s.name, s.value)
	}
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		add(name, settings[name])
	}
	c.appendFile("postgresql.conf", b.String())
}

// appendFile adds text to a file of the data directory, which is made if missing.
func (c *Cluster) appendFile(name, text string) {
	c.t.Helper()
	path := filepath.Join(c.Dir, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close(), c.user.own(path))
	}
	if err != nil {
		c.t.Fatalf("writing %s: %v", path, err)
	}
}

// TempDir makes a directory that the server's user can reach and write. It is
// removed when t ends, or the cluster's test does.
func (c *Cluster) TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(c.root, "t-")
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o700), c.user.own(dir))
	}
	if err != nil {
		t.Fatalf("making a directory: %v", err)
	}
	if t == c.t {
		return dir // it goes with the cluster, when the server writes nothing into it any more
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing a directory: %v", err)
		}
	})
	return dir
}

// Command prepares a program to run as the server's user, with the PG*
// environment of this cluster. A name without a slash is looked up among
// PostgreSQL's programs first.
func (c *Cluster) Command(name string, args ...string) *exec.Cmd {
	if own := filepath.Join(c.BinDir, name); !strings.Contains(name, "/") {
		if _, err := os.Stat(own); err == nil {
			name = own
		}
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = c.root
	cmd.Env = append(withoutPG(os.Environ()),
		"PATH="+c.BinDir+":"+os.Getenv("PATH"), "HOME="+c.root, "USER="+c.user.name, "LC_ALL=C.UTF-8",
		"PGHOST="+c.SocketDir, "PGUSER="+superuser, "PGDATABASE="+superuser, "PGDATA="+c.Dir)
	if c.port != nil {
		cmd.Env = append(cmd.Env, "PGPORT="+strconv.Itoa(c.Port()))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.user.credential()}
	return cmd
}

func withoutPG(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(e string) bool { return strings.HasPrefix(e, "PG") })
}

// Can says whether the cluster's version comes with all of the programs named:
// some ways to get PostgreSQL give the server alone.
func (c *Cluster) Can(programs ...string) bool {
	for _, p := range programs {
		if _, err := os.Stat(filepath.Join(c.BinDir, p)); err != nil {
			return false
		}
	}
	return true
}

// Log gives what the server printed since it was made.
func (c *Cluster) Log() string {
	b, err := os.ReadFile(c.LogFile)
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	return string(b)
}

// context is for calls that must not hang a test for ever.
func (c *Cluster) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
