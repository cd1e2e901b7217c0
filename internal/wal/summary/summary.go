package summary

import (
	"fmt"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
)

// Summary is what a stretch of WAL changes: one segment, or several joined. It is
// about the records that begin in the stretch and end there.
type Summary struct {
	Timeline pg.Timeline // of the segment's name; the last one's of joined ones
	From, To pg.LSN

	// Head are the parts, one a segment, of a record that began before From. Tail
	// are those of a record that goes on after To.
	Head, Tail []walrec.Fragment
	// Overwritten says that the record that was open at From, if one was, was
	// given up after a crash: its rest never came.
	Overwritten bool

	Map     *Map
	Reasons []Reason // why Map may lack something; each kind and manager once
}

// Join adds the Summary of the WAL that follows right after. It takes over parts
// of next, which must not be used then. After an error s must not be used either.
// The error wraps ErrGap if next begins elsewhere; ErrFragments, ErrChecksum or
// ErrRecord of walrec if the record that crosses the border is not whole.
func (s *Summary) Join(next Summary) error {
	if next.From != s.To {
		return &GapError{s.To, next.From}
	}
	b := Builder{m: s.Map, reasons: reasons{}}
	for _, r := range s.Reasons {
		b.reasons.add(r)
	}
	b.m.Merge(next.Map)
	for _, r := range next.Reasons {
		b.reasons.add(r)
	}
	if err := s.cross(&b, next); err != nil {
		return fmt.Errorf("joining the summaries of WAL up to and from %s: %w", s.To, err)
	}
	s.Timeline, s.To = next.Timeline, next.To
	s.Reasons = b.reasons.list()
	return nil
}

// cross sees to the record that crosses the border.
func (s *Summary) cross(b *Builder, next Summary) error {
	open := len(s.Tail) > 0
	// A record from before may fill all of s.
	through := len(s.Head) > 0 && s.Head[len(s.Head)-1].More > 0
	switch {
	case len(next.Head) == 0 && (open || through) && !next.Overwritten:
		return fmt.Errorf("%w: the rest of the record is missing", walrec.ErrFragments)
	case len(next.Head) == 0:
		if through {
			s.Head, s.Overwritten = nil, true
		}
		s.Tail = next.Tail
		return nil
	case through:
		s.Head = append(s.Head, next.Head...)
		s.Tail = next.Tail
		return nil
	case !open:
		return fmt.Errorf("%w: a record goes on that never began", walrec.ErrFragments)
	}
	s.Tail = append(s.Tail, next.Head...)
	if s.Tail[len(s.Tail)-1].More > 0 {
		return nil // next lies within the record
	}
	r, err := walrec.JoinRecord(s.Tail[0], s.Tail[1:]...)
	if err != nil {
		return err
	}
	b.Record(&r)
	s.Tail = next.Tail
	return nil
}
