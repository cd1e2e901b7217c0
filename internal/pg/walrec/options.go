package walrec

import (
	"fmt"

	"github.com/salvor-dr/salvor/internal/pg"
)

// DefaultMaxFragment is the longest part of a record that crosses a segment's
// end of which an Index keeps every byte. Only commits and aborts need that, of
// prepared transactions and of those that drop relations, and they exceed it with
// about 16,000 subtransactions, 5,000 relations or 4,000 invalidation messages.
const DefaultMaxFragment = 64 << 10

// Options of a Scanner or Reader. The zero value scans whole segments.
type Options struct {
	// Start is the position of the first byte fed. Zero takes it from the
	// first page, which must then begin a segment. It may be inside a page:
	// the rest of that page is passed over, since nothing says where in it a
	// record begins.
	Start pg.LSN

	// BlockSize and SegmentSize, in bytes, are needed only when Start is not
	// the beginning of a segment; a segment's first page tells both.
	BlockSize   uint32
	SegmentSize uint32

	// SkipCRC leaves out the check of records' checksums.
	SkipCRC bool

	// Records, if not nil, is called with each whole record that lies within the
	// input, in order, after its checksum was found right. The Record and what it
	// points to are good for the call only. The insides of all records are then
	// checked, not only those of events. For records that cross the input's ends
	// see Scanner.Ends.
	Records func(*Record)

	// NoEvents leaves events out of the Index, whose memory grows with them.
	NoEvents bool

	// MaxFragment is the longest part of a record, in bytes, that Index.Head,
	// Index.Tail and Scanner.Ends keep whole; see Fragment. Zero means
	// DefaultMaxFragment; the least is 2048.
	MaxFragment int
}

func (o *Options) validate() error {
	if o.MaxFragment == 0 {
		o.MaxFragment = DefaultMaxFragment
	}
	if o.MaxFragment < keepSmall {
		return fmt.Errorf("%d bytes of a WAL record's fragment are too few: want at least %d", o.MaxFragment, keepSmall)
	}
	if o.BlockSize == 0 && o.SegmentSize == 0 {
		if o.Start%(1<<20) != 0 {
			return fmt.Errorf("scanning WAL from %s, inside a segment, needs its block and segment size", o.Start)
		}
		return nil
	}
	if !validBlockSize(o.BlockSize) || !pg.ValidSegmentSize(o.SegmentSize) {
		return fmt.Errorf("a WAL block of %d and a segment of %d bytes are not possible", o.BlockSize, o.SegmentSize)
	}
	if o.Start == 0 {
		return fmt.Errorf("WAL sizes were given without the position to start at")
	}
	return nil
}
