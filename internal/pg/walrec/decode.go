package walrec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/salvor-dr/salvor/internal/pg"
)

// leastEvent is the fewest bytes an event can take, so that a count can be
// checked before memory is taken for it.
const leastEvent = 2

// DecodeIndex reads what EncodeIndex wrote. The error wraps ErrIndex. The
// result does not share memory with b.
func DecodeIndex(b []byte) (Index, error) {
	r := indexReader{b: b}
	x := r.index()
	if r.err == nil && len(r.b) != 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return Index{}, r.err
	}
	return x, nil
}

// indexReader takes values off the front of b. After an error it gives zeros.
type indexReader struct {
	b   []byte
	err error
}

func (r *indexReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrIndex}, args...)...)
	}
	r.b = nil
}

func (r *indexReader) bytes(n int) []byte {
	if r.err != nil || n > len(r.b) {
		r.fail("cut short")
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *indexReader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *indexReader) fixed16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *indexReader) fixed32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *indexReader) fixed64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *indexReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("cut short or overlong number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *indexReader) uvarint32() uint32 {
	v := r.uvarint()
	if v > math.MaxUint32 {
		r.fail("%d is more than 32 bits", v)
		return 0
	}
	return uint32(v)
}

func (r *indexReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("cut short or overlong number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *indexReader) index() Index {
	if v := r.byte(); r.err == nil && v != indexVersion {
		r.fail("version %d, this release knows %d", v, indexVersion)
	}
	x := Index{Ending: Ending(r.byte())}
	if r.err == nil && (x.Ending < EndsFull || x.Ending > Damaged) {
		r.fail("unknown ending %d", uint8(x.Ending))
	}
	h := &x.Header
	h.Magic = r.fixed16()
	h.Info = r.fixed16()
	h.SegmentSize = r.powerOfTwo(pg.ValidSegmentSize)
	h.BlockSize = r.powerOfTwo(validBlockSize)
	h.SystemID = pg.SystemID(r.fixed64())
	h.Timeline = pg.Timeline(r.uvarint32())
	x.Timeline = pg.Timeline(r.uvarint32())
	h.RemLen = r.uvarint32()
	h.PageAddr = pg.LSN(r.uvarint())
	major, known := MajorOf(h.Magic)
	if h.Major = major; h.Magic != 0 && !known {
		r.fail("magic %04X is of no version from %d to %d", h.Magic, pg.OldestMajor, pg.NewestMajor)
	}
	x.From = pg.LSN(r.uvarint())
	x.To = x.From + pg.LSN(r.uvarint())
	if x.To < x.From {
		r.fail("it ends before it begins")
	}
	x.Head = r.fragment(x.From, major)
	x.Tail = r.fragment(x.From, major)
	x.Events = r.events(x.From)
	return x
}

func (r *indexReader) powerOfTwo(valid func(uint32) bool) uint32 {
	n := r.byte()
	if n == 0 {
		return 0
	}
	if n > 31 || !valid(1<<n) {
		r.fail("impossible size 2^%d", n)
		return 0
	}
	return 1 << n
}

func (r *indexReader) fragment(from pg.LSN, major int) *Fragment {
	switch flag := r.byte(); {
	case r.err != nil || flag == 0:
		return nil
	case flag != 1:
		r.fail("unknown mark %d of a fragment", flag)
		return nil
	}
	return r.fragmentBody(from, major)
}

// DecodeFragment reads what AppendFragment wrote, and returns what follows. The
// error wraps ErrIndex. The Fragment does not share memory with b.
func DecodeFragment(b []byte, from pg.LSN, major int) (f Fragment, rest []byte, err error) {
	r := indexReader{b: b}
	p := r.fragmentBody(from, major)
	if r.err != nil {
		return Fragment{}, nil, r.err
	}
	return *p, r.b, nil
}

func (r *indexReader) fragmentBody(from pg.LSN, major int) *Fragment {
	f := Fragment{Major: major}
	f.Start = from + pg.LSN(r.uvarint())
	f.End = f.Start + pg.LSN(r.uvarint())
	f.Length = r.uvarint32()
	f.More = r.uvarint32()
	f.Sum = r.fixed32()
	n := r.uvarint32()
	if f.Start < from || f.End < f.Start || n > f.Length || int64(n) > int64(len(r.b)) {
		r.fail("impossible fragment")
		return nil
	}
	f.Data = bytes.Clone(r.bytes(int(n)))
	return &f
}

func (r *indexReader) events(from pg.LSN) []Event {
	count := r.uvarint()
	if count > uint64(len(r.b))/leastEvent {
		r.fail("%d events in %d bytes", count, len(r.b))
		return nil
	}
	if count == 0 {
		return nil
	}
	events := make([]Event, 0, count)
	at := state{end: from}
	for range count {
		events = append(events, at.read(r))
		if r.err != nil {
			return nil
		}
	}
	return events
}

func (s *state) read(r *indexReader) Event {
	tag := r.byte()
	e := Event{Kind: Kind(tag & 0xF)}
	if r.err == nil && (e.Kind < Commit || e.Kind > TablespaceCreate) {
		r.fail("unknown kind of event %d", uint8(e.Kind))
	}
	size := uint64(tag >> 4)
	switch size {
	case 0:
		r.fail("an event without a size")
	case sizeFollows:
		size = r.uvarint()
	}
	gap := r.uvarint()
	if gap > math.MaxUint64/8-uint64(s.end)/8 || size > math.MaxUint64/8-uint64(s.end)/8-gap {
		r.fail("an event outside the log")
		return e
	}
	e.LSN = s.end + pg.LSN(gap*8)
	e.EndLSN = e.LSN + pg.LSN(size*8)
	s.end = e.EndLSN
	if e.Kind.hasTime() {
		s.time += r.varint()
		e.Time = fromMicros(s.time)
	}
	s.readRest(r, &e)
	return e
}

func (s *state) readRest(r *indexReader, e *Event) {
	switch e.Kind {
	case Commit, Abort, CommitPrepared, AbortPrepared:
		d := r.varint()
		if d != int64(int32(d)) {
			r.fail("a step of %d between transactions", d)
		}
		s.xid += uint32(d)
		e.XID = s.xid
	case RestorePoint:
		n := r.byte()
		if n >= nameSize {
			r.fail("a name of %d bytes", n)
		}
		e.Name = string(r.bytes(int(n)))
	case CheckpointOnline, CheckpointShutdown:
		e.Redo = e.LSN - pg.LSN(r.varint())
		r.timelines(e)
	case EndOfRecovery:
		r.timelines(e)
	case ParameterChange:
		e.WALLevel = r.walLevel()
	case Overwrite:
		e.Overwritten = e.LSN - pg.LSN(r.varint())
	case TablespaceCreate:
		e.Tablespace = pg.OID(r.uvarint32())
		e.Prev = e.LSN - pg.LSN(r.varint())
		n := r.uvarint()
		if n > maxLocation {
			r.fail("a location of %d bytes", n)
			return
		}
		e.Location = string(r.bytes(int(n)))
	}
}

func (r *indexReader) timelines(e *Event) {
	e.Timeline = pg.Timeline(r.uvarint32())
	e.PrevTimeline = pg.Timeline(r.uvarint32())
	e.WALLevel = r.walLevel()
}

func (r *indexReader) walLevel() WALLevel {
	l := WALLevel(r.byte())
	if l > LevelLogical {
		r.fail("unknown wal_level %d", uint8(l))
		return 0
	}
	return l
}
