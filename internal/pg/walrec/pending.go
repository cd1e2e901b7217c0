package walrec

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/salvor-dr/salvor/internal/pg"
)

// maxAssembled bounds the memory for one record within a stream. Only the end
// of a prepared transaction may need more than keepSmall bytes; one beyond this
// bound has about 16 million subtransactions, and its XID becomes 0.
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

// setKind decides what to keep, once the header is whole.
func (r *pending) setKind() {
	r.kind = kindOf(r.kept[17], r.kept[16])
	switch r.kind {
	case 0:
		r.keep = recordHeaderSize
	case CommitPrepared, AbortPrepared:
		r.keep = maxAssembled
	default:
		r.keep = keepSmall
	}
}

// fragment makes a Fragment of what was seen, or nil if the record is known to
// be no event.
func (r *pending) fragment(tab *crc32.Table, major int, end pg.LSN, maxData int) *Fragment {
	f := Fragment{Major: major, Start: r.start, End: end, Length: r.got, More: r.left(), Sum: r.sum}
	if !r.head {
		known := r.kept[:min(len(r.kept), recordHeaderSize)]
		// Resource manager and info stand in the first 18 bytes.
		if len(known) >= 18 && kindOf(known[17], known[16]) == 0 {
			return nil
		}
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
