package pgtest

import (
	"fmt"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
)

// Config says how to connect, as the superuser, over TCP.
func (c *Cluster) Config() conn.Config {
	cfg := c.config(superuser)
	cfg.Host = "127.0.0.1"
	return cfg
}

// DSN is a connection string for the superuser, over TCP.
func (c *Cluster) DSN() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s sslmode=disable", c.Port(), superuser, superuser)
}

// Conn opens a session as the superuser; it is closed when t ends.
func (c *Cluster) Conn(t testing.TB) *conn.Conn {
	t.Helper()
	cn, err := conn.Open(t.Context(), c.Config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cn.Close)
	return cn
}

// with runs fn in a session of its own, in the schema public.
func (c *Cluster) with(fn func(cn *conn.Conn) error) error {
	ctx, cancel := c.context()
	defer cancel()
	cn, err := conn.Open(ctx, c.config(superuser))
	if err != nil {
		return err
	}
	defer cn.Close()
	if err := cn.Exec(ctx, "SET search_path = public"); err != nil {
		return err
	}
	return fn(cn)
}

// Exec runs a statement, or several if there are no arguments.
func (c *Cluster) Exec(sql string, args ...any) {
	c.t.Helper()
	if err := c.TryExec(sql, args...); err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
}

// TryExec is Exec for a statement that may fail.
func (c *Cluster) TryExec(sql string, args ...any) error {
	return c.with(func(cn *conn.Conn) error {
		ctx, cancel := c.context()
		defer cancel()
		return cn.Exec(ctx, sql, args...)
	})
}

// QueryValue gives the one value of a query's one row.
func QueryValue[T any](c *Cluster, sql string, args ...any) T {
	c.t.Helper()
	var v T
	err := c.with(func(cn *conn.Conn) error {
		ctx, cancel := c.context()
		defer cancel()
		return cn.Row(ctx, sql, args, &v)
	})
	if err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// Psql runs a script with psql and gives what it printed, unaligned and
// without headers. An error in the script ends the test.
func (c *Cluster) Psql(script string) string {
	c.t.Helper()
	out, err := c.Command("psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", script).CombinedOutput()
	if err != nil {
		c.t.Fatalf("psql: %v\n%s", err, out)
	}
	return string(out)
}

// LSN is the position up to which a primary has written WAL, or a standby has
// replayed it.
func (c *Cluster) LSN() pg.LSN {
	c.t.Helper()
	return c.lsn("SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text")
}

// SwitchWAL ends the current segment and gives the position after its last record.
func (c *Cluster) SwitchWAL() pg.LSN {
	c.t.Helper()
	return c.lsn("SELECT pg_switch_wal()::text")
}

func (c *Cluster) lsn(sql string) pg.LSN {
	c.t.Helper()
	lsn, err := pg.ParseLSN(QueryValue[string](c, sql))
	if err != nil {
		c.t.Fatal(err)
	}
	return lsn
}

// WaitReplayed waits until a standby has replayed everything before lsn.
func (c *Cluster) WaitReplayed(lsn pg.LSN) {
	c.t.Helper()
	c.Eventually(fmt.Sprintf("replayed up to %s", lsn), func() bool { return c.LSN() >= lsn })
}

// WaitArchived waits until the archiver has dealt with the WAL file named, or
// with a later one.
func (c *Cluster) WaitArchived(walFile string) {
	c.t.Helper()
	c.Eventually(walFile+" is archived", func() bool {
		return QueryValue[bool](c, "SELECT coalesce(last_archived_wal, '') >= $1 FROM pg_stat_archiver", walFile)
	})
}
