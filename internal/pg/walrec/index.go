package walrec

import (
	"fmt"

	"github.com/salvor-dr/salvor/internal/pg"
)

// Ending says how the WAL in a segment ends. The numbers are part of the index
// format.
type Ending uint8

// The ways a segment's WAL ends.
const (
	// EndsFull: WAL fills the segment; the next goes on from it.
	EndsFull Ending = 1
	// EndsBySwitch: an XLOG_SWITCH record left the rest empty; the next
	// segment goes on from it all the same.
	EndsBySwitch Ending = 2
	// EndsEarly: what follows was never written, or before the file was
	// recycled. That is how the last segment of an abandoned timeline ends; a
	// finished segment must not.
	EndsEarly Ending = 3
	// Damaged: what follows is WAL, but not as PostgreSQL wrote it.
	Damaged Ending = 4
)

// String names the ending in plain words.
func (e Ending) String() string {
	switch e {
	case EndsFull:
		return "full"
	case EndsBySwitch:
		return "ended by a switch"
	case EndsEarly:
		return "ends early"
	case Damaged:
		return "damaged"
	}
	return fmt.Sprintf("ending %d", uint8(e))
}

// Index is what a Scanner found in a stretch of WAL, usually one segment.
type Index struct {
	Header   SegmentHeader // of the first page; sizes only, if the input did not begin with a segment
	Timeline pg.Timeline   // of the last page

	// From and To are the span that holds WAL. To is the end of the last whole
	// record if WAL ends early or is damaged, else the end of the segment.
	From, To pg.LSN
	Ending   Ending

	// Head is the rest, or with More > 0 a middle part, of a record that
	// began before From. Tail is the beginning of a record that goes on after
	// To; it is nil if that record is known to be no event. See Join.
	Head, Tail *Fragment

	Events []Event // by LSN
}
