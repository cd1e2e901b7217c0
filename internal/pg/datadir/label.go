package datadir

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/salvor-dr/salvor/internal/pg"
)

// Label is the contents of backup_label: where recovery from a backup begins
// (build_backup_content, xlogbackup.c; read_backup_label, xlogrecovery.c).
type Label struct {
	Start      pg.LSN      // replay begins here: the checkpoint's redo position
	StartFile  string      // name of the WAL segment with Start, 24 digits
	Checkpoint pg.LSN      // position of the checkpoint record
	Method     string      // "streamed", since PostgreSQL 15 always
	From       string      // "primary" or "standby"
	StartTime  string      // as printed, in the server's log_timezone
	Label      string      // what was given to pg_backup_start
	Timeline   pg.Timeline // that Start is on
}

// FromStandby says whether the backup was taken from a standby: then recovery
// is consistent at the minimum recovery point in the backup's pg_control, and
// no end-of-backup record is waited for.
func (l Label) FromStandby() bool { return l.From == "standby" }

// ParseLabel reads the contents of a backup_label. Lines it does not know are
// passed over. The start and checkpoint positions must be there, and the
// timeline must be the one in the segment's name, as PostgreSQL wants them.
func ParseLabel(data []byte) (Label, error) {
	var l Label
	seen := make(map[string]bool)
	for line := range strings.Lines(string(data)) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok || seen[key] {
			continue // a second line of a name can only come from the label's own text
		}
		seen[key] = true
		if err := l.set(key, value); err != nil {
			return Label{}, fmt.Errorf("backup_label: %s: %w", key, err)
		}
	}
	for _, key := range []string{keyStart, keyCheckpoint} {
		if !seen[key] {
			return Label{}, fmt.Errorf("backup_label: %s is missing", key)
		}
	}
	inName, err := pg.ParseTimelineHex(l.StartFile[:8])
	if err != nil {
		return Label{}, fmt.Errorf("backup_label: %s: %w", keyStart, err)
	}
	if seen[keyTimeline] && l.Timeline != inName {
		return Label{}, fmt.Errorf("backup_label: %s is %d, but the segment %s is on %d", keyTimeline, l.Timeline, l.StartFile, inName)
	}
	l.Timeline = inName
	return l, nil
}

// The names of lines that PostgreSQL itself reads.
const (
	keyStart      = "START WAL LOCATION"
	keyCheckpoint = "CHECKPOINT LOCATION"
	keyTimeline   = "START TIMELINE"
)

func (l *Label) set(key, value string) (err error) {
	switch key {
	case keyStart:
		l.Start, l.StartFile, err = parseStart(value)
	case keyCheckpoint:
		l.Checkpoint, err = pg.ParseLSN(value)
	case keyTimeline:
		var n uint64
		n, err = strconv.ParseUint(value, 10, 32)
		l.Timeline = pg.Timeline(n)
	case "BACKUP METHOD":
		l.Method = value
	case "BACKUP FROM":
		l.From = value
	case "START TIME":
		l.StartTime = value
	case "LABEL":
		l.Label = value
	}
	return err
}

// parseStart reads "0/2000028 (file 000000010000000000000002)". How the digits
// of the name divide depends on the segment size, which is not known here.
func parseStart(value string) (pg.LSN, string, error) {
	at, rest, _ := strings.Cut(value, " (file ")
	file, ok := strings.CutSuffix(rest, ")")
	if !ok || len(file) != 24 || strings.Trim(file, "0123456789ABCDEF") != "" {
		return 0, "", fmt.Errorf("%q is not a position with the name of a WAL segment", value)
	}
	lsn, err := pg.ParseLSN(at)
	return lsn, file, err
}
