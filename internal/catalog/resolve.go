package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// Resolve finds the backup and the WAL that lead to a target, the newest backup
// that does, before anything is restored. It answers as PostgreSQL would decide
// while it recovers (recoveryStopsBefore and recoveryStopsAfter,
// xlogrecovery.c), from the indexes of the archived WAL. It fails with a
// *NotCovered, with ErrNoBackup if BackupID is not there, or with an *Unreadable if it
// is there and cannot be read.
//
// PostgreSQL stops at the first restore point of a name. Of one that was made
// repeatedly, the newest backup that has one after it decides which: the first
// after that backup is consistent. Name an older backup to reach an older one.
func (l Life) Resolve(ctx context.Context, objects *seal.Objects, t Target) (Choice, error) {
	heads, err := l.candidates(t)
	if err != nil {
		return Choice{}, err
	}
	var why error // of the newest backup that is not simply too new
	for i := len(heads) - 1; i >= 0; i-- {
		c, err := l.try(ctx, objects, heads[i], t)
		if err == nil {
			return c, nil
		}
		var no *NotCovered
		if !errors.As(err, &no) && !errors.Is(err, errNotReachable) {
			return Choice{}, err
		}
		if why == nil || tooNew(why) {
			why = err
		}
		if errors.As(err, &no) && no.final() {
			break
		}
	}
	return Choice{}, l.refuse(ctx, objects, t, why)
}

func (l Life) candidates(t Target) ([]Head, error) {
	if t.BackupID == "" {
		if len(l.Backups) == 0 && len(l.Unreadable) > 0 {
			return nil, errors.Join(l.Unreadable...)
		}
		if len(l.Backups) == 0 {
			return nil, &NotCovered{Target: t, Reason: "there is no backup", Possible: "make one: salvor backup"}
		}
		return l.Backups, nil
	}
	for _, h := range l.Backups {
		if h.ID == t.BackupID {
			return []Head{h}, nil
		}
	}
	for _, err := range l.Unreadable {
		if is := (*Unreadable)(nil); errors.As(err, &is) && is.ID == t.BackupID {
			return nil, err // it is there: not to find it would send people looking elsewhere
		}
	}
	return nil, fmt.Errorf("%s: %w", t.BackupID, ErrNoBackup)
}

// refuse makes the answer when no backup will do.
func (l Life) refuse(ctx context.Context, objects *seal.Objects, t Target, why error) error {
	var no *NotCovered
	if !errors.As(why, &no) {
		no = &NotCovered{Target: t, Reason: why.Error(), Possible: "choose another --timeline: latest, current or a number"}
	}
	if no.Possible == "" {
		w, err := l.Window(ctx, objects)
		switch {
		case err != nil:
			return err
		case w.OK:
			no.Possible = fmt.Sprintf("recovery is possible from %s to %s", stamp(w.From), stamp(w.To.Time))
		default:
			no.Possible = "nothing can be recovered: " + w.Reason
		}
	}
	return no
}

// final says that an older backup would fail in the same way.
func (e *NotCovered) final() bool { return e.beyond }

// tooNew says that the target may lie before the backup that was tried.
func tooNew(err error) bool {
	var no *NotCovered
	return errors.As(err, &no) && no.before
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// try says whether a backup leads to the target.
func (l Life) try(ctx context.Context, objects *seal.Objects, h Head, t Target) (Choice, error) {
	no := func(format string, args ...any) (Choice, error) {
		return Choice{}, &NotCovered{Target: t, Reason: fmt.Sprintf(format, args...)}
	}
	timeline := t.Timeline
	if t.Kind == ToImmediate {
		timeline = Current
	}
	history, err := reachable(l.Archive, h, timeline)
	if err != nil {
		return Choice{}, err
	}
	c := Choice{Origin: l.Origin, Backup: h, Archive: l.Archive, Path: l.Archive.Path(history, h.StartLSN), StopLSN: h.StopLSN}
	whole := c.Path.End() >= h.StopLSN
	if !whole && !(h.WALIncluded && t.Kind != ToTime && t.Kind != ToXID && t.Kind != ToRestorePoint) {
		return no("backup %s needs WAL up to %s, and segment %s is missing", h.ID, h.StopLSN, c.Path.Missing.Name(l.Archive.SegmentSize))
	}
	switch t.Kind {
	case ToImmediate:
		return c, nil
	case ToLatest:
		return l.toLatest(ctx, objects, c, t)
	case ToLSN:
		return l.toLSN(ctx, objects, c, t)
	}
	return l.toEvent(ctx, objects, c, t)
}

func (l Life) toLatest(ctx context.Context, objects *seal.Objects, c Choice, t Target) (Choice, error) {
	if c.Path.Hole {
		return Choice{}, &NotCovered{Target: t, beyond: true,
			Reason: fmt.Sprintf("segment %s is missing in the archive, and there is WAL after it", c.Path.Missing.Name(l.Archive.SegmentSize))}
	}
	c.StopLSN = max(c.Path.End(), c.Backup.StopLSN)
	last, ok, err := LastEvent(ctx, objects, l.Archive, c.Path, c.Backup.StartLSN)
	if ok {
		c.LastCommit = &Moment{last.LSN, last.Time}
	}
	return c, err
}

func (l Life) toLSN(ctx context.Context, objects *seal.Objects, c Choice, t Target) (Choice, error) {
	if t.LSN < c.Backup.StopLSN {
		return Choice{}, &NotCovered{Target: t, before: true, Reason: fmt.Sprintf("the oldest backup that could serve, %s, is consistent from %s on", c.Backup.ID, c.Backup.StopLSN)}
	}
	c.StopLSN = t.LSN
	size := l.Archive.SegmentSize
	var through pg.LSN
	for e, err := range Events(ctx, objects, l.Archive, tailFrom(c.Path, t.LSN, size), 0) {
		if err != nil {
			return Choice{}, err
		}
		// PostgreSQL stops at the first record that begins at the target or after:
		// one must be there. An event is one; a later segment has some.
		if e.Kind != 0 && e.LSN >= t.LSN {
			return c, nil
		}
		if e.Kind == 0 {
			through = e.Through
			if pg.SegmentBefore(1, through, size).Number > pg.SegmentAt(1, t.LSN, size).Number {
				return c, nil
			}
		}
	}
	return Choice{}, &NotCovered{Target: t, beyond: true,
		Reason: fmt.Sprintf("the archived WAL does not go past it: it ends at %s", max(through, c.Path.End()))}
}

// tailFrom is the part of the path from the segment that holds lsn.
func tailFrom(p Path, lsn pg.LSN, segmentSize uint32) Path {
	for i, s := range p.Steps {
		if s.Segment.End(segmentSize) > lsn {
			p.Steps = p.Steps[i:]
			return p
		}
	}
	p.Steps = nil
	return p
}

// toEvent looks for the record at which recovery will stop.
func (l Life) toEvent(ctx context.Context, objects *seal.Objects, c Choice, t Target) (Choice, error) {
	if t.Kind == ToTime && c.Backup.StoppedAt.After(t.Time) {
		return Choice{}, &NotCovered{Target: t, before: true, Reason: fmt.Sprintf("backup %s ended at %s, after the target", c.Backup.ID, stamp(c.Backup.StoppedAt))}
	}
	for e, err := range Events(ctx, objects, l.Archive, c.Path, c.Backup.StartLSN) {
		if err != nil {
			return Choice{}, err
		}
		if e.Kind == 0 {
			continue
		}
		if stopsAt(e.Event, t) {
			if e.LSN < c.Backup.StopLSN && t.Kind == ToRestorePoint {
				c.ByLSN = true
				continue
			}
			if e.LSN < c.Backup.StopLSN {
				return Choice{}, &NotCovered{Target: t, before: true, Reason: fmt.Sprintf("it lies at %s, before backup %s is consistent at %s", e.LSN, c.Backup.ID, c.Backup.StopLSN)}
			}
			c.StopLSN = e.LSN
			return c, nil
		}
		if e.Kind.EndsTransaction() {
			c.LastCommit = &Moment{e.LSN, e.Time}
		}
	}
	if t.Kind == ToTime && !t.Exclusive && c.endsAt(t.Time) {
		return c, nil
	}
	return Choice{}, c.notFound(t, l.Archive.SegmentSize)
}

// stopsAt says whether recovery to t stops at, or right after, the event.
func stopsAt(e walrec.Event, t Target) bool {
	switch t.Kind {
	case ToTime:
		if t.Exclusive {
			return e.Kind.EndsTransaction() && !e.Time.Before(t.Time)
		}
		return e.Kind.EndsTransaction() && e.Time.After(t.Time)
	case ToXID:
		return e.Kind.EndsTransaction() && e.XID == t.XID
	case ToRestorePoint:
		return e.Kind == walrec.RestorePoint && e.Name == t.Name
	}
	return false
}

// endsAt says whether the time is that of the last transaction on the path, or, with
// none after it, of the backup's end, and then chooses a way to stop there: nothing
// later is needed to know what was committed by then.
func (c *Choice) endsAt(at time.Time) bool {
	at = at.Truncate(time.Microsecond)
	last := c.LastCommit
	switch {
	case last != nil && last.LSN >= c.Backup.StopLSN:
		c.ByLSN, c.StopLSN = true, last.LSN
		return last.Time.Equal(at)
	default:
		c.Consistent, c.StopLSN = true, c.Backup.StopLSN
		return c.Backup.StoppedAt.Equal(at)
	}
}

func (c Choice) notFound(t Target, segmentSize uint32) *NotCovered {
	no := &NotCovered{Target: t}
	where := "the archived WAL, which goes up to " + c.Path.End().String()
	if c.Path.Hole {
		where += " and lacks segment " + c.Path.Missing.Name(segmentSize)
	}
	if t.Kind != ToTime {
		no.before = true // an older backup may tell more
		no.Reason = fmt.Sprintf("it is not after backup %s in %s", c.Backup.ID, where)
		return no
	}
	no.beyond = true
	before := fmt.Sprintf("no commit since backup %s", c.Backup.ID)
	if c.LastCommit != nil {
		before = "the last commit before is at " + stamp(c.LastCommit.Time)
	}
	no.Reason = fmt.Sprintf("%s, nothing was committed after the target in %s", before, where)
	if !c.Path.Hole {
		no.Possible = "to recover all that is archived use --latest; WAL of the running server is archived when its segment ends (select pg_switch_wal())"
	}
	return no
}

// Window is what can be recovered.
type Window struct {
	OK     bool
	Reason string    // if not OK
	From   time.Time // the end of the oldest usable backup
	// To is the last transaction that the newest usable backup leads to; with
	// none after it, the end of the backup.
	To     Moment
	EndLSN pg.LSN // of the unbroken WAL
	Newest Head   // the newest usable backup
	Hole   bool   // there is WAL after EndLSN, and a segment between is lost
}

// Window computes it: from the oldest backup that leads, without a hole, to the
// newest usable one, and on from there to the next hole.
func (l Life) Window(ctx context.Context, objects *seal.Objects) (Window, error) {
	w := Window{Reason: "there is no backup"}
	i := len(l.Backups) - 1
	var history pg.History
	for ; i >= 0 && !w.OK; i-- {
		var err error
		if history, err = l.endOfWindow(ctx, objects, l.Backups[i], &w); err != nil {
			return Window{}, err
		}
	}
	for oldest := w.Newest; i >= 0; i-- {
		h := l.Backups[i]
		if !history.Contains(h.Timeline, h.StopLSN) {
			continue // its timeline was left before
		}
		if !l.Archive.Reaches(history, h.StartLSN, oldest.StopLSN) {
			break // what lies between cannot be recovered
		}
		w.From, oldest = h.StoppedAt, h
	}
	return w, nil
}

// endOfWindow fills in what follows from the newest usable backup, if h is that.
func (l Life) endOfWindow(ctx context.Context, objects *seal.Objects, h Head, w *Window) (pg.History, error) {
	history, err := reachable(l.Archive, h, Latest)
	if err != nil {
		if history, err = reachable(l.Archive, h, Current); err != nil {
			w.Reason = err.Error()
			return pg.History{}, nil
		}
	}
	p := l.Archive.Path(history, h.StartLSN)
	if p.End() < h.StopLSN && !h.WALIncluded {
		w.Reason = fmt.Sprintf("WAL segment %s is missing, which backup %s needs", p.Missing.Name(l.Archive.SegmentSize), h.ID)
		return history, nil
	}
	last, ok, err := LastEvent(ctx, objects, l.Archive, p, h.StopLSN)
	if err != nil {
		return pg.History{}, err
	}
	*w = Window{OK: true, From: h.StoppedAt, To: Moment{h.StopLSN, h.StoppedAt}, EndLSN: max(p.End(), h.StopLSN), Newest: h, Hole: p.Hole}
	if ok {
		w.To = Moment{last.LSN, last.Time}
	}
	return history, nil
}
