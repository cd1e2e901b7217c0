package verify

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/salvor-dr/salvor/internal/pg"
)

const (
	segmentSize = 1 << 20
	walPage     = 8192
	magic15     = 0xD110
)

// walMaker makes WAL of records without meaning (XLOG_NOOP), and switches of the segment,
// as PostgreSQL 15 lays them out (xlogrecord.h, xlog_internal.h).
type walMaker struct {
	system pg.SystemID
	tli    pg.Timeline
	start  pg.LSN // of a segment
	buf    []byte
	prev   pg.LSN
}

func newWAL(system pg.SystemID, tli pg.Timeline, first uint64) *walMaker {
	return &walMaker{system: system, tli: tli, start: pg.LSN(first) * segmentSize, prev: pg.LSN(first)*segmentSize - 64}
}

// fork goes on with what is there on another timeline.
func (w *walMaker) fork(tli pg.Timeline) *walMaker {
	c := *w
	c.tli, c.buf = tli, append([]byte(nil), w.buf...)
	return &c
}

func (w *walMaker) at() pg.LSN { return w.start + pg.LSN(len(w.buf)) }

// header begins a page, on which rest bytes of a record go on.
func (w *walMaker) header(rest int) {
	le := binary.LittleEndian
	long, at := len(w.buf)%segmentSize == 0, w.at()
	info := uint16(0)
	if rest > 0 {
		info |= 1
	}
	if long {
		info |= 2
	}
	b := le.AppendUint16(w.buf, magic15)
	b = le.AppendUint16(b, info)
	b = le.AppendUint32(b, uint32(w.tli))
	b = le.AppendUint64(b, uint64(at))
	b = le.AppendUint64(b, uint64(rest))
	if long {
		b = le.AppendUint64(b, uint64(w.system))
		b = le.AppendUint32(b, segmentSize)
		b = le.AppendUint32(b, walPage)
	}
	w.buf = b
}

// noop writes a record with n bytes of data.
func (w *walMaker) noop(n int, fill byte) {
	data := make([]byte, n)
	for i := range data {
		data[i] = fill
	}
	w.record(0x20, append(binary.LittleEndian.AppendUint32([]byte{254}, uint32(n)), data...))
}

// record writes a record of the log's own resource manager, and gives its position.
func (w *walMaker) record(info byte, body []byte) pg.LSN {
	if len(w.buf)%walPage == 0 {
		w.header(0)
	}
	le := binary.LittleEndian
	at := w.at()
	r := le.AppendUint32(nil, uint32(24+len(body)))
	r = le.AppendUint32(r, 0)
	r = le.AppendUint64(r, uint64(w.prev))
	r = append(r, info, 0, 0, 0)
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	r = le.AppendUint32(r, crc32.Update(crc32.Checksum(body, castagnoli), castagnoli, r[:20]))
	r = append(r, body...)
	w.prev = at
	for len(r) > 0 {
		if len(w.buf)%walPage == 0 {
			w.header(len(r))
		}
		n := min(len(r), walPage-len(w.buf)%walPage)
		w.buf = append(w.buf, r[:n]...)
		r = r[n:]
	}
	for len(w.buf)%8 != 0 {
		w.buf = append(w.buf, 0)
	}
	return at
}

// switchSegment leaves the rest of the segment empty.
func (w *walMaker) switchSegment() {
	w.record(0x40, nil)
	w.buf = append(w.buf, make([]byte, (segmentSize-len(w.buf)%segmentSize)%segmentSize)...)
}

// segment gives segment n, zeros where nothing was written.
func (w *walMaker) segment(n uint64) []byte {
	out := make([]byte, segmentSize)
	from := int(pg.LSN(n)*segmentSize - w.start)
	copy(out, w.buf[from:min(len(w.buf), from+segmentSize)])
	return out
}
