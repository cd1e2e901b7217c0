package conn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
)

// Backup is a base backup that the server is in the middle of, non-exclusive:
// it lives exactly as long as its session. While files are copied, Ping keeps
// the session alive and tells when it is lost. Stop or Abort ends it.
type Backup struct {
	// StartLSN is where recovery from the backup must begin.
	StartLSN pg.LSN
	// Timeline is the one that the backup begins on.
	Timeline pg.Timeline
	// StartedAt is the server's clock, read after the backup had begun.
	StartedAt time.Time
	SystemID  pg.SystemID
	// FromStandby tells that the server is in recovery.
	FromStandby bool

	c    *Conn
	mu   sync.Mutex
	over bool
}

// StopResult is what the server gives at the end of a backup.
type StopResult struct {
	// StopLSN is the position up to which WAL is needed, exclusive.
	StopLSN pg.LSN
	// Timeline is the one that the backup ended on, the same it began on.
	Timeline pg.Timeline
	// Label and TablespaceMap are the contents of backup_label and
	// tablespace_map, byte for byte. The backup is worthless without the label.
	// An empty map needs no file.
	Label, TablespaceMap []byte
	// StopTime is the server's clock at the end.
	StopTime time.Time
}

// backupFunctions gives the signatures of the functions for a non-exclusive
// backup; version 15 renamed them.
func backupFunctions(v pg.Version) (start, stop string) {
	if v.Major() >= 15 {
		return "pg_backup_start(text,boolean)", "pg_backup_stop(boolean)"
	}
	return "pg_start_backup(text,boolean,boolean)", "pg_stop_backup(boolean,boolean)"
}

// StartBackup begins a base backup and waits for the checkpoint that it starts
// from: fast asks for that at once, otherwise it is spread over part of
// checkpoint_timeout. Nothing but ctx limits the wait. If ctx ends it, the
// session is closed, and with it the attempt.
//
// The session is the backup's from here on. Questions are still welcome in it,
// but a second backup is not.
func (c *Conn) StartBackup(ctx context.Context, label string, fast bool) (*Backup, error) {
	b, err := c.startBackup(ctx, label, fast)
	if err != nil {
		return nil, fmt.Errorf("starting a backup on %s: %w", c.cfg.Address(), err)
	}
	return b, nil
}

func (c *Conn) startBackup(ctx context.Context, label string, fast bool) (*Backup, error) {
	sql := "SELECT pg_backup_start($1, $2)::text"
	if c.version.Major() < 15 {
		sql = "SELECT pg_start_backup($1, $2, false)::text"
	}
	var start string
	if err := c.Row(ctx, sql, []any{label, fast}, &start); err != nil {
		return nil, c.needsBackupRole(err)
	}
	b := &Backup{c: c}
	var err error
	if b.StartLSN, err = pg.ParseLSN(start); err == nil {
		err = b.readStart(ctx)
	}
	if err != nil {
		c.Close() // the server forgets the backup with its session
		return nil, err
	}
	return b, nil
}

// moment is where the server stands, read in one query.
type moment struct {
	systemID   pg.SystemID
	inRecovery bool
	checkpoint pg.Timeline // of the last checkpoint
	redo       pg.LSN      // of the last checkpoint
	now        time.Time
	current    pg.Timeline // read after all the others
}

func (c *Conn) moment(ctx context.Context) (m moment, err error) {
	const sql = `SELECT s.system_identifier::text, pg_is_in_recovery(), k.timeline_id, k.redo_lsn::text, clock_timestamp()
FROM pg_control_system() s, pg_control_checkpoint() k`
	var id, redo string
	var tli uint32
	if err = c.Row(ctx, sql, nil, &id, &m.inRecovery, &tli, &redo, &m.now); err != nil {
		return m, err
	}
	m.checkpoint, m.now = pg.Timeline(tli), m.now.UTC()
	if m.systemID, err = parseSystemID(id); err != nil {
		return m, err
	}
	if m.redo, err = pg.ParseLSN(redo); err != nil {
		return m, err
	}
	m.current, err = c.timeline(ctx)
	return m, err
}

// readStart reads timeline and role after the backup has begun: what was read
// before may be of a time before a promotion. The checkpoint that the backup
// starts from must be on the timeline that the server is on now.
func (b *Backup) readStart(ctx context.Context) error {
	m, err := b.c.moment(ctx)
	if err != nil {
		return err
	}
	switch {
	case m.redo < b.StartLSN:
		return fmt.Errorf("the backup starts at %s, but the last checkpoint is at %s: %w", b.StartLSN, m.redo, ErrInconsistent)
	case m.checkpoint != m.current:
		return fmt.Errorf("the last checkpoint is on timeline %d, and the server on %d: %w", m.checkpoint, m.current, ErrTimelineChanged)
	}
	b.Timeline, b.SystemID, b.FromStandby, b.StartedAt = m.current, m.systemID, m.inRecovery, m.now
	return nil
}

// Ping keeps the session alive, also through firewalls that forget idle
// connections, and finds out whether the backup is still there: ErrLost if not,
// ErrRoleChanged if the server was promoted meanwhile.
func (b *Backup) Ping(ctx context.Context) error {
	if b.isOver() {
		return fmt.Errorf("keeping a backup alive: %w", ErrBackupOver)
	}
	var inRecovery bool
	err := b.c.Row(ctx, "SELECT pg_is_in_recovery()", nil, &inRecovery)
	if err == nil && inRecovery != b.FromStandby {
		err = ErrRoleChanged
	}
	if err != nil {
		return fmt.Errorf("keeping a backup on %s alive: %w", b.c.cfg.Address(), err)
	}
	return nil
}

func (b *Backup) isOver() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.over
}

// finish marks the backup as over; false if it was before.
func (b *Backup) finish() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := !b.over
	b.over = true
	return first
}

// Stop ends the backup. With waitForArchive, the server first waits until the
// WAL that the backup needs is archived. Before the result counts it is made
// sure that this is still the same cluster, in the same role, on the same
// timeline: ErrOtherCluster, ErrRoleChanged, ErrTimelineChanged. After any
// error the backup is over, and worthless. The session stays open unless it is
// lost.
func (b *Backup) Stop(ctx context.Context, waitForArchive bool) (StopResult, error) {
	if !b.finish() {
		return StopResult{}, fmt.Errorf("stopping a backup: %w", ErrBackupOver)
	}
	r, err := b.stop(ctx, waitForArchive)
	if err != nil {
		// Whether the server still holds the backup is not known; without the
		// session it does not.
		b.c.Close()
		return StopResult{}, fmt.Errorf("stopping the backup on %s that began at %s: %w", b.c.cfg.Address(), b.StartLSN, err)
	}
	return r, nil
}

func (b *Backup) stop(ctx context.Context, waitForArchive bool) (StopResult, error) {
	if _, err := b.compare(ctx); err != nil {
		return StopResult{}, err
	}
	// Paths in the label and the map are bytes of the server's file system. They
	// may not be converted, or be refused because they can't be.
	if err := b.c.Exec(ctx, "SET client_encoding = 'SQL_ASCII'"); err != nil {
		return StopResult{}, err
	}
	sql := "SELECT lsn::text, labelfile, spcmapfile, clock_timestamp() FROM pg_backup_stop($1)"
	if b.c.version.Major() < 15 {
		sql = "SELECT lsn::text, labelfile, spcmapfile, clock_timestamp() FROM pg_stop_backup(false, $1)"
	}
	var r StopResult
	var lsn string
	err := b.c.Row(ctx, sql, []any{waitForArchive}, &lsn, &r.Label, &r.TablespaceMap, &r.StopTime)
	if err != nil {
		// The server itself refuses after a promotion; say which it was.
		if _, cerr := b.compare(ctx); errors.Is(cerr, ErrRoleChanged) {
			return StopResult{}, fmt.Errorf("%w: %w", cerr, err)
		}
		return StopResult{}, b.c.needsBackupRole(err)
	}
	if err := b.c.Exec(ctx, "SET client_encoding = 'UTF8'"); err != nil {
		return StopResult{}, err
	}
	m, err := b.compare(ctx)
	if err != nil {
		return StopResult{}, err
	}
	r.Timeline, r.StopTime = m.current, r.StopTime.UTC()
	if r.StopLSN, err = pg.ParseLSN(lsn); err != nil {
		return StopResult{}, err
	}
	return r, b.checkLabel(r)
}

// compare finds out whether the server is still what it was at the start.
func (b *Backup) compare(ctx context.Context) (moment, error) {
	m, err := b.c.moment(ctx)
	switch {
	case err != nil:
		return m, err
	case m.systemID != b.SystemID:
		return m, fmt.Errorf("%s at the start, %s now: %w", b.SystemID, m.systemID, ErrOtherCluster)
	case m.inRecovery != b.FromStandby:
		return m, ErrRoleChanged
	case m.current != b.Timeline:
		return m, fmt.Errorf("%d at the start, %d now: %w", b.Timeline, m.current, ErrTimelineChanged)
	}
	return m, nil
}

// checkLabel compares the label with what the start said. Its lines are written
// by build_backup_content (xlogbackup.c).
func (b *Backup) checkLabel(r StopResult) error {
	start, err := labelValue(r.Label, "START WAL LOCATION: ")
	if err != nil {
		return err
	}
	tli, err := labelValue(r.Label, "START TIMELINE: ")
	if err != nil {
		return err
	}
	lsn, err1 := pg.ParseLSN(start)
	n, err2 := strconv.ParseUint(tli, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("reading the backup label: %w", err)
	}
	switch {
	case lsn != b.StartLSN || pg.Timeline(n) != b.Timeline:
		return fmt.Errorf("the label says %s on timeline %d, and the start said %s on %d: %w",
			lsn, n, b.StartLSN, b.Timeline, ErrInconsistent)
	case r.StopLSN < b.StartLSN:
		return fmt.Errorf("the backup started at %s and stopped at %s: %w", b.StartLSN, r.StopLSN, ErrInconsistent)
	}
	return nil
}

// labelValue gives the first word after a line's key.
func labelValue(label []byte, key string) (string, error) {
	for line := range bytes.Lines(label) {
		if rest, ok := bytes.CutPrefix(line, []byte(key)); ok {
			word, _, _ := bytes.Cut(bytes.TrimRight(rest, "\n"), []byte(" "))
			return string(word), nil
		}
	}
	return "", fmt.Errorf("the backup label has no line %q: %w", key, ErrInconsistent)
}

// Abort gives the backup up and closes its session, which is what makes the
// server forget it. That succeeds whatever ctx says; it bounds the farewell to
// the server. After Stop, Abort does nothing, so it can be deferred.
func (b *Backup) Abort(ctx context.Context) {
	if b.finish() {
		b.c.close(ctx)
	}
}

// needsBackupRole turns the refusal of a backup function into words that say
// what to grant.
func (c *Conn) needsBackupRole(err error) error {
	if SQLState(err) != "42501" { // insufficient_privilege
		return err
	}
	start, stop := backupFunctions(c.version)
	return errors.Join(&MissingPrivilege{
		Role: c.cfg.User, What: "take a backup", Need: "EXECUTE on " + start + " and " + stop,
	}, err)
}
