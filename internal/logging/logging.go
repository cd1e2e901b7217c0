package logging

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// Format is how a line of the log is written.
type Format string

// The formats there are.
const (
	Text Format = "text" // key=value, for people
	JSON Format = "json" // one object a line, for machines
)

// ParseFormat reads "text" or "json", in any case.
func ParseFormat(s string) (Format, error) {
	switch f := Format(strings.ToLower(s)); f {
	case Text, JSON:
		return f, nil
	}
	return "", fmt.Errorf("%q is not a log format: use %s or %s", s, Text, JSON)
}

// ParseLevel reads "debug", "info", "warn" or "error", in any case.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("%q is not a log level: use debug, info, warn or error", s)
}

// New makes a logger that writes lines of at least the given level to w. The
// level may be a *slog.LevelVar, to be changed while the process runs. One
// Write is one line, and lines are never mixed.
func New(w io.Writer, level slog.Leveler, format Format) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: normalize}
	if format == JSON {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// normalize writes times in UTC, whatever the zone of the machine, and
// durations as seconds, which slog's JSON would give as nanoseconds.
func normalize(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindTime:
		a.Value = slog.TimeValue(a.Value.Time().UTC())
	case slog.KindDuration:
		a.Value = slog.Float64Value(a.Value.Duration().Seconds())
	}
	return a
}

// Names of attributes that several packages write.
const (
	KeyCluster         = "cluster"          // name of the protected cluster
	KeyRepository      = "repository"       // name of the repository
	KeyBackup          = "backup_id"        // id of a backup
	KeyTimeline        = "timeline"         // timeline, in decimal
	KeyLSN             = "lsn"              // a position in the WAL
	KeySegment         = "segment"          // name of a WAL segment or history file
	KeyObject          = "object"           // name of an object in a store
	KeyFile            = "file"             // path of a file
	KeyBytes           = "size_bytes"       // how much
	KeyDurationSeconds = "duration_seconds" // how long
	KeyAttempt         = "attempt"          // which try, from 1
	KeyError           = "error"            // what went wrong
)

// Err is the attribute for what went wrong.
func Err(err error) slog.Attr {
	if err == nil {
		return slog.Attr{} // handlers leave an empty attribute out
	}
	return slog.String(KeyError, err.Error())
}

// Took is the attribute for how long something took.
func Took(d time.Duration) slog.Attr { return slog.Duration(KeyDurationSeconds, d) }
