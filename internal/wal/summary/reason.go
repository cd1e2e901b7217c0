package summary

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/salvor-dr/salvor/internal/pg"
)

// ReasonKind says why WAL does not tell all that changed. The numbers are part of
// the format.
type ReasonKind uint8

// The reasons.
const (
	// MinimalLevel: written with wal_level=minimal, with which relations are
	// filled without WAL.
	MinimalLevel ReasonKind = 1
	// UnknownManager: an extension's resource manager changes blocks. Those that
	// its records refer to are known; whether there are others is not.
	UnknownManager ReasonKind = 2
	// UnknownChange: a record says that it changes relations' files, in a way
	// that this release does not know.
	UnknownChange ReasonKind = 3
	// CutRecord: the end of a record with a long list of what it drops is not
	// known, since it crosses two segments that were read one by one. Reading them
	// with Read helps, unless the record is beyond all measure.
	CutRecord  ReasonKind = 4
	lastReason            = CutRecord
)

// Reason is why WAL does not tell all that changed, and where: from the first to
// the last record for which it holds, both by their LSN.
type Reason struct {
	Kind        ReasonKind
	Manager     uint8 // number of the resource manager; for MinimalLevel zero
	First, Last pg.LSN
}

// String says it in words.
func (r Reason) String() string {
	text := ""
	switch r.Kind {
	case MinimalLevel:
		text = "wal_level was minimal"
	case UnknownManager:
		text = fmt.Sprintf("resource manager %d, which an extension brings, changed relations", r.Manager)
	case UnknownChange:
		text = fmt.Sprintf("resource manager %d changed relations in a way that is not known", r.Manager)
	case CutRecord:
		text = "a record that drops very many relations was not read whole"
	default:
		text = fmt.Sprintf("reason %d", uint8(r.Kind))
	}
	if r.First == r.Last {
		return fmt.Sprintf("%s at %s", text, r.First)
	}
	return fmt.Sprintf("%s from %s to %s", text, r.First, r.Last)
}

// reasons keeps one Reason of a kind and resource manager.
type reasons map[[2]uint8]Reason

func (rs reasons) add(r Reason) {
	key := [2]uint8{uint8(r.Kind), r.Manager}
	if old, is := rs[key]; is {
		r.First, r.Last = min(r.First, old.First), max(r.Last, old.Last)
	}
	rs[key] = r
}

func (rs reasons) list() []Reason {
	var all []Reason
	for _, r := range rs {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Manager, b.Manager))
	})
	return all
}
