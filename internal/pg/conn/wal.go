package conn

import (
	"context"
	"fmt"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
)

// SwitchWAL ends the current segment, so that it is archived, and gives the
// position after its last record. A segment without a record is not switched.
func (c *Conn) SwitchWAL(ctx context.Context) (pg.LSN, error) {
	return c.lsn(ctx, "switching WAL", "SELECT pg_switch_wal()::text")
}

// CreateRestorePoint writes a named record into WAL, which recovery can stop
// at, makes sure that it is on the server's disk, and gives the position after
// it. Names have at most 63 bytes and need not be unique.
//
// The function alone leaves the record in memory. Taking a transaction id
// beside it makes a commit, which flushes WAL up to there (RecordTransactionCommit,
// xact.c), but waits for no standby.
func (c *Conn) CreateRestorePoint(ctx context.Context, name string) (pg.LSN, error) {
	return c.lsn(ctx, fmt.Sprintf("creating the restore point %q", name),
		"SELECT pg_create_restore_point($1)::text FROM pg_current_xact_id(), set_config('synchronous_commit', 'local', true)", name)
}

// CurrentLSN is the position up to which a primary has written WAL to the
// operating system. On a standby the error is ErrInRecovery.
func (c *Conn) CurrentLSN(ctx context.Context) (pg.LSN, error) {
	return c.lsn(ctx, "reading the WAL position", "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn()::text END")
}

// ReplayLSN is the position up to which a standby has replayed WAL. It is zero
// before the first record, and on a server that never was in recovery.
func (c *Conn) ReplayLSN(ctx context.Context) (pg.LSN, error) {
	return c.lsn(ctx, "reading the replay position", "SELECT coalesce(pg_last_wal_replay_lsn(), '0/0')::text")
}

// ReceiveLSN is the position up to which a standby has received WAL by
// streaming and flushed it. It is zero if it never streamed.
func (c *Conn) ReceiveLSN(ctx context.Context) (pg.LSN, error) {
	return c.lsn(ctx, "reading the receive position", "SELECT coalesce(pg_last_wal_receive_lsn(), '0/0')::text")
}

// lsn runs a query for one position, where null stands for "not in recovery".
func (c *Conn) lsn(ctx context.Context, doing, sql string, args ...any) (pg.LSN, error) {
	var s *string
	err := c.Row(ctx, sql, args, &s)
	var lsn pg.LSN
	switch {
	case err == nil && s == nil:
		err = ErrInRecovery
	case err == nil:
		lsn, err = pg.ParseLSN(*s)
	case SQLState(err) == "55000": // object_not_in_prerequisite_state: WAL control functions during recovery
		err = fmt.Errorf("%w: %w", ErrInRecovery, err)
	}
	if err != nil {
		return 0, fmt.Errorf("%s on %s: %w", doing, c.cfg.Address(), err)
	}
	return lsn, nil
}

// Checkpoint makes a checkpoint at once, or a restartpoint on a standby, and
// waits for it. It needs superuser, or from version 15 on pg_checkpoint.
func (c *Conn) Checkpoint(ctx context.Context) error {
	if err := c.Exec(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("making a checkpoint on %s: %w", c.cfg.Address(), err)
	}
	return nil
}

// ArchiverStats say how archiving goes (pg_stat_archiver). What did not happen
// yet is empty. The server keeps them in memory: they start anew after a crash.
type ArchiverStats struct {
	ArchivedCount   int64
	LastArchivedWAL string
	LastArchivedAt  time.Time
	FailedCount     int64
	LastFailedWAL   string
	LastFailedAt    time.Time
	ResetAt         time.Time
}

// Archiver reads how archiving goes.
func (c *Conn) Archiver(ctx context.Context) (ArchiverStats, error) {
	var a ArchiverStats
	var archived, failed, reset *time.Time
	err := c.Row(ctx, `SELECT archived_count, coalesce(last_archived_wal, ''), last_archived_time,
  failed_count, coalesce(last_failed_wal, ''), last_failed_time, stats_reset FROM pg_stat_archiver`, nil,
		&a.ArchivedCount, &a.LastArchivedWAL, &archived, &a.FailedCount, &a.LastFailedWAL, &failed, &reset)
	if err != nil {
		return a, fmt.Errorf("reading how archiving goes on %s: %w", c.cfg.Address(), err)
	}
	for _, f := range []struct {
		to   *time.Time
		from *time.Time
	}{{&a.LastArchivedAt, archived}, {&a.LastFailedAt, failed}, {&a.ResetAt, reset}} {
		if f.from != nil {
			*f.to = f.from.UTC()
		}
	}
	return a, nil
}

// Sender gives the server that a standby streams from: a host or the directory of a
// socket, and a port. The error is ErrNotStreaming if it streams from none.
func (c *Conn) Sender(ctx context.Context) (host string, port int, err error) {
	err = c.Row(ctx, `SELECT coalesce(max(sender_host), ''), coalesce(max(sender_port), 0) FROM pg_stat_wal_receiver WHERE status = 'streaming'`, nil, &host, &port)
	if err == nil && host == "" {
		err = ErrNotStreaming
	}
	if err != nil {
		return "", 0, fmt.Errorf("asking the server at %s where it streams from: %w", c.cfg.Address(), err)
	}
	return host, port, nil
}
