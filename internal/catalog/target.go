package catalog

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
)

// TargetKind is where a recovery stops.
type TargetKind int

// The kinds of target.
const (
	ToLatest       TargetKind = iota // the end of the archived WAL
	ToImmediate                      // where the backup is consistent
	ToTime                           // before the first commit later than Time
	ToLSN                            // at a position
	ToXID                            // at the end of a transaction
	ToRestorePoint                   // at a named restore point
)

// String is the kind in the words of records: latest, immediate, time, lsn, xid or
// restore_point.
func (k TargetKind) String() string {
	return [...]string{"latest", "immediate", "time", "lsn", "xid", "restore_point"}[k]
}

// Target is what a restore is asked for.
type Target struct {
	Kind      TargetKind
	Time      time.Time
	LSN       pg.LSN
	XID       uint32
	Name      string // of the restore point
	Exclusive bool   // stop before the target: ToTime, ToLSN and ToXID
	Timeline  TimelineChoice
	BackupID  string // "" to choose the best
}

// String says the target in words.
func (t Target) String() string {
	before := ""
	if t.Exclusive {
		before = "before "
	}
	switch t.Kind {
	case ToImmediate:
		return "immediate"
	case ToTime:
		return before + "time " + t.Time.UTC().Format(time.RFC3339Nano)
	case ToLSN:
		return before + "lsn " + t.LSN.String()
	case ToXID:
		return before + "xid " + strconv.FormatUint(uint64(t.XID), 10)
	case ToRestorePoint:
		return "restore point " + strconv.Quote(t.Name)
	}
	return "latest"
}

// TimelineChoice is which timeline to recover along: a number, or Latest or
// Current.
type TimelineChoice int64

// The choices that are no number.
const (
	Latest  TimelineChoice = 0  // the newest in the archive
	Current TimelineChoice = -1 // the one the backup was made on
)

// ParseTimelineChoice reads "latest", "current" or a timeline's number, decimal
// or, as in file names, hexadecimal after 0x.
func ParseTimelineChoice(s string) (TimelineChoice, error) {
	switch s {
	case "latest", "":
		return Latest, nil
	case "current":
		return Current, nil
	}
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a timeline: want a number, latest or current", s)
	}
	return TimelineChoice(n), nil
}

// NotCovered says that no backup and WAL lead to a target, why, and what is
// possible instead.
type NotCovered struct {
	Target   Target
	Reason   string
	Possible string

	beyond bool // the target lies after everything archived, for every backup
	before bool // the target may lie before the backup that was tried
}

// Error implements error.
func (e *NotCovered) Error() string {
	return fmt.Sprintf("cannot recover to %s: %s", e.Target, e.Reason)
}

// Choice is how to reach a target.
type Choice struct {
	Origin  Origin
	Backup  Head
	Archive Archive
	// Path is the WAL from the backup's start on, along the target's timeline.
	Path Path
	// StopLSN is where recovery stops, as far as that is known before: the target
	// itself, or the first record after it.
	StopLSN pg.LSN
	// LastCommit is the last transaction's end before the target, if one is in
	// the WAL after the backup.
	LastCommit *Moment
	// ByLSN says to recover to StopLSN, inclusive, and not to the target as it was
	// asked for. A restore point's name may occur before as well, after the backup's
	// start and before it is consistent: there PostgreSQL would stop and fail. And a
	// time may be that of the last commit there is: PostgreSQL wants to see a later
	// one before it stops.
	ByLSN bool
	// Consistent says to stop where the backup is consistent: the target is the
	// backup's own end, and nothing was committed after it.
	Consistent bool
}

// Moment is a position in the WAL and the time written there.
type Moment struct {
	LSN  pg.LSN
	Time time.Time
}

var errNotReachable = errors.New("not reachable")

// reachable gives the history to follow from a backup. It fails with *UnreadableHistory
// if that cannot be read, also where it would tell nothing new, for a backup made on the
// timeline itself: PostgreSQL asks for the file, and gives up without it.
func reachable(a Archive, h Head, choice TimelineChoice) (pg.History, error) {
	tli := pg.Timeline(choice)
	switch choice {
	case Latest:
		tli = max(a.Newest(), h.Timeline)
	case Current:
		tli = h.Timeline
	}
	line, ok := a.Find(tli)
	switch {
	case ok && line.Unreadable != nil:
		return pg.History{}, fmt.Errorf("following timeline %d: %w", tli, line.Unreadable)
	case tli == h.Timeline && ok && line.History != nil:
		return *line.History, nil
	case tli == h.Timeline:
		return pg.History{Timeline: tli}, nil // nothing before the backup is needed
	case !ok:
		return pg.History{}, fmt.Errorf("the archive has no timeline %d: %w", tli, errNotReachable)
	case line.History == nil:
		return pg.History{}, fmt.Errorf("the archive has no %s: %w", tli.HistoryName(), errNotReachable)
	case !line.History.Contains(h.Timeline, h.StopLSN):
		return pg.History{}, fmt.Errorf("backup %s (timeline %d, up to %s) is not on the way to timeline %d: %w",
			h.ID, h.Timeline, h.StopLSN, tli, errNotReachable)
	}
	return *line.History, nil
}
