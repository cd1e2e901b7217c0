package catalog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// eventsAhead is how many indexes are fetched at once: enough to hide an object
// store's latency.
const eventsAhead = 16

// Found is an event, or how far the WAL of a segment goes.
type Found struct {
	walrec.Event
	// Through is set once for each step, after its events: the end of the last
	// whole record, when Kind is 0.
	Through pg.LSN
}

// Events walks the events on a path, in WAL order, reading only the indexes of its
// segments. Events before from or after a step's end are left out. It ends with
// an error if an index cannot be read or WAL on the path is damaged. Nothing is read
// any more once it has ended, also where the caller ends it.
func Events(ctx context.Context, objects *seal.Objects, a Archive, p Path, from pg.LSN) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		var open []walrec.Fragment // a record under way, from its tail on
		for step, idx := range indexes(ctx, objects, a, p) {
			if idx.err != nil {
				yield(Found{}, idx.err)
				return
			}
			events, rest, err := stitch(open, idx.index)
			if err != nil {
				yield(Found{}, fmt.Errorf("segment %s: %w", step.Segment.Name(a.SegmentSize), err))
				return
			}
			open = rest
			for _, e := range events {
				if e.LSN < from {
					continue
				}
				if e.LSN >= step.End {
					break
				}
				if !yield(Found{Event: e}, nil) {
					return
				}
			}
			if !yield(Found{Through: min(idx.index.To, step.End)}, nil) {
				return
			}
			if step.End <= idx.index.To {
				continue
			}
			switch idx.index.Ending {
			case walrec.EndsEarly:
				return // nothing can follow
			case walrec.Damaged:
				yield(Found{}, repo.Damaged(step.Name(a), "the WAL in it is broken from %s on, as it came from the server", idx.index.To))
				return
			}
		}
	}
}

// stitch puts an event together that began in earlier segments, and gives it with
// this segment's own.
func stitch(open []walrec.Fragment, i walrec.Index) (events []walrec.Event, rest []walrec.Fragment, err error) {
	if len(open) > 0 && i.Head != nil {
		open = append(open, *i.Head)
		e, is, err := walrec.Join(open[0], open[1:]...)
		switch {
		case errors.Is(err, walrec.ErrIncomplete):
			return i.Events, open, nil
		case err != nil:
			return nil, nil, err
		case is:
			events = append(events, e)
		}
	}
	events = append(events, i.Events...)
	if i.Tail != nil {
		rest = []walrec.Fragment{*i.Tail}
	}
	return events, rest, nil
}

type indexed struct {
	index walrec.Index
	err   error
}

// indexes reads the indexes of a path's segments, several at once, in order. When it
// ends, all reading has ended.
func indexes(ctx context.Context, objects *seal.Objects, a Archive, p Path) iter.Seq2[Step, indexed] {
	return func(yield func(Step, indexed) bool) {
		ctx, stop := context.WithCancel(ctx)
		var reading sync.WaitGroup
		defer reading.Wait()
		defer stop()
		fetch := func(s Step) chan indexed {
			c := make(chan indexed, 1)
			reading.Go(func() {
				f, err := ReadWALFooter(ctx, objects, s.Name(a))
				c <- indexed{f.Index, err}
			})
			return c
		}
		var ahead []chan indexed
		for i, s := range p.Steps {
			for len(ahead) < eventsAhead && i+len(ahead) < len(p.Steps) {
				ahead = append(ahead, fetch(p.Steps[i+len(ahead)]))
			}
			got := <-ahead[0]
			ahead = ahead[1:]
			if !yield(s, got) {
				return
			}
		}
	}
}

// LastEvent gives the last event on the path that ends a transaction, and false
// if there is none after from. It reads indexes from the path's end.
func LastEvent(ctx context.Context, objects *seal.Objects, a Archive, p Path, from pg.LSN) (walrec.Event, bool, error) {
	for i := len(p.Steps); i > 0; {
		first := max(0, i-eventsAhead)
		// One more before, for a record that crosses into this stretch.
		part := p
		part.Steps = p.Steps[max(0, first-1):i]
		var last walrec.Event
		found := false
		for e, err := range Events(ctx, objects, a, part, from) {
			if err != nil {
				return walrec.Event{}, false, err
			}
			if e.Kind.EndsTransaction() {
				last, found = e.Event, true
			}
		}
		if found {
			return last, true, nil
		}
		i = first
	}
	return walrec.Event{}, false, nil
}
