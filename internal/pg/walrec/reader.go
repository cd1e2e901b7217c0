package walrec

import (
	"fmt"
	"io"

	"github.com/salvor-dr/salvor/internal/pg"
)

// Reader walks the events of WAL that comes from an io.Reader, over any number
// of consecutive segments of one timeline. It is a Scanner that is read from.
//
// It is not safe for concurrent use.
type Reader struct {
	src     io.Reader
	scanner *Scanner
	buf     []byte
	next    int // in scanner.events
	done    bool
	index   Index
	err     error // after the last event
}

// readSize is how much a Reader asks of its source at once.
const readSize = 128 << 10

// NewReader makes a Reader of the bytes from opts.Start on.
func NewReader(src io.Reader, opts Options) (*Reader, error) {
	s, err := NewScanner(opts)
	if err != nil {
		return nil, err
	}
	return &Reader{src: src, scanner: s, buf: make([]byte, readSize)}, nil
}

// Next returns the next event, and io.EOF after the last, at the end of the
// input or of WAL. Any other error is one of the source, or an *Error for
// damaged WAL.
func (r *Reader) Next() (Event, error) {
	for r.next == len(r.scanner.events) {
		if r.done {
			return Event{}, r.err
		}
		r.scanner.events, r.next = r.scanner.events[:0], 0
		r.fill()
	}
	e := r.scanner.events[r.next]
	r.next++
	return e, nil
}

func (r *Reader) fill() {
	n, err := r.src.Read(r.buf)
	_, _ = r.scanner.Write(r.buf[:n]) // never fails
	ended := r.scanner.ending == Damaged
	if err == nil && !ended {
		return
	}
	r.done, r.err = true, io.EOF
	if err != nil && err != io.EOF {
		r.err = fmt.Errorf("reading WAL: %w", err)
	}
	index, damage := r.scanner.Finish()
	index.Events = nil
	r.index = index
	if damage != nil {
		r.err = damage
	}
}

// Index tells, after Next has returned an error, what was read: everything but
// the events.
func (r *Reader) Index() Index { return r.index }

// Position is the end of the last whole record that was read.
func (r *Reader) Position() pg.LSN { return r.scanner.end }
