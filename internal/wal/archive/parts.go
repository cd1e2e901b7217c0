package archive

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/salvor-dr/salvor/internal/repo/chunk"
)

// partsInMemory is how many parts of a segment are in memory at once: one that is
// read and hashed, and one that is compressed. A third would be faster only where now
// the one and now the other takes longer, and the first use of memory is not cheap.
const partsInMemory = 2

// readSize is how much is read at once. Of a call that takes longer Go's runtime
// thinks that it blocks, gives its processor to others, and looks after it every 20
// microseconds.
const readSize = 64 << 10

// partUsers is how many goroutines use each part: the one that reads and scans it,
// and the one that compresses it.
const partUsers = 2

// part is a stretch of the segment, at most chunk.MaxPlain bytes.
type part struct {
	data  []byte
	users atomic.Int32
}

// parts hands a segment, read once, from the goroutine that reads it to another.
type parts struct {
	read chan *part // in order; whoever reads the segment closes it
	free chan *part
}

func newParts() *parts {
	// Neither is ever full, so only the wait for a free part blocks.
	p := &parts{read: make(chan *part, partsInMemory), free: make(chan *part, partsInMemory)}
	for range partsInMemory {
		p.free <- &part{}
	}
	return p
}

// release says that one of its users is done with a part.
func (p *parts) release(s *part) {
	if s.users.Add(-1) == 0 {
		p.free <- s
	}
}

// each reads size bytes of a file, hands them on, and calls use with them.
func (p *parts) each(ctx context.Context, f io.ReaderAt, size int64, use func([]byte)) error {
	for at := int64(0); at < size; {
		var s *part
		select {
		case s = <-p.free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		n := min(size-at, chunk.MaxPlain)
		if s.data == nil {
			s.data = make([]byte, n)
		}
		s.data = s.data[:n]
		if err := readAll(f, s.data, at); err != nil {
			return err
		}
		s.users.Store(partUsers)
		p.read <- s
		use(s.data)
		p.release(s)
		at += n
	}
	return nil
}

// readAll fills b from a place of the file.
func readAll(f io.ReaderAt, b []byte, at int64) error {
	for len(b) > 0 {
		n, err := f.ReadAt(b[:min(len(b), readSize)], at)
		b, at = b[n:], at+int64(n)
		switch {
		case len(b) == 0 || err == nil: // the file may end there
		case err == io.EOF:
			return fmt.Errorf("it became shorter while it was read: %w", io.ErrUnexpectedEOF)
		default:
			return err
		}
	}
	return nil
}
