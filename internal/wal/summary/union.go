package summary

import (
	"fmt"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
)

// Union puts the Map of a range of WAL together from the summaries of stretches of
// it, along a history of timelines. What was changed before and after the range in
// the same stretches is in the Map, too; more than is needed does no harm.
type Union struct {
	history  pg.History
	from, to pg.LSN
	sum      *Summary
	at       pg.LSN // covered up to here
}

// NewUnion makes a Union for the records that begin from from on and before to:
// for an incremental backup, from the parent's redo LSN to its own, along the
// history of the timeline it was taken on.
func NewUnion(h pg.History, from, to pg.LSN) *Union {
	return &Union{history: h, from: from, to: to, at: from}
}

// Add takes in the next Summary, in order of their place in WAL. Stretches may
// overlap, as those do of the segment that a timeline was left in and of its copy
// that begins the next one; but not within a record that crosses segments. It takes
// over parts of s. After an error the Union must not be used.
//
// The error wraps ErrGap if s begins after what is covered, ErrForeign if its
// timeline is none of the history, and else is as of Summary.Join.
func (u *Union) Add(s Summary) error {
	fork, left := u.history.ForkAfter(s.Timeline)
	if !left && s.Timeline != u.history.Timeline {
		return fmt.Errorf("%w: WAL from %s is of timeline %d, which is none that leads to %d",
			ErrForeign, s.From, s.Timeline, u.history.Timeline)
	}
	end := s.To
	if left {
		end = min(end, fork)
	}
	switch {
	case s.From > u.at:
		return &GapError{u.at, s.From}
	case end <= u.at:
		return nil // nothing new
	case u.sum == nil:
		u.sum = &s
	case s.From == u.sum.To:
		if err := u.sum.Join(s); err != nil {
			return err
		}
	default:
		if err := u.overlap(s); err != nil {
			return err
		}
	}
	if end < s.To { // what was open there is of the timeline that was left
		u.sum.To, u.sum.Tail = end, nil
	}
	u.at = max(u.at, end)
	return nil
}

// overlap takes in a Summary that begins within what is covered.
func (u *Union) overlap(s Summary) error {
	if t := u.sum.Tail; len(t) > 0 && t[0].Start < s.From {
		return fmt.Errorf("%w: the summary of WAL from %s begins in the middle of the record at %s",
			walrec.ErrFragments, s.From, t[0].Start)
	}
	joined := Summary{Timeline: s.Timeline, From: s.From, To: s.From, Map: u.sum.Map, Reasons: u.sum.Reasons, Head: u.sum.Head}
	s.Head, s.Overwritten = nil, true // that record was seen before
	if err := joined.Join(s); err != nil {
		return err
	}
	joined.From = u.sum.From
	u.sum = &joined
	return nil
}

// At is the position up to which WAL is covered; from the range's beginning, if
// nothing is yet.
func (u *Union) At() pg.LSN { return u.at }

// Map gives the Map of the range. The error is a *GapError if not all of it is
// covered, and an *UnusableError if WAL in it does not tell all that changed.
func (u *Union) Map() (*Map, error) {
	if u.from >= u.to {
		return NewMap(), nil
	}
	if u.at < u.to {
		return nil, &GapError{u.at, u.to}
	}
	if t := u.sum.Tail; len(t) > 0 && t[0].Start < u.to {
		return nil, &GapError{t[0].Start, u.to}
	}
	var in []Reason
	for _, r := range u.sum.Reasons {
		if r.First < u.to && r.Last >= u.from {
			in = append(in, r)
		}
	}
	if len(in) > 0 {
		return nil, &UnusableError{in}
	}
	return u.sum.Map, nil
}
