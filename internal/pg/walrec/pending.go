package walrec

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/salvor-dr/salvor/internal/pg"
)

// maxAssembled bounds the memory for one record within a stream. Only the end
// of a transaction may need more than keepSmall bytes; one beyond this bound has
// about 16 million subtransactions, and the XID of a prepared one becomes 0.
const maxAssembled = 64 << 20

// pending is a record of which not all bytes have been seen: one that crosses
// pages, or began before the input.
type pending struct {
	active bool
	head   bool   // began before the input, so its header is not known
	start  pg.LSN // of the first byte seen
	total  uint32 // bytes of the record from start on
	got    uint32 // of these, seen

	kind Kind // of a record whose header was seen
	kept []byte
	keep int

	// sum is the CRC-32C of the bytes seen: of a head all, else those after
	// the record's header, as the record's own checksum wants them.
	sum uint32
}

// begin starts a record; bytes follow by add.
func (r *pending) begin(start pg.LSN, total uint32, head bool, keep int) {
	*r = pending{active: true, head: head, start: start, total: total, keep: keep, kept: r.kept[:0]}
}

func (r *pending) headerKnown() bool { return !r.head && r.got >= recordHeaderSize }

func (r *pending) left() uint32 { return r.total - r.got }

// add takes the next bytes. Until the header is whole, they must not go beyond
// it: keep and kind are decided there.
func (r *pending) add(tab *crc32.Table, b []byte) {
	if n := r.keep - len(r.kept); n > 0 {
		r.kept = append(r.kept, b[:min(n, len(b))]...)
	}
	if r.head || r.got >= recordHeaderSize {
		r.sum = crc32.Update(r.sum, tab, b)
	}
	r.got += uint32(len(b))
}

// setKind decides what to keep, once the header is whole. With records, it is
// also what decodeRecord needs.
func (r *pending) setKind(records bool) {
	r.kind = kindOf(r.kept[17], r.kept[16])
	r.keep = eventBytes(r.kind)
	if records {
		r.keep = max(keepSmall, r.keep)
		if m := r.kept[17]; m == rmgrXact || m == rmgrDatabase {
			r.keep = maxAssembled
		}
	}
}

// eventBytes is how much of an event's record decode needs.
func eventBytes(k Kind) int {
	switch k {
	case 0:
		return recordHeaderSize
	case CommitPrepared, AbortPrepared:
		return maxAssembled
	}
	return keepSmall
}

// event makes a Fragment of what was seen, with what is needed if it is an
// event; nil if it is known to be none.
func (r *pending) event(tab *crc32.Table, major int, end pg.LSN, maxData int) *Fragment {
	f := r.fragment(tab, major, end, maxData)
	// Resource manager and info stand in the first 18 bytes.
	if !r.head && len(f.Data) >= 18 {
		k := kindOf(f.Data[17], f.Data[16])
		if k == 0 {
			return nil
		}
		f.Data = slices.Clip(f.Data[:min(len(f.Data), eventBytes(k))])
	}
	return f
}

// fragment makes a Fragment of what was seen, with all that was kept.
func (r *pending) fragment(tab *crc32.Table, major int, end pg.LSN, maxData int) *Fragment {
	f := Fragment{Major: major, Start: r.start, End: end, Length: r.got, More: r.left(), Sum: r.sum}
	if !r.head {
		known := r.kept[:min(len(r.kept), recordHeaderSize)]
		f.Sum = joinSums(crc32.Checksum(known, tab), r.sum, uint64(int(r.got)-len(known)))
	}
	if int64(r.got) > int64(maxData) {
		maxData = keepSmall // what only the end of the record tells is lost, see Fragment
	}
	f.Data = slices.Clone(r.kept[:min(len(r.kept), maxData)])
	return &f
}

// headTotal reads the length of a record of which the beginning is seen: it
// always lies on one page, since records start on multiples of eight.
func headTotal(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
