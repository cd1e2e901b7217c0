package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// StartOptions say how to start a restored server.
type StartOptions struct {
	DataDir    string
	BinDir     string
	Port       int
	SocketDir  string
	ConfigFile string
	Set        map[string]string
	Action     Action
	Target     catalog.Target
	Standby    bool
	Backup     catalog.Head
	// Connect is how to ask the server how far it came; host and port are filled in.
	Connect conn.Config
	Warn    func(message string)
}

// Started is how far the recovery of a started server came.
type Started struct {
	PID       int
	Port      int
	SocketDir string
	LogFile   string
	LSN       pg.LSN    // replayed up to; 0 if it is not known
	Time      time.Time // of the last transaction replayed; zero if none was
}

// Start starts the restored server, which is then left running, and waits until it
// has reached its target and done its action. It fails with *server.ExitError if the
// server ends before.
func Start(ctx context.Context, o StartOptions) (Started, error) {
	log := filepath.Join(o.DataDir, "log", "salvor-restore.log")
	if err := ensureLogDir(o.DataDir); err != nil {
		return Started{}, err
	}
	so := server.StartOptions{
		BinDir: o.BinDir, DataDir: o.DataDir, Port: o.Port, SocketDir: o.SocketDir, ConfigFile: o.ConfigFile,
		LogFile: log, Set: settings(o),
	}
	if !o.Standby && (o.Action != Pause || o.Target.Kind == catalog.ToLatest) {
		// With hot_standby it takes connections long before it has recovered; to shut
		// down is to end, which Start says.
		so.Until = func(s server.Status) bool { return s.Primary }
	}
	status, err := server.Start(ctx, so)
	var exit *server.ExitError
	if errors.As(err, &exit) && o.Action == Shutdown {
		return stopped(o, log, err)
	}
	if err != nil {
		return Started{}, err
	}
	s := Started{PID: status.PID, Port: status.Port, SocketDir: status.SocketDir, LogFile: log}
	return s, s.ask(ctx, o, status)
}

func settings(o StartOptions) map[string]string {
	// The source's configuration may name a file with its server's process, which
	// must stay the original's.
	set := map[string]string{"data_directory": o.DataDir, "hot_standby": "on", "external_pid_file": ""}
	if o.ConfigFile != "" {
		// A configuration of elsewhere may allow less than the WAL demands.
		n := o.Backup.Needs
		for name, least := range map[string]int{
			"max_connections": n.MaxConnections, "max_worker_processes": n.MaxWorkers, "max_wal_senders": n.MaxWALSenders,
			"max_prepared_transactions": n.MaxPreparedXacts, "max_locks_per_transaction": n.MaxLocksPerXact,
		} {
			set[name] = fmt.Sprint(least)
		}
	}
	for name, value := range o.Set {
		set[name] = value
	}
	return set
}

func ensureLogDir(dataDir string) error {
	dir := filepath.Join(dataDir, "log")
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	o, err := ownerFor(dataDir, catalog.Owner{})
	if err != nil {
		return err
	}
	return o.give(dir)
}

// stopped judges a server that ended: if it shut itself down in recovery, it has
// reached its target.
func stopped(o StartOptions, log string, err error) (Started, error) {
	c, readErr := datadir.ReadControl(o.DataDir)
	if readErr != nil {
		return Started{}, errors.Join(err, readErr)
	}
	if c.State != datadir.StateShutdownInRecovery {
		return Started{}, err
	}
	return Started{LogFile: log, LSN: c.MinRecoveryPoint}, nil
}

// ask finds out how far recovery came. With the action pause it waits until
// recovery is paused.
func (s *Started) ask(ctx context.Context, o StartOptions, status server.Status) error {
	cfg := o.Connect
	cfg.Host, cfg.Port = status.SocketDir, status.Port
	if cfg.Host == "" {
		cfg.Host = status.ListenAddr
	}
	c, err := conn.Open(ctx, cfg)
	if err != nil {
		o.Warn(fmt.Sprintf("the server runs, but how far it recovered could not be asked: %v", err))
		return nil
	}
	defer c.Close()
	if o.Action == Pause && !o.Standby && o.Target.Kind != catalog.ToLatest {
		if err := paused(ctx, c, o.DataDir); err != nil {
			return err
		}
	}
	var at *time.Time
	if err := c.Row(ctx, "SELECT pg_last_xact_replay_timestamp()", nil, &at); err != nil {
		return err
	}
	if at != nil {
		s.Time = at.UTC()
	}
	s.LSN, err = c.ReplayLSN(ctx)
	return err
}

func paused(ctx context.Context, c *conn.Conn, dataDir string) error {
	for {
		var is bool
		if err := c.Row(ctx, "SELECT pg_is_wal_replay_paused()", nil, &is); err != nil {
			if status, probeErr := server.Probe(dataDir); probeErr == nil && !status.Running {
				return &server.ExitError{DataDir: dataDir, Status: "while it recovered"}
			}
			return err
		}
		if is {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
