package walrec

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
)

// server is a real PostgreSQL with segments of 1 MiB that archives its WAL.
type server struct {
	t       *testing.T
	bin     string
	dir     string // holds the rest
	data    string
	archive string
	cred    *syscall.Credential
}

// liveMajors lists the versions to run servers of: 15, which every machine that
// tests has, and those that $SALVOR_PG_14 and so on name the programs of. Of the
// others, WAL is in testdata.
func liveMajors() []int {
	majors := []int{15}
	for m := pg.OldestMajor; m <= pg.NewestMajor; m++ {
		if m != 15 && os.Getenv(binVariable(m)) != "" {
			majors = append(majors, m)
		}
	}
	return majors
}

func binVariable(major int) string { return fmt.Sprintf("SALVOR_PG_%d", major) }

// binDir finds the programs of a major version: in $SALVOR_PG_<major>, or for
// 15 where Debian has them.
func binDir(t *testing.T, major int) string {
	t.Helper()
	dir := os.Getenv(binVariable(major))
	if dir == "" {
		dir = fmt.Sprintf("/usr/lib/postgresql/%d/bin", major)
	}
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("PostgreSQL %d is needed: %v", major, err)
		}
		t.Skipf("PostgreSQL %d is not here; %s may name its bin directory", major, binVariable(major))
	}
	return dir
}

func newServer(t *testing.T, major int) *server {
	t.Helper()
	s := &server{t: t, bin: binDir(t, major)}
	var err error
	if s.dir, err = os.MkdirTemp("", "walrec"); err != nil { // short, for the socket's path
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	s.data, s.archive = filepath.Join(s.dir, "data"), filepath.Join(s.dir, "archive")
	if err := os.Mkdir(s.archive, 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		s.becomePostgres()
	}
	s.run("initdb", "--no-sync", "-A", "trust", "-U", "postgres", "--locale=C", "-E", "UTF8", "--wal-segsize=1", "-D", s.data)
	s.configure(`
listen_addresses = ''
unix_socket_directories = '` + s.dir + `'
fsync = off
full_page_writes = off
shared_buffers = '16MB'
max_connections = 20
max_prepared_transactions = 5
track_commit_timestamp = on
autovacuum = off
wal_keep_size = '100MB'
archive_mode = on
archive_command = 'cp %p ` + s.archive + `/%f.tmp && mv ` + s.archive + `/%f.tmp ` + s.archive + `/%f'
restore_command = 'false'
`)
	t.Cleanup(func() { _ = s.command("pg_ctl", "stop", "-m", "immediate", "-D", s.data).Run() })
	return s
}

// becomePostgres makes the server's programs run as user postgres: as root they
// refuse.
func (s *server) becomePostgres() {
	s.t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		s.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, d := range []string{s.dir, s.archive} {
		if err := os.Chown(d, uid, gid); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "TZ=UTC", "PGTZ=UTC", "LC_ALL=C")
	if s.cred != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	}
	return cmd
}

// run runs one of PostgreSQL's programs. Its output goes through a file, since
// the server that pg_ctl starts keeps it open.
func (s *server) run(name string, args ...string) string {
	s.t.Helper()
	out, err := os.CreateTemp(s.dir, "out")
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Close()
	cmd := s.command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text, _ := os.ReadFile(out.Name())
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		s.t.Fatalf("%s: %v\n%s\n%s", name, err, text, log)
	}
	return string(text)
}

func (s *server) configure(text string) {
	s.t.Helper()
	f, err := os.OpenFile(filepath.Join(s.data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(text)
		f.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) start() {
	s.run("pg_ctl", "start", "-w", "-D", s.data, "-l", filepath.Join(s.dir, "log"))
}
func (s *server) stop() { s.run("pg_ctl", "stop", "-w", "-m", "fast", "-D", s.data) }

// sql runs statements with psql, each a transaction of its own, and returns
// the rows, columns separated by |.
func (s *server) sql(text string) []string {
	s.t.Helper()
	cmd := exec.Command("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", s.dir, "-U", "postgres", "-d", "postgres")
	cmd.Env = append(os.Environ(), "PGTZ=UTC")
	cmd.Stdin = strings.NewReader(text)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("psql: %v\n%s", err, stderr.String())
	}
	return strings.Fields(string(out))
}

// archived waits for a file in the archive.
func (s *server) archived(name string) {
	s.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(s.archive, name)); err == nil {
			return
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.t.Fatalf("%s was not archived\n%s", name, log)
		}
	}
}

// switchWAL switches and waits for the segment that is finished by it.
func (s *server) switchWAL() string {
	s.t.Helper()
	name := s.sql("select pg_walfile_name(pg_switch_wal())")[0]
	s.archived(name)
	return name
}
