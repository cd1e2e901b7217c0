package conn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/salvor-dr/salvor/internal/pg"
)

// Conn is one session on a PostgreSQL server. Its methods may be called from
// several goroutines; they wait for each other.
type Conn struct {
	cfg     Config // what was connected to, resolved
	version pg.Version

	turn   chan struct{} // one token: whoever holds it may use c
	c      *pgx.Conn
	closed sync.Once
}

// How TCP notices a peer that is gone. The keepalive probes (idle + interval ×
// count) and the wait for an acknowledgement of what was sent are both about
// half a minute: longer than a live migration of a virtual machine pauses it,
// shorter than a person waits.
const (
	keepIdle       = 10 * time.Second
	keepInterval   = 5 * time.Second
	keepCount      = 4
	tcpUserTimeout = 30 * time.Second
)

// sessionSettings make a session independent of how role, database and server
// are configured. They are sent with the login, which beats all of those.
var sessionSettings = [...]struct{ name, value string }{
	{"search_path", "pg_catalog"},
	{"statement_timeout", "0"},
	{"lock_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"default_transaction_read_only", "off"},
	{"max_parallel_workers_per_gather", "0"},
	{"jit", "off"},
	{"client_encoding", "UTF8"},
	{"datestyle", "ISO"},
	{"timezone", "UTC"},
	// The server's side of the same: it notices that we are gone and ends the
	// backup, even while it waits for a checkpoint.
	{"tcp_keepalives_idle", "10"},
	{"tcp_keepalives_interval", "5"},
	{"tcp_keepalives_count", "4"},
}

// Open connects and prepares the session. Errors are of type *ConnectError,
// except for a Config that makes no sense; Unavailable and AuthFailed sort them.
func Open(ctx context.Context, cfg Config) (*Conn, error) {
	dc, err := cfg.driverConfig()
	if err != nil {
		return nil, fmt.Errorf("connecting to PostgreSQL: %w", err)
	}
	app := cmp.Or(cfg.ApplicationName, dc.RuntimeParams["application_name"], defaultApplication)
	timeout := cmp.Or(cfg.ConnectTimeout, dc.ConnectTimeout, defaultConnectTimeout)
	password := dc.Password
	cfg = fieldsOf(&dc.Config)
	cfg.ApplicationName, cfg.ConnectTimeout, cfg.Password = app, timeout, ""

	for _, s := range sessionSettings {
		dc.RuntimeParams[s.name] = s.value
	}
	dc.RuntimeParams["application_name"] = app
	dc.ConnectTimeout = timeout
	dc.DialFunc = dialer(timeout).DialContext
	// Plans are of no use to questions that are asked once.
	dc.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	dc.StatementCacheCapacity, dc.DescriptionCacheCapacity = 0, 0

	c, err := pgx.ConnectConfig(ctx, dc)
	if err != nil {
		return nil, newConnectError(ctx, cfg, password, err)
	}
	conn := &Conn{cfg: cfg, c: c, turn: make(chan struct{}, 1)}
	conn.turn <- struct{}{}
	if err := conn.prepare(ctx); err != nil {
		conn.Close()
		return nil, newConnectError(ctx, cfg, password, err)
	}
	return conn, nil
}

// dialer sets what makes TCP give up a dead peer.
func dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout:         timeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepCount},
		Control: func(network, _ string, raw syscall.RawConn) error {
			if network == "unix" {
				return nil
			}
			var serr error
			err := raw.Control(func(fd uintptr) {
				serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(tcpUserTimeout.Milliseconds()))
			})
			return errors.Join(err, serr)
		},
	}
}

// prepare reads the version, and switches off the timeout that only newer
// servers know: transaction_timeout, which also ends a single long statement.
func (c *Conn) prepare(ctx context.Context) error {
	if err := c.Row(ctx, "SELECT current_setting('server_version_num')::int", nil, &c.version); err != nil {
		return err
	}
	if c.version.Major() >= 17 {
		return c.Exec(ctx, "SET transaction_timeout = 0")
	}
	return nil
}

// Close ends the session; a backup that it holds is aborted by that. A second
// Close does nothing. The server may still see the session for some
// milliseconds.
func (c *Conn) Close() { c.close(context.Background()) }

// close says farewell for as long as ctx allows.
func (c *Conn) close(ctx context.Context) {
	c.closed.Do(func() {
		// The farewell is a courtesy. One that can't be sent soon is not worth a
		// wait, and the socket is closed in any case.
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		select {
		case <-c.turn:
			_ = c.c.Close(ctx)
			c.turn <- struct{}{}
		case <-ctx.Done():
			// Somebody waits for an answer. Closing under them ends their wait.
			_ = c.c.PgConn().Conn().Close()
		}
	})
}

// Config tells what the session is connected to, with every field resolved.
// The password is left out.
func (c *Conn) Config() Config { return c.cfg }

// Version is the server's.
func (c *Conn) Version() pg.Version { return c.version }

// BackendPID is the process of the server that serves this session.
func (c *Conn) BackendPID() int { return int(c.c.PgConn().PID()) }

// Ping asks the server for a sign of life.
func (c *Conn) Ping(ctx context.Context) error { return c.Exec(ctx, "SELECT") }

// acquire waits for the session to be free.
func (c *Conn) acquire(ctx context.Context) error {
	select {
	case <-c.turn:
	default:
		select {
		case <-c.turn:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if c.c.IsClosed() {
		c.turn <- struct{}{}
		return ErrLost
	}
	return nil
}

func (c *Conn) release() { c.turn <- struct{}{} }

// Exec runs a statement, or several without arguments, and throws rows away.
// Names of the database's own objects need their schema: search_path is
// pg_catalog.
func (c *Conn) Exec(ctx context.Context, sql string, args ...any) error {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	_, err := c.c.Exec(ctx, sql, args...)
	return c.explain(ctx, err)
}

// Row runs a query and reads its first row into dest. No row is ErrNoRow.
func (c *Conn) Row(ctx context.Context, sql string, args []any, dest ...any) error {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	err := c.c.QueryRow(ctx, sql, args...).Scan(dest...)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNoRow
	}
	return c.explain(ctx, err)
}

// Rows runs a query and calls fn with each row; scan reads it as Row does. An
// error of fn ends the query. fn must not use the Conn.
func (c *Conn) Rows(ctx context.Context, sql string, args []any, fn func(scan func(dest ...any) error) error) error {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	rows, err := c.c.Query(ctx, sql, args...)
	if err != nil {
		return c.explain(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return c.explain(ctx, err)
		}
	}
	return c.explain(ctx, rows.Err())
}

// explain tells the end of the caller's context and the loss of the session
// apart from errors of the question.
func (c *Conn) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return contextError(ctx, err)
	case c.c.IsClosed():
		return fmt.Errorf("%w: %w", ErrLost, err)
	default:
		return err
	}
}
