package chaos

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

const copyPort = 5432 // the socket's directory is the copy's own, and it has no TCP

// Names that a restore gives (docs/explanation): a note while it is not whole, and
// the file without which nothing is a database.
const (
	noteName    = "salvor.restoring"
	controlName = "global/pg_control"
)

// copied is a restored directory, with what it must hold.
type copied struct {
	s    *site
	dir  string
	sock string
	must func(pgtest.Change) bool
	may  func(pgtest.Change) bool
}

// startArgs are for restore --start.
func (c *copied) startArgs() []string {
	return []string{"--start", "--port", "5432", "--socket-dir", c.sock, "--set", "listen_addresses="}
}

// copyOf prepares a place for a copy that holds everything up to to.
func (s *site) copyOf(to pg.LSN) *copied {
	s.t.Helper()
	return &copied{s: s, dir: s.fresh(), sock: s.freshDir(),
		must: func(ch pgtest.Change) bool { return ch.LSN <= to },
		may:  func(pgtest.Change) bool { return true }}
}

// copyAt prepares one for the moment at which a backup ended.
func (s *site) copyAt(b backup) *copied {
	s.t.Helper()
	c := s.copyOf(b.start(s.t))
	c.may = func(ch pgtest.Change) bool { return ch.Before.Before(b.StoppedAt) }
	return c
}

// state is how far a restore has come.
type state int

const (
	nothing state = iota
	unfinished
	complete
)

// state looks at a directory, and fails if it is no state that may be.
func (c *copied) state() state {
	c.s.t.Helper()
	exists := func(name string) bool {
		_, err := os.Lstat(filepath.Join(c.dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			c.s.failf("%v", err)
		}
		return err == nil
	}
	entries, err := os.ReadDir(c.dir)
	switch {
	case errors.Is(err, os.ErrNotExist), err == nil && len(entries) == 0:
		return nothing
	case err != nil:
		c.s.failf("%v", err)
	case exists(noteName) && !exists(controlName):
		return unfinished
	case !exists(controlName):
		c.s.failf("%s holds %s …, and no note says that it is unfinished", c.dir, entries[0].Name())
	}
	return complete // also if the note is still there: it is removed last
}

// noted says whether the note is there.
func (c *copied) noted() bool {
	_, err := os.Lstat(filepath.Join(c.dir, noteName))
	return err == nil
}

// isWhole starts a duplicate of the directory: with pg_control there a server would
// start on it, whatever the note says.
func (c *copied) isWhole() {
	c.s.t.Helper()
	twin := *c
	twin.dir, twin.sock = c.s.fresh(), c.s.freshDir()
	if out, err := exec.Command("cp", "-a", c.dir, twin.dir).CombinedOutput(); err != nil {
		c.s.failf("%v: %s", err, out)
	}
	twin.up()
	twin.compare()
	twin.end()
}

// refusesToStart sees that no server starts on half a restore.
func (c *copied) refusesToStart() {
	c.s.t.Helper()
	out, err := c.s.cluster.Command("postgres", "-D", c.dir, "-c", "listen_addresses=", "-k", c.sock).CombinedOutput()
	if err == nil {
		c.s.failf("a server started on an unfinished restore:\n%s", out)
	}
}

// up starts the server, unless it runs, and waits until it has left recovery.
func (c *copied) up() {
	c.s.t.Helper()
	st, err := server.Probe(c.dir)
	if err != nil {
		c.s.failf("%v", err)
	}
	if st.Running {
		return
	}
	log := filepath.Join(c.sock, "log")
	_, err = server.Start(c.s.t.Context(), server.StartOptions{
		BinDir: c.s.cluster.BinDir, DataDir: c.dir, Port: copyPort, SocketDir: c.sock, LogFile: log, Timeout: patience,
		Set:   map[string]string{"listen_addresses": "", "hot_standby": "on"},
		Until: func(st server.Status) bool { return st.Primary },
	})
	if err != nil {
		c.s.failf("a whole restore does not start: %v", err)
	}
}

func (c *copied) stop(mode server.Mode) {
	c.s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := server.Stop(ctx, c.dir, mode)
	if err != nil && !errors.Is(err, server.ErrNotRunning) && !errors.Is(err, os.ErrNotExist) {
		c.s.failf("stopping the copy: %v", err)
	}
}

// settle waits for a server that a killed restore --start has begun, and ends it. It
// lives on, may not have written its pid file yet, and finishes its recovery alone.
//
// It is not stopped before: a server that crashes while it promotes itself has no
// recovery.signal any more, and then PostgreSQL replays all of the last segment that
// it has fetched, past the target (StartupXLOG, xlog.c).
func (c *copied) settle() {
	c.s.t.Helper()
	c.s.await("the server of the copy has recovered, or is gone", func() bool {
		if c.postmaster() == "" {
			return true
		}
		st, err := server.Probe(c.dir)
		return err == nil && st.Running && st.Primary
	})
	c.stop(server.Fast)
}

// postmaster finds the process of a server on the directory.
func (c *copied) postmaster() string {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		c.s.failf("%v", err)
	}
	for _, name := range files {
		line, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(line), "postgres\x00") && strings.Contains(string(line), "\x00"+c.dir+"\x00") {
			return filepath.Base(filepath.Dir(name))
		}
	}
	return ""
}

// compare holds what the running copy has against the ledger, and ends it.
func (c *copied) compare() {
	s := c.s
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cn, err := conn.Open(ctx, conn.Config{DSN: "sslmode=disable", Host: c.sock, Port: copyPort, User: "postgres", Database: "postgres"})
	if err != nil {
		s.failf("%v", err)
	}
	defer cn.Close()
	rows := map[int64]int64{}
	err = cn.Rows(ctx, "SELECT id, version FROM public."+pgtest.LoadTable, nil, func(scan func(...any) error) error {
		var id, version int64
		err := scan(&id, &version)
		rows[id] = version
		return err
	})
	if err != nil {
		s.failf("reading the copy: %v", err)
	}
	var road string
	if err := cn.Row(ctx, roadSQL, nil, &road); err != nil || road != s.road {
		s.failf("the copy's road is %q, want %q: %v", road, s.road, err)
	}
	time.Sleep(10 * time.Millisecond) // whoever committed last notes it
	for _, d := range s.load.Ledger().Compare(rows, c.must, c.may) {
		s.t.Errorf("%s: %s", s.doing, d)
	}
	if s.t.Failed() {
		s.t.FailNow()
	}
	cn.Close()
	c.stop(server.Immediate)
}

// end removes the copy.
func (c *copied) end() {
	c.s.t.Helper()
	c.s.remove(c.dir)
	c.s.remove(c.sock)
}

// prove restores a backup and compares it.
func (s *site) prove(r *repository, b backup) {
	s.t.Helper()
	c := s.copyAt(b)
	s.ok(append([]string{"restore", "--to", c.dir, "--repo", r.name, "--backup", b.ID, "--immediate"}, c.startArgs()...)...)
	c.compare()
	c.end()
}

// proveAll restores every backup there is, and the newest state.
func (s *site) proveAll() {
	s.t.Helper()
	for _, r := range s.repos {
		for _, id := range r.ids() {
			s.prove(r, r.backups[id])
		}
		if len(r.backups) > 0 {
			c := s.copyOf(s.archive())
			s.ok(append([]string{"restore", "--to", c.dir, "--repo", r.name}, c.startArgs()...)...)
			c.compare()
			c.end()
		}
	}
}
