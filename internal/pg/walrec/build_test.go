package walrec

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
)

// walWriter lays records out in pages as PostgreSQL does, for tests that need
// WAL no server would write on demand: other block sizes, records over many
// segments, records given up.
type walWriter struct {
	magic    uint16
	block    int
	segment  int
	timeline uint32
	start    pg.LSN
	prev     pg.LSN
	out      []byte // from start on
}

const testSystem = 7301234567890123456

func newWriter(major, block, segment int, start pg.LSN) *walWriter {
	magic := map[int]uint16{14: 0xD10D, 15: 0xD110, 16: 0xD113, 17: 0xD116, 18: 0xD118}[major]
	return &walWriter{magic: magic, block: block, segment: segment, timeline: 1, start: start}
}

func (w *walWriter) at() pg.LSN { return w.start + pg.LSN(len(w.out)) }

func (w *walWriter) header(info uint16, rem uint32) {
	le := binary.LittleEndian
	at := w.at()
	long := uint64(at)%uint64(w.segment) == 0
	if long {
		info |= flagLong
	}
	b := le.AppendUint16(nil, w.magic)
	b = le.AppendUint16(b, info)
	b = le.AppendUint32(b, w.timeline)
	b = le.AppendUint64(b, uint64(at))
	b = le.AppendUint32(b, rem)
	b = le.AppendUint32(b, 0)
	if long {
		b = le.AppendUint64(b, testSystem)
		b = le.AppendUint32(b, uint32(w.segment))
		b = le.AppendUint32(b, uint32(w.block))
	}
	w.out = append(w.out, b...)
}

// bytes writes a record's bytes over pages and gives where they began.
func (w *walWriter) bytes(rec []byte) pg.LSN {
	if len(w.out)%w.block == 0 {
		w.header(0, 0)
	}
	at := w.at()
	for {
		n := min(len(rec), w.block-len(w.out)%w.block)
		w.out = append(w.out, rec[:n]...)
		rec = rec[n:]
		if len(rec) == 0 {
			break
		}
		w.header(flagContinued, uint32(len(rec)))
	}
	for len(w.out)%8 != 0 {
		w.out = append(w.out, 0)
	}
	return at
}

// record builds a record; parts stand between header and data headers.
func (w *walWriter) record(rmgr, info byte, xid uint32, parts, blocks, main []byte) []byte {
	le := binary.LittleEndian
	body := append([]byte(nil), parts...)
	switch {
	case len(main) > 255:
		body = append(body, idDataLong)
		body = le.AppendUint32(body, uint32(len(main)))
	case len(main) > 0:
		body = append(body, idDataShort, byte(len(main)))
	}
	body = append(body, blocks...)
	body = append(body, main...)
	rec := make([]byte, recordHeaderSize, recordHeaderSize+len(body))
	le.PutUint32(rec, uint32(recordHeaderSize+len(body)))
	le.PutUint32(rec[4:], xid)
	le.PutUint64(rec[8:], uint64(w.prev))
	rec[16], rec[17] = info, rmgr
	tab := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(crc32.Checksum(body, tab), tab, rec[:20])
	le.PutUint32(rec[20:], sum)
	return append(rec, body...)
}

func (w *walWriter) add(rmgr, info byte, xid uint32, parts, blocks, main []byte) (lsn, end pg.LSN) {
	lsn = w.bytes(w.record(rmgr, info, xid, parts, blocks, main))
	w.prev = lsn
	return lsn, w.at()
}

// zeros fills up to the segment's end, as after a switch or the end of WAL.
func (w *walWriter) zeros() {
	for len(w.out)%w.segment != 0 {
		w.out = append(w.out, make([]byte, w.segment-len(w.out)%w.segment)...)
	}
}

func timeBytes(t time.Time) []byte {
	return binary.LittleEndian.AppendUint64(nil, uint64(toMicros(t)))
}

var testTime = time.Date(2026, 11, 23, 10, 0, 0, 123456000, time.UTC)

func (w *walWriter) commit(xid uint32, t time.Time) Event {
	lsn, end := w.add(rmgrXact, 0x00, xid, nil, nil, timeBytes(t))
	return Event{Kind: Commit, XID: xid, Time: t, LSN: lsn, EndLSN: end}
}

// commitPrepared writes all the parts that can stand before the identifier.
func (w *walWriter) commitPrepared(major int, xid uint32, t time.Time, subxacts, invals int) Event {
	le := binary.LittleEndian
	xinfo := uint32(xinfoDatabase | xinfoSubxacts | xinfoRels | xinfoInvals | xinfoTwoPhase | 1<<7 | 1<<5)
	if major >= 15 {
		xinfo |= xinfoStats
	}
	main := le.AppendUint32(timeBytes(t), xinfo)
	main = append(main, 1, 2, 3, 4, 5, 6, 7, 8) // database, tablespace
	main = le.AppendUint32(main, uint32(subxacts))
	for i := range subxacts {
		main = le.AppendUint32(main, xid+1+uint32(i))
	}
	main = le.AppendUint32(main, 2)
	main = append(main, make([]byte, 2*relFileLocatorSize)...)
	if major >= 15 {
		main = le.AppendUint32(main, 1)
		main = append(main, make([]byte, 12)...)
		if major >= 18 {
			main = append(main, 0, 0, 0, 0)
		}
	}
	main = le.AppendUint32(main, uint32(invals))
	main = append(main, make([]byte, 16*invals)...)
	main = le.AppendUint32(main, xid)
	main = append(main, "some gid\x00"...)
	main = append(main, make([]byte, 16)...)
	lsn, end := w.add(rmgrXact, xactHasInfo|0x30, 0, []byte{idOrigin, 1, 0}, nil, main)
	return Event{Kind: CommitPrepared, XID: xid, Time: t, LSN: lsn, EndLSN: end}
}

func (w *walWriter) restorePoint(name string, t time.Time) Event {
	main := append(timeBytes(t), make([]byte, nameSize)...)
	copy(main[8:], name)
	lsn, end := w.add(rmgrXLOG, 0x70, 0, nil, nil, main)
	return Event{Kind: RestorePoint, Name: name, Time: t, LSN: lsn, EndLSN: end}
}

func tablespaceBytes(oid pg.OID, location string) []byte {
	return append(append(binary.LittleEndian.AppendUint32(nil, uint32(oid)), location...), 0)
}

func (w *walWriter) createTablespace(oid pg.OID, location string) Event {
	prev := w.prev
	lsn, end := w.add(rmgrTablespace, 0x00, 5, nil, nil, tablespaceBytes(oid, location))
	return Event{Kind: TablespaceCreate, Tablespace: oid, Location: location, Prev: prev, LSN: lsn, EndLSN: end}
}

func (w *walWriter) switchSegment() Event {
	lsn, _ := w.add(rmgrXLOG, 0x40, 0, nil, nil, nil)
	w.zeros()
	return Event{Kind: Switch, LSN: lsn, EndLSN: w.at()}
}

// filler writes a record that is no event, of n bytes in all.
func (w *walWriter) filler(n int) {
	rec := w.record(10, 0, 5, nil, nil, nil)
	switch body := n - recordHeaderSize; {
	case body > 260:
		rec = w.record(10, 0, 5, nil, nil, make([]byte, body-5))
	case body > 2:
		rec = w.record(10, 0, 5, nil, nil, make([]byte, body-2))
	}
	w.prev = w.bytes(rec)
}

// segmentEnd is the offset in out where the current segment ends.
func (w *walWriter) segmentEnd() int { return (len(w.out)/w.segment + 1) * w.segment }

// fillTo writes one record that ends at offset to in out, or nothing if it is
// too near.
func (w *walWriter) fillTo(to int) {
	n := to - len(w.out)
	for page := (len(w.out) + w.block - 1) / w.block * w.block; page < to; page += w.block {
		n -= ShortHeaderSize
		if page%w.segment == 0 {
			n -= LongHeaderSize - ShortHeaderSize
		}
	}
	if n >= recordHeaderSize {
		w.filler(n)
	}
}

// blockHeader writes the header of a block reference with so many bytes of data,
// and an image of so many bytes if that is not zero, compressed if it has a hole.
func blockHeader(major int, r BlockRef, sameRel bool, data, image int, hole bool) []byte {
	le := binary.LittleEndian
	flags := r.Fork
	if data > 0 {
		flags |= 0x20
	}
	if r.WillInit {
		flags |= blockWillInit
	}
	if r.HasImage {
		flags |= blockHasImage
	}
	if sameRel {
		flags |= blockSameRel
	}
	b := le.AppendUint16([]byte{r.ID, flags}, uint16(data))
	if r.HasImage {
		b = le.AppendUint16(b, uint16(image))
		b = le.AppendUint16(b, 40)
		switch {
		case !hole:
			b = append(b, 0)
		case major < 15:
			b = append(b, imageHasHole|imageCompressed14, 9, 9)
		default:
			b = append(b, imageHasHole|0x08, 9, 9)
		}
	}
	if !sameRel {
		b = appendLocator(b, r.RelFileLocator)
	}
	return le.AppendUint32(b, r.Block)
}

func appendLocator(b []byte, l RelFileLocator) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(l.Tablespace))
	b = le.AppendUint32(b, uint32(l.Database))
	return le.AppendUint32(b, l.Number)
}
