package walrec

import (
	"encoding/binary"
	"math/bits"

	"github.com/salvor-dr/salvor/internal/pg"
)

// indexVersion is the first byte of an encoded Index.
const indexVersion = 1

// What doc.go calls "the size" of an event is packed beside its kind if it is
// below sizeFollows.
const sizeFollows = 15

// EncodeIndex gives the compact form of an Index, as doc.go specifies it.
func EncodeIndex(x Index) []byte {
	return AppendIndex(make([]byte, 0, 256+8*len(x.Events)), x)
}

// AppendIndex appends the compact form of an Index, as doc.go specifies it.
// An Index that a Scanner made is encoded without loss. Of another one, what a
// Name has beyond 63 bytes and a Location beyond 1023, fields that the event's
// kind does not have, and parts of a Time below a microsecond are lost.
func AppendIndex(b []byte, x Index) []byte {
	b = append(b, indexVersion, byte(x.Ending))
	b = binary.LittleEndian.AppendUint16(b, x.Header.Magic)
	b = binary.LittleEndian.AppendUint16(b, x.Header.Info)
	b = append(b, log2(x.Header.SegmentSize), log2(x.Header.BlockSize))
	b = binary.LittleEndian.AppendUint64(b, uint64(x.Header.SystemID))
	b = binary.AppendUvarint(b, uint64(x.Header.Timeline))
	b = binary.AppendUvarint(b, uint64(x.Timeline))
	b = binary.AppendUvarint(b, uint64(x.Header.RemLen))
	b = binary.AppendUvarint(b, uint64(x.Header.PageAddr))
	b = binary.AppendUvarint(b, uint64(x.From))
	b = binary.AppendUvarint(b, uint64(x.To-x.From))
	b = appendFragment(b, x.Head, x.From)
	b = appendFragment(b, x.Tail, x.From)
	b = binary.AppendUvarint(b, uint64(len(x.Events)))
	at := state{end: x.From}
	for i := range x.Events {
		b = at.append(b, &x.Events[i])
	}
	return b
}

// log2 stores a power of two in a byte; 0 stands for 0.
func log2(n uint32) byte {
	if n == 0 {
		return 0
	}
	return byte(bits.TrailingZeros32(n))
}

func appendFragment(b []byte, f *Fragment, from pg.LSN) []byte {
	if f == nil {
		return append(b, 0)
	}
	return AppendFragment(append(b, 1), *f, from)
}

// AppendFragment appends the compact form of a Fragment, as it is part of an
// Index's: its place is told from from on, which must not be after Start, and its
// Major is left out.
func AppendFragment(b []byte, f Fragment, from pg.LSN) []byte {
	b = binary.AppendUvarint(b, uint64(f.Start-from))
	b = binary.AppendUvarint(b, uint64(f.End-f.Start))
	b = binary.AppendUvarint(b, uint64(f.Length))
	b = binary.AppendUvarint(b, uint64(f.More))
	b = binary.LittleEndian.AppendUint32(b, f.Sum)
	b = binary.AppendUvarint(b, uint64(len(f.Data)))
	return append(b, f.Data...)
}

// state is what the next event is told relative to.
type state struct {
	end  pg.LSN
	xid  uint32
	time int64
}

func (s *state) append(b []byte, e *Event) []byte {
	size := uint64(e.EndLSN-e.LSN) / 8
	if size == 0 || size >= sizeFollows {
		b = append(b, byte(e.Kind)|sizeFollows<<4)
		b = binary.AppendUvarint(b, size)
	} else {
		b = append(b, byte(e.Kind)|byte(size)<<4)
	}
	b = binary.AppendUvarint(b, uint64(e.LSN-s.end)/8)
	s.end = e.EndLSN
	if e.Kind.hasTime() {
		t := toMicros(e.Time)
		b = binary.AppendVarint(b, t-s.time)
		s.time = t
	}
	switch e.Kind {
	case Commit, Abort, CommitPrepared, AbortPrepared:
		b = binary.AppendVarint(b, int64(int32(e.XID-s.xid)))
		s.xid = e.XID
	case RestorePoint:
		n := min(len(e.Name), nameSize-1)
		b = append(b, byte(n))
		b = append(b, e.Name[:n]...)
	case CheckpointOnline, CheckpointShutdown:
		b = binary.AppendVarint(b, int64(e.LSN-e.Redo))
		b = appendTimelines(b, e)
	case EndOfRecovery:
		b = appendTimelines(b, e)
	case ParameterChange:
		b = append(b, byte(e.WALLevel))
	case Overwrite:
		b = binary.AppendVarint(b, int64(e.LSN-e.Overwritten))
	case TablespaceCreate:
		n := min(len(e.Location), maxLocation)
		b = binary.AppendUvarint(b, uint64(e.Tablespace))
		b = binary.AppendVarint(b, int64(e.LSN-e.Prev))
		b = binary.AppendUvarint(b, uint64(n))
		b = append(b, e.Location[:n]...)
	}
	return b
}

func appendTimelines(b []byte, e *Event) []byte {
	b = binary.AppendUvarint(b, uint64(e.Timeline))
	b = binary.AppendUvarint(b, uint64(e.PrevTimeline))
	return append(b, byte(e.WALLevel))
}

func (k Kind) hasTime() bool {
	return k != Switch && k != ParameterChange && k != TablespaceCreate
}
