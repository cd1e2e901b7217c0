package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
)

// pollEvery is how often the repository is asked for a segment.
const pollEvery = 100 * time.Millisecond

// proveArchiving ends one segment and waits until it is in the repository, while
// the copy runs: that archiving does not work should be known now, and not after
// hours of copying.
func (r *run) proveArchiving(ctx, session context.Context) error {
	p := r.source.primary
	if r.WithWAL || p == nil {
		return nil
	}
	before, err := p.Archiver(session)
	if err == nil {
		_, err = p.CreateRestorePoint(session, "salvor "+r.id+" start")
	}
	if err == nil {
		_, err = p.SwitchWAL(session)
	}
	if err != nil && p.own { // a standby can be backed up while its primary is away
		r.Events.Warn(fmt.Sprintf("whether the primary archives is not known: %v", err))
		return nil
	}
	if err == nil {
		size := r.source.control.Sizes.WALSegment
		err = r.await(ctx, session, pg.SegmentAt(r.head.Timeline, r.head.StartLSN, size), before)
	}
	return ignoreEnd(ctx, err)
}

// ignoreEnd drops errors that come only from ctx having ended.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// secureWAL makes sure of the WAL from start to stop: all of it is in the
// repository, or is copied from pg_wal.
func (r *run) secureWAL(ctx context.Context, c *copied, slot *slot) error {
	size := r.source.control.Sizes.WALSegment
	last := pg.SegmentBefore(r.head.Timeline, r.head.StopLSN, size)
	first := pg.SegmentAt(r.head.Timeline, r.head.StartLSN, size)
	if r.WithWAL {
		return r.includeWAL(ctx, c, slot, first, last)
	}
	var before conn.ArchiverStats
	if r.source.primary != nil {
		var err error
		if before, err = r.source.primary.Archiver(ctx); err != nil && !r.source.primary.own {
			return err
		}
	}
	for s := first; s.Number <= last.Number; s = s.Next() {
		if err := r.await(ctx, ctx, s, before); err != nil {
			return err
		}
	}
	return nil
}

// segmentObject names a segment in the repository.
func (r *run) segmentObject(s pg.Segment) string {
	return r.place.WALName(s.Timeline, s.Name(r.source.control.Sizes.WALSegment))
}

// await waits until the repository has a segment. If it does not come in time, it
// asks the server why, in the given session.
func (r *run) await(ctx, session context.Context, s pg.Segment, before conn.ArchiverStats) error {
	object := r.segmentObject(s)
	deadline := r.Clock.Now().Add(r.ArchiveTimeout)
	for {
		there, err := r.Objects.Exists(ctx, object)
		if err != nil {
			return err
		}
		if there {
			return nil
		}
		if r.Clock.Now().After(deadline) {
			return r.archiveTimeout(session, s.Name(r.source.control.Sizes.WALSegment), before)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.Clock.After(pollEvery):
		}
	}
}

// archiveTimeout finds out why a segment did not come.
func (r *run) archiveTimeout(ctx context.Context, name string, before conn.ArchiverStats) error {
	e := &ArchiveTimeout{Segment: name, Repository: r.Repository, Waited: r.ArchiveTimeout}
	p := r.source.primary
	if p == nil {
		e.Cause = "the primary has not archived it, and it cannot be asked why"
		e.Hint = "on the primary: SELECT pg_switch_wal(); see its log, and let role " + r.source.server.User + " connect to it from here, so that this is done by itself"
		return e
	}
	now, err := p.Archiver(ctx)
	if err != nil {
		return errors.Join(e, err)
	}
	command := p.server.ArchiveCommand
	if command == "" {
		command = p.server.ArchiveLibrary
	}
	switch {
	case now.FailedCount > before.FailedCount || now.LastFailedAt.After(now.LastArchivedAt):
		e.Cause = fmt.Sprintf("archive_command fails, last for %s at %s; it is: %s", now.LastFailedWAL, now.LastFailedAt.UTC().Format(time.RFC3339), command)
		e.Hint = "the server's log has its messages; try it by hand as the server's user: salvor wal push " + filepath.Join(r.DataDir, "pg_wal", name)
	case now.LastArchivedWAL >= name && strings.Contains(command, "wal push"):
		e.Cause = fmt.Sprintf("the server has archived it, but not here; archive_command is: %s", command)
		e.Hint = "does archive_command use this configuration?"
	case now.LastArchivedWAL >= name:
		e.Cause = fmt.Sprintf("the server has archived it with another command: %s", command)
		e.Hint = "set the archive_command that salvor init prints, and reload the server"
	default:
		e.Cause = fmt.Sprintf("the server has not archived it yet, the last was %q; archive_command is: %s", now.LastArchivedWAL, command)
		e.Hint = "is the archiver behind? raise backup.archive_timeout, or see: salvor wal status"
	}
	return e
}

// slot keeps the WAL that a standalone backup will carry. It is temporary: it goes
// with the session, whatever happens.
type slot struct {
	conn *conn.Conn
	name string
}

// holdWAL makes the slot, for a standalone backup.
func (r *run) holdWAL(ctx context.Context) (*slot, error) {
	if !r.WithWAL {
		return nil, nil
	}
	s := &slot{r.Conn, "salvor_" + strings.ToLower(strings.NewReplacer("-", "_").Replace(r.id))}
	if err := r.Conn.Exec(ctx, "SELECT pg_create_physical_replication_slot($1, true, true)", s.name); err != nil {
		return nil, fmt.Errorf("holding WAL for a standalone backup with a temporary replication slot (is max_replication_slots above 0?): %w", err)
	}
	return s, nil
}

// drop lets the WAL go.
func (s *slot) drop() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = s.conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", s.name) // else the session's end does
}

// includeWAL copies the segments from pg_wal into the backup.
func (r *run) includeWAL(ctx context.Context, c *copied, slot *slot, first, last pg.Segment) error {
	w, err := r.worker(c, nil)
	if err != nil {
		return err
	}
	size := r.source.control.Sizes.WALSegment
	names := []string{}
	if r.head.Timeline > 1 {
		names = append(names, r.head.Timeline.HistoryName())
	}
	for s := first; s.Number <= last.Number; s = s.Next() {
		names = append(names, s.Name(size))
	}
	for _, name := range names {
		path := "pg_wal/" + name
		info, err := os.Stat(filepath.Join(r.DataDir, path))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the server removed %s, which the backup needs, although slot %s held it: is max_slot_wal_keep_size too low?", path, slot.name)
		}
		if err != nil {
			return err
		}
		f := r.file(datadir.Entry{Path: path, Kind: datadir.KindFile, Size: info.Size(), Mode: 0o600, ModTime: info.ModTime()})
		if err := r.remember(ctx, f); err != nil {
			return err
		}
		for i := range f.parts {
			if err := w.read(ctx, f, &f.parts[i]); err != nil {
				return fmt.Errorf("copying %s: %w", path, err)
			}
		}
		done, ok, err := w.finish(ctx, f)
		if err != nil {
			return fmt.Errorf("copying %s: %w", path, err)
		}
		if !ok || done.Size != uint64(info.Size()) {
			return fmt.Errorf("%s changed while it was copied", path)
		}
	}
	return w.packs.Close()
}
