package cli

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
)

// targetFlags are the options that choose a recovery target.
type targetFlags struct {
	at, lsn, xid, restorePoint string
	immediate, latest          bool
	exclusive                  bool
	timeline                   string
	backup                     string

	given func(option string) bool // on the command line or by its variable
}

func (f *targetFlags) declare(cmd *cobra.Command) {
	fl := cmd.Flags()
	f.given = fl.Changed
	fl.StringVar(&f.at, "at", "", "recover to a `time`, RFC 3339 with a zone, as 2026-11-24T06:51:00Z")
	fl.StringVar(&f.lsn, "lsn", "", "recover to a WAL `position`, as 0/3000148")
	fl.StringVar(&f.xid, "xid", "", "recover to the end of a transaction, by its `number`")
	fl.StringVar(&f.restorePoint, "restore-point", "", "recover to a restore point, by its `name`")
	fl.BoolVar(&f.immediate, "immediate", false, "stop as soon as the backup is consistent")
	fl.BoolVar(&f.latest, "latest", false, "recover to the end of the archived WAL (the default)")
	fl.BoolVar(&f.exclusive, "exclusive", false, "stop just before the target (time, lsn, xid)")
	fl.StringVar(&f.timeline, "timeline", "latest", "recover along this timeline: a `number`, latest or current")
	fl.StringVar(&f.backup, "backup", "", "restore the backup with this `ID` (else the best one)")
	cmd.MarkFlagsMutuallyExclusive("at", "lsn", "xid", "restore-point", "immediate", "latest")
}

// target reads the options.
func (f targetFlags) target() (catalog.Target, error) {
	t := catalog.Target{Exclusive: f.exclusive, BackupID: f.backup}
	for name, value := range map[string]string{"at": f.at, "lsn": f.lsn, "xid": f.xid, "restore-point": f.restorePoint, "timeline": f.timeline, "backup": f.backup} {
		if value == "" && f.given(name) {
			return t, usageError("a variable of your script may not be set", "--%s is empty", name) // and would restore something else
		}
	}
	var err error
	if t.Timeline, err = catalog.ParseTimelineChoice(f.timeline); err != nil {
		return t, usageError("", "--timeline: %w", err)
	}
	switch {
	case f.at != "":
		t.Kind = catalog.ToTime
		t.Time, err = parseTime(f.at)
	case f.lsn != "":
		t.Kind = catalog.ToLSN
		if t.LSN, err = pg.ParseLSN(f.lsn); err != nil {
			err = usageError("", "--lsn: %w", err)
		}
	case f.xid != "":
		t.Kind = catalog.ToXID
		n, parseErr := strconv.ParseUint(f.xid, 10, 64)
		if parseErr != nil || uint32(n) < 3 {
			err = usageError("", "--xid: %q is not the number of a transaction", f.xid)
		}
		t.XID = uint32(n) // with an epoch above, as pg_current_xact_id prints it, or without
	case f.restorePoint != "":
		t.Kind, t.Name = catalog.ToRestorePoint, f.restorePoint
	case f.immediate:
		t.Kind = catalog.ToImmediate
	}
	if err != nil {
		return t, err
	}
	if t.Exclusive && t.Kind != catalog.ToTime && t.Kind != catalog.ToLSN && t.Kind != catalog.ToXID {
		return t, usageError("", "--exclusive needs --at, --lsn or --xid")
	}
	return t, nil
}

// parseTime reads RFC 3339. Without a zone nobody knows which moment is meant, and
// a guess would restore the wrong one.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999-07", "2006-01-02T15:04Z07:00", "2006-01-02 15:04Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04"} {
		if _, err := time.Parse(layout, s); err != nil {
			continue
		}
		local, err := time.ParseInLocation(layout, s, time.Local)
		if err != nil {
			continue
		}
		utc, _ := time.Parse(layout, s)
		return time.Time{}, usageError(
			fmt.Sprintf("write --at %s for UTC, or --at %s for this host's local time", utc.Format(time.RFC3339Nano), local.Format(time.RFC3339Nano)),
			"--at %s has no time zone", s)
	}
	return time.Time{}, usageError("write it as 2026-11-24T06:51:00Z or 2026-11-24T07:51:00+01:00", "--at: %q is not a time", s)
}
