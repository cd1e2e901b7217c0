package pg

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// Timeline numbers one line of history of a cluster, from 1. A promotion
// starts a new one.
type Timeline uint32

// Hex gives the eight upper-case digits used in file names.
func (t Timeline) Hex() string { return fmt.Sprintf("%08X", uint32(t)) }

// HistoryName gives the name of the file that lists the timeline's ancestors.
func (t Timeline) HistoryName() string { return t.Hex() + ".history" }

// ParseTimelineHex reads eight upper-case hexadecimal digits.
func ParseTimelineHex(s string) (Timeline, error) {
	v, err := parseUpperHex32(s)
	if err != nil || v == 0 {
		return 0, fmt.Errorf("%q is not a timeline: want eight hexadecimal digits", s)
	}
	return Timeline(v), nil
}

// Fork says where a timeline was left for its successor.
type Fork struct {
	Timeline Timeline // the one that was left
	At       LSN      // the first position that no longer belongs to it
	Reason   string
}

// History is the ancestry of one timeline: its forks, oldest first. The
// history of timeline 1 is empty.
type History struct {
	Timeline Timeline
	Forks    []Fork
}

// ParseHistory reads the contents of a .history file: a line for each ancestor,
// with timeline, switch position and reason separated by white space; lines
// that start with # and empty lines don't count (readTimeLineHistory,
// timeline.c). Ancestors must rise, and stay below the timeline itself.
func ParseHistory(tli Timeline, data []byte) (History, error) {
	h := History{Timeline: tli}
	last := Timeline(0)
	for n, line := range bytes.Split(data, []byte("\n")) {
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		fields := strings.Fields(text)
		if len(fields) < 2 {
			return History{}, fmt.Errorf("line %d of the history of timeline %d: want a timeline and a position", n+1, tli)
		}
		t, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil || Timeline(t) <= last || Timeline(t) >= tli {
			return History{}, fmt.Errorf("line %d of the history of timeline %d: timeline %q does not fit there", n+1, tli, fields[0])
		}
		at, err := ParseLSN(fields[1])
		if err != nil {
			return History{}, fmt.Errorf("line %d of the history of timeline %d: %w", n+1, tli, err)
		}
		last = Timeline(t)
		h.Forks = append(h.Forks, Fork{Timeline: last, At: at, Reason: strings.Join(fields[2:], " ")})
	}
	return h, nil
}

// Contains says whether the position lsn on timeline tli is part of this
// history, that is, whether a server on it has passed, or started at, that point.
func (h History) Contains(tli Timeline, lsn LSN) bool {
	if tli == h.Timeline {
		return true
	}
	for _, f := range h.Forks {
		if f.Timeline == tli {
			return lsn <= f.At
		}
	}
	return false
}

// At gives the timeline that a byte at lsn belongs to on the way to this
// timeline (tliOfPointInHistory, timeline.c).
func (h History) At(lsn LSN) Timeline {
	for _, f := range h.Forks {
		if lsn < f.At {
			return f.Timeline
		}
	}
	return h.Timeline
}

// ForkAfter gives the position at which tli was left on the way to this
// timeline, and false if tli is the timeline itself or no ancestor of it.
func (h History) ForkAfter(tli Timeline) (LSN, bool) {
	for _, f := range h.Forks {
		if f.Timeline == tli {
			return f.At, true
		}
	}
	return 0, false
}
