//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/salvor-dr/salvor/examples/swifteats"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// The ports only name sockets in a directory of our own: nothing listens on a network.
const (
	sourcePort   = 5432
	restoredPort = 5433
)

// settings of the measured cluster. fsync is off as nothing here measures the
// server's own writes; autovacuum would work while a tool is measured.
var settings = map[string]string{
	"listen_addresses": "", "fsync": "off", "full_page_writes": "on", "autovacuum": "off",
	"shared_buffers": "256MB", "maintenance_work_mem": "256MB", "max_wal_size": "8GB", "checkpoint_timeout": "1h",
	"wal_level": "replica", "max_wal_senders": "10", "archive_mode": "on", "log_min_messages": "fatal",
}

// makeCluster makes a cluster with checksums, starts it and fills it.
func (b *bench) makeCluster(ctx context.Context) error {
	args := []string{filepath.Join(b.binDir, "initdb"), "-k", "-D", b.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"}
	if err := b.run(ctx, nil, args); err != nil {
		return err
	}
	set := map[string]string{"archive_command": "sh " + b.archiveScript() + ` "%p"`}
	for name, value := range settings {
		set[name] = value
	}
	for name, value := range set {
		l, err := server.ConfigLine(name, value)
		if err == nil {
			err = appendFile(filepath.Join(b.data, "postgresql.conf"), l)
		}
		if err != nil {
			return err
		}
	}
	if err := b.archiveBy(); err != nil {
		return err
	}
	if _, err := server.Start(ctx, b.startOptions(b.data, sourcePort)); err != nil {
		return err
	}
	var err error
	if b.db, err = b.connect(ctx, sourcePort, "postgres"); err != nil {
		return err
	}
	return b.fill(ctx)
}

func (b *bench) startOptions(dataDir string, port int) server.StartOptions {
	return server.StartOptions{BinDir: b.binDir, DataDir: dataDir, Port: port, SocketDir: b.sockets,
		LogFile: filepath.Join(b.root, filepath.Base(dataDir)+".log"), Timeout: 10 * time.Minute}
}

func (b *bench) connect(ctx context.Context, port int, database string) (*conn.Conn, error) {
	return conn.Open(ctx, conn.Config{Host: b.sockets, Port: port, User: "postgres", Database: database, ApplicationName: "bench"})
}

// pgbench runs pgbench on the measured cluster.
func (b *bench) pgbench(ctx context.Context, args ...string) error {
	argv := []string{filepath.Join(b.binDir, "pgbench"), "-h", b.sockets, "-p", strconv.Itoa(sourcePort), "-U", "postgres"}
	return b.run(ctx, nil, append(argv, args...))
}

// fill loads two databases: of numbers and of a food delivery platform.
func (b *bench) fill(ctx context.Context) error {
	b.say("filling: pgbench at scale %d, SwiftEats with %d orders", b.scale, b.orders)
	if err := b.pgbench(ctx, "-i", "-q", "-s", strconv.Itoa(b.scale), "postgres"); err != nil {
		return err
	}
	if err := b.fillEats(ctx, "swifteats", b.orders, 1); err != nil {
		return err
	}
	return b.rest(ctx)
}

func (b *bench) fillEats(ctx context.Context, database string, orders int, seed int64) error {
	if err := b.db.Exec(ctx, "create database "+database); err != nil {
		return err
	}
	db, err := b.connect(ctx, sourcePort, database)
	if err != nil {
		return err
	}
	defer db.Close()
	return errors.Join(swifteats.Create(ctx, db), swifteats.Fill(ctx, db, orders, seed))
}

// rest leaves the server with nothing to write, and no hint bits to set later.
func (b *bench) rest(ctx context.Context) error {
	if err := b.run(ctx, nil, []string{filepath.Join(b.binDir, "vacuumdb"), "-h", b.sockets, "-p", strconv.Itoa(sourcePort), "-U", "postgres", "-a", "-q", "-F", "-z"}); err != nil {
		return err
	}
	return b.db.Checkpoint(ctx)
}

func (b *bench) archiveScript() string { return filepath.Join(b.root, "archive.sh") }

// archiveBy makes tools archive the server's WAL from now on, one after the other; none
// archives nothing.
func (b *bench) archiveBy(all ...tool) error {
	text := "set -e\n"
	for _, t := range all {
		if argv := t.push(b, b.data); argv != nil {
			text += shell(t, argv) + ` "$1"` + "\n"
		}
	}
	return b.setArchiving(text)
}

// setArchiving replaces the script as a whole, so that the server never runs a half.
func (b *bench) setArchiving(text string) error {
	next := b.archiveScript() + ".next"
	if err := b.user.write(next, text, 0o700); err != nil {
		return err
	}
	return os.Rename(next, b.archiveScript())
}

// drain ends a segment and waits until everything before it is archived.
func (b *bench) drain(ctx context.Context) error {
	if err := b.db.Exec(ctx, "select pg_logical_emit_message(false, 'bench', 'an end')"); err != nil {
		return err
	}
	var want string
	if err := b.db.Row(ctx, "select pg_walfile_name(pg_current_wal_lsn())", nil, &want); err != nil {
		return err
	}
	if _, err := b.db.SwitchWAL(ctx); err != nil {
		return err
	}
	deadline := b.clock.Now().Add(time.Minute)
	for {
		a, err := b.db.Archiver(ctx)
		if err != nil {
			return err
		}
		if a.LastArchivedWAL >= want {
			return nil
		}
		if b.clock.Now().After(deadline) {
			return fmt.Errorf("the server has not archived %s; the last command that failed was for %q", want, a.LastFailedWAL)
		}
		if err := b.pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func (b *bench) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-b.clock.After(d):
		return nil
	}
}

// waitQuery asks whether a session waits for the checkpoint that begins a backup, or
// for WAL to be archived at its end.
const waitQuery = `select count(*) from pg_stat_activity
 where wait_event in ('CheckpointStart', 'CheckpointDone', 'BackupWaitWalArchive')`

// waitEvery is how often the server is asked; a wait is known to about that.
const waitEvery = 20 * time.Millisecond

// watchWaits measures for how long any session waits as waitQuery asks. The function
// it gives ends that.
func (b *bench) watchWaits(ctx context.Context) (func() (time.Duration, error), error) {
	db, err := b.connect(ctx, sourcePort, "postgres")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var waited time.Duration
	failed := make(chan error, 1)
	go func() {
		last := b.clock.Now()
		for {
			var n int64
			if err := db.Row(context.WithoutCancel(ctx), waitQuery, nil, &n); err != nil {
				failed <- err
				return
			}
			now := b.clock.Now()
			if n > 0 {
				waited += now.Sub(last)
			}
			last = now
			if b.pause(ctx, waitEvery) != nil {
				failed <- nil
				return
			}
		}
	}()
	return func() (time.Duration, error) {
		cancel()
		err := <-failed
		db.Close()
		return waited, err
	}, nil
}

// postmaster gives the measured server's process.
func (b *bench) postmaster() (int, error) {
	s, err := server.Probe(b.data)
	return s.PID, err
}
