package trial

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// connections is how many sessions the server takes: those of a trial, and
// PostgreSQL's own that are held back for superusers.
const connections = 20

// replay has the server recover, and leaves it shut down. It says whether it did.
func (r *run) replay(ctx context.Context) (ok bool, err error) {
	r.Events.Phase("replay")
	began := r.Clock.Now()
	err = r.recover(ctx)
	var exit *server.ExitError
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.As(err, &exit):
		r.check("replay", began, false, "the server did not recover")
		r.problem(catalog.Problem{Kind: NotRecovered, Detail: fmt.Sprintf("the server did not recover to %s: %s; its last words: %s", r.Goal.Target, exit.Status, oneLine(exit.Log, 1500))})
		return false, nil
	case err != nil:
		return false, err
	}
	r.res.ReplaySeconds = r.since(began)
	err = r.howFar(ctx)
	if err == nil {
		err = server.Stop(ctx, r.scratch.data(), server.Fast)
	}
	if err != nil {
		return false, err
	}
	detail := "to " + r.res.RecoveredTo.String()
	if !r.res.RecoveredAt.IsZero() {
		detail += ", " + r.res.RecoveredAt.Format(time.RFC3339Nano)
	}
	if r.Goal.Short != "" {
		detail += ", and not to the newest WAL: " + r.Goal.Short
	}
	r.check("replay", began, true, detail)
	return true, nil
}

// recover starts the server, and waits until it is promoted. Only WAL of an extension
// that has a resource manager of its own demands that its library is loaded; workers of
// it never start, since there is no room for any.
func (r *run) recover(ctx context.Context) error {
	until := func(s server.Status) bool { return s.Primary }
	err := r.start(ctx, server.StartOptions{Until: until})
	var exit *server.ExitError
	libraries := r.head().Needs.PreloadLibraries
	// The messages are in English (lc_messages), and there is no other sign.
	if errors.As(err, &exit) && libraries != "" && strings.Contains(exit.Log, "resource manager with ID") {
		r.Events.Warn("the WAL needs what extensions bring along: loading " + libraries)
		r.preload = libraries
		err = r.start(ctx, server.StartOptions{Until: until})
	}
	return err
}

// open starts the server for the checks, closed off from networks where that can be.
// It says whether it runs.
func (r *run) open(ctx context.Context) (ok bool, err error) {
	r.Events.Phase("start")
	began := r.Clock.Now()
	// What comes now is thrown away, so nothing needs to be durable.
	o := server.StartOptions{NoNetwork: true, Set: map[string]string{"fsync": "off"}}
	detail := "in a network of its own, without any connection"
	err = r.start(ctx, o)
	if errors.Is(err, server.ErrNoIsolation) {
		detail = "it listens on no network; this system gives it none of its own"
		o.NoNetwork = false
		err = r.start(ctx, o)
	}
	var exit *server.ExitError
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.As(err, &exit):
		r.check("start", began, false, "the recovered server did not start again")
		r.problem(catalog.Problem{Kind: NotRecovered, Detail: fmt.Sprintf("the recovered server did not start again: %s; its last words: %s", exit.Status, oneLine(exit.Log, 1500))})
		return false, nil
	case err != nil:
		return false, err
	}
	r.check("start", began, true, detail)
	return true, nil
}

func (r *run) start(ctx context.Context, o server.StartOptions) error {
	s := r.scratch
	o.BinDir, o.DataDir, o.SocketDir, o.Port, o.LogFile = r.BinDir, s.data(), s.dir, port, s.log()
	o.ConfigFile, o.HBAFile, o.IdentFile = filepath.Join(s.dir, "postgresql.conf"), filepath.Join(s.dir, "pg_hba.conf"), filepath.Join(s.dir, "pg_ident.conf")
	o.Guarded = true
	set := r.settings()
	for name, value := range o.Set {
		set[name] = value
	}
	o.Set = set
	_, err := server.Start(ctx, o)
	return err
}

// settings keep the server to itself, whatever postgresql.auto.conf of the backup says;
// its postgresql.conf is not read at all. They do not change what is recovered, nor make
// recovery faster than a real one: durability stays as it is.
func (r *run) settings() map[string]string {
	h := r.head()
	major, needs := h.Version.Major(), h.Needs
	set := map[string]string{
		"data_directory": r.scratch.data(), "external_pid_file": "",
		// Nobody gets in, and nothing goes out.
		"listen_addresses": "", "unix_socket_permissions": "0700", "unix_socket_group": "", "ssl": "off", "bonjour": "off",
		"archive_mode": "off", "archive_command": "", "max_wal_senders": "0",
		"max_logical_replication_workers": "0", "max_worker_processes": "0", "autovacuum": "off",
		// No connection before it is promoted. That also makes it need less than the source
		// had: only what prepared transactions hold (CheckRequiredParameterValues, xlog.c).
		"hot_standby":               "off",
		"max_connections":           strconv.Itoa(connections),
		"max_prepared_transactions": strconv.Itoa(needs.MaxPreparedXacts),
		// pg_dump locks every table at once; each has a few files.
		"max_locks_per_transaction": strconv.Itoa(max(64, needs.MaxLocksPerXact, int(min(h.FileCount, 60e6)/(3*connections)))),
		"max_replication_slots":     "1000", // origins that subscriptions left are restored into as many
		// No code but the server's, unless WAL demands it.
		"shared_preload_libraries": r.preload, "session_preload_libraries": "", "local_preload_libraries": "",
		"dynamic_library_path": "$libdir", "jit": "off",
		// What damage is, is not overlooked.
		"zero_damaged_pages": "off", "ignore_checksum_failure": "off", "ignore_system_indexes": "off",
		// A modest guest on its host.
		"shared_buffers": "128MB", "huge_pages": "off", "max_wal_size": strconv.Itoa(walKept>>20) + "MB", "max_parallel_workers": "0",
		"temp_tablespaces": "", "default_tablespace": "",
		"logging_collector": "off", "log_destination": "stderr", "log_min_messages": "warning", "log_statement": "none",
		"log_min_duration_statement": "-1", "log_min_error_statement": "panic", "log_error_verbosity": "default", "lc_messages": "C",
	}
	for _, v := range []struct {
		from, before int // majors; 0 for all that follow
		name, value  string
	}{
		{13, 0, "ignore_invalid_pages", "off"}, {15, 0, "archive_library", ""}, {17, 0, "event_triggers", "off"},
		{17, 0, "summarize_wal", "off"}, {18, 0, "io_method", "worker"}, {18, 0, "max_active_replication_origins", "1000"},
		{0, 15, "stats_temp_directory", "pg_stat_tmp"},
	} {
		if major >= v.from && (v.before == 0 || major < v.before) {
			set[v.name] = v.value
		}
	}
	return set
}

// connect opens a session. With no user it is the superuser's.
func (r *run) connect(ctx context.Context, user, database string) (*conn.Conn, error) {
	if user == "" {
		user = r.super
	}
	return conn.Open(ctx, conn.Config{DSN: "sslmode=disable", Host: r.scratch.dir, Port: port, User: user, Database: database})
}

// howFar asks how far the recovery came, and who is superuser.
func (r *run) howFar(ctx context.Context) error {
	c, err := r.connect(ctx, r.User, r.Database)
	if err != nil {
		return err
	}
	defer c.Close()
	var at *time.Time
	if err := c.Row(ctx, "SELECT pg_last_xact_replay_timestamp()", nil, &at); err != nil {
		return err
	}
	if at != nil {
		r.res.RecoveredAt = at.UTC()
	}
	if r.res.RecoveredTo, err = c.ReplayLSN(ctx); err != nil {
		return err
	}
	err = c.Row(ctx, "SELECT rolname::text FROM pg_roles WHERE rolsuper AND rolcanlogin ORDER BY oid LIMIT 1", nil, &r.super)
	if errors.Is(err, conn.ErrNoRow) {
		return errors.New("the cluster has no superuser who may log in, so it cannot be looked at")
	}
	return err
}

// databases lists those that take connections. template0 takes none.
func (r *run) databases(ctx context.Context) ([]string, error) {
	c, err := r.connect(ctx, "", r.Database)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var names []string
	err = c.Rows(ctx, "SELECT datname::text FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY oid", nil, func(scan func(...any) error) error {
		names = append(names, "")
		return scan(&names[len(names)-1])
	})
	return names, err
}
