package pgtest

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

const (
	// patience is how long anything of a test may take before it counts as
	// hung. Machines that run tests can be slow.
	patience  = 60 * time.Second
	pollEvery = 10 * time.Millisecond
	// portTries is how often a start is tried with another port.
	portTries = 5
)

// Port is where the server listens, or did last. Zero before the first start.
func (c *Cluster) Port() int {
	if c.port == nil {
		return 0
	}
	return c.port.number
}

// Start starts the server and waits until it takes connections.
func (c *Cluster) Start() {
	c.t.Helper()
	if err := c.TryStart(nil); err != nil {
		c.t.Fatalf("starting a cluster: %v", err)
	}
}

// TryStart is Start for a server that may not come up, and for a wait of
// another kind (see server.StartOptions.Until; nil is as Start).
func (c *Cluster) TryStart(until func(server.Status) bool) error {
	for try := 1; ; try++ {
		if c.port == nil {
			p, err := takePort()
			if err != nil {
				return err
			}
			c.port = p
		}
		set := map[string]string{"listen_addresses": "127.0.0.1"}
		maps.Copy(set, c.extra)
		ctx, cancel := c.context()
		_, err := server.Start(ctx, server.StartOptions{
			BinDir: c.BinDir, DataDir: c.Dir, Port: c.Port(), SocketDir: c.SocketDir,
			Set: set, LogFile: c.LogFile, Until: until, Timeout: patience,
		})
		cancel()
		// A port that was taken is seen by its being taken, not by what the
		// server says of it.
		var exit *server.ExitError
		if err == nil || !errors.As(err, &exit) || portFree(c.Port()) || try == portTries {
			return err
		}
		c.port.release()
		c.port = nil
	}
}

// Stop shuts the server down. One that does not run is fine.
func (c *Cluster) Stop(mode server.Mode) {
	c.t.Helper()
	ctx, cancel := c.context()
	defer cancel()
	if err := server.Stop(ctx, c.Dir, mode); err != nil && !errors.Is(err, server.ErrNotRunning) {
		c.t.Fatalf("stopping a cluster: %v", err)
	}
}

// Restart stops the server with a checkpoint and starts it again.
func (c *Cluster) Restart() {
	c.t.Helper()
	c.Stop(server.Fast)
	c.Start()
}

// Kill9 kills every process of the server at once, as a crash of the machine
// would, with what they started.
func (c *Cluster) Kill9() {
	c.t.Helper()
	if err := killAll(c.Dir); err != nil {
		c.t.Fatalf("killing a cluster: %v", err)
	}
}

// Pause freezes every process of the server; Resume goes on.
func (c *Cluster) Pause() {
	c.t.Helper()
	if err := stopAll(c.Dir); err != nil {
		c.t.Fatalf("pausing a cluster: %v", err)
	}
}

// Resume lets the processes of a paused server go on.
func (c *Cluster) Resume() {
	c.t.Helper()
	if err := resumeAll(c.Dir); err != nil {
		c.t.Fatalf("resuming a cluster: %v", err)
	}
}

// Status is what the server says of itself in its pid file.
func (c *Cluster) Status() server.Status {
	c.t.Helper()
	st, err := server.Probe(c.Dir)
	if err != nil {
		c.t.Fatalf("looking at a cluster: %v", err)
	}
	return st
}

// Promote makes a primary of a standby.
func (c *Cluster) Promote() {
	c.t.Helper()
	ctx, cancel := c.context()
	defer cancel()
	if err := server.Promote(ctx, c.Dir); err != nil {
		c.t.Fatalf("promoting a cluster: %v", err)
	}
}

// Set adds a setting to postgresql.conf and, if the server runs, reloads it.
// Settings that need a restart wait for one.
func (c *Cluster) Set(name, value string) {
	c.t.Helper()
	line, err := server.ConfigLine(name, value)
	if err != nil {
		c.t.Fatalf("configuring a cluster: %v", err)
	}
	c.appendFile("postgresql.conf", line)
	if c.Status().Running {
		c.Reload()
	}
}

// Reload makes the server read its files, and waits until new sessions see
// them. Sessions and background processes that run already follow within moments.
func (c *Cluster) Reload() {
	c.t.Helper()
	const loaded = "SELECT extract(epoch FROM pg_conf_load_time())::float8"
	before := QueryValue[float64](c, loaded)
	if err := server.Reload(c.Dir); err != nil {
		c.t.Fatal(err)
	}
	c.Eventually("the configuration is loaded", func() bool { return QueryValue[float64](c, loaded) > before })
}

// Eventually waits until cond holds, for as long as anything may take.
func (c *Cluster) Eventually(what string, cond func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			c.t.Fatalf("after %s still not: %s", patience, what)
		}
	}
}

// cleanUp ends the server and removes what belongs to the cluster.
func (c *Cluster) cleanUp() {
	var errs error
	if c.Dir != "" {
		errs = c.end()
	}
	errs = errors.Join(errs, killAll(c.root))
	if c.port != nil {
		c.port.release()
	}
	if c.t.Failed() && c.Dir != "" {
		c.t.Logf("log of the server on %s, at its end:\n%s", c.Dir, lastLines(c.Log(), 40))
	}
	if errs = errors.Join(errs, os.RemoveAll(c.root)); errs != nil {
		c.t.Errorf("cleaning up a cluster: %v", errs)
	}
}

// end stops the server, by force if it won't.
func (c *Cluster) end() error {
	err := resumeAll(c.Dir)
	ctx, cancel := c.context()
	defer cancel()
	if serr := server.Stop(ctx, c.Dir, server.Immediate); serr != nil && !errors.Is(serr, server.ErrNotRunning) {
		err = errors.Join(err, serr)
	}
	if kerr := killAll(c.Dir); kerr != nil {
		return errors.Join(err, kerr)
	}
	return errors.Join(err, freeSharedMemory(c.Dir))
}

// freeSharedMemory removes the System V segment that a killed postmaster left;
// its key and identifier are in line 7 of the pid file, which such a postmaster
// leaves too. One that ended in order removed both.
func freeSharedMemory(dir string) error {
	b, err := os.ReadFile(dir + "/postmaster.pid")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 7 {
		return nil
	}
	fields := strings.Fields(lines[6])
	if len(fields) != 2 {
		return nil
	}
	id, err := strconv.Atoi(fields[1])
	if err != nil {
		return nil
	}
	_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EIDRM) {
		return fmt.Errorf("removing the shared memory of %s: %w", dir, err)
	}
	return nil
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// config says how to connect as the superuser.
func (c *Cluster) config(database string) conn.Config {
	return conn.Config{
		DSN:  "sslmode=disable",
		Host: c.SocketDir, Port: c.Port(), User: superuser, Database: database, ApplicationName: "pgtest",
	}
}

// SetHBA replaces pg_hba.conf, and reloads it if the server runs. Cluster's own
// methods connect through the socket as postgres, which must stay allowed:
// "local all all trust". With TCP, "host replication …" is for standbys.
func (c *Cluster) SetHBA(lines ...string) {
	c.t.Helper()
	path := filepath.Join(c.Dir, "pg_hba.conf")
	if err := c.writeOwned(path, []byte(strings.Join(lines, "\n")+"\n")); err != nil {
		c.t.Fatalf("writing %s: %v", path, err)
	}
	if c.Status().Running {
		c.Reload()
	}
}
