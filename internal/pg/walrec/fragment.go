package walrec

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/salvor-dr/salvor/internal/pg"
)

// keepSmall is more than the bytes of any event's record that decode needs,
// but for the end of a prepared transaction: the longest is the creation of a
// tablespace, with its location.
const keepSmall = 2048

// Fragment is the part of a record that lies in one segment (or whatever was
// fed to one Scanner), when the record crosses its end. Join makes the event of
// a record's fragments.
//
// Data is bounded: it is what decoding needs of the record. Where that is not
// known, or is all of the record, as for the end of a prepared transaction, it
// is the whole part, but only 2048 bytes of a part longer than
// Options.MaxFragment. Sum covers all of the part all the same, so that a
// record's checksum can always be checked. What is lost by the bound is the XID
// of a CommitPrepared or AbortPrepared that has such a part, which is then 0,
// and some of what a Record lists that is Cut.
type Fragment struct {
	Major  int    // of the WAL, as layouts depend on it
	Start  pg.LSN // of the first byte; of a Tail, the record's LSN
	End    pg.LSN // after the last byte, rounded up as records are; the segment's end if more follows
	Length uint32 // bytes of the record here, page headers not counted
	More   uint32 // bytes of the record after this part
	Sum    uint32 // CRC-32C of the Length bytes
	Data   []byte // the first bytes, at most Length
}

// Join puts the event together whose record begins in tail (the Tail of one
// segment's Index) and goes on in rest (the Head of the following segment's,
// and of more of them if the record fills whole segments). The bool is false if
// the record is no event.
//
// The error wraps ErrIncomplete if rest lacks the record's last part. When the
// following segment has no Head, the record was given up after a crash, and the
// Overwrite event there says so. It wraps ErrFragments if the parts don't fit
// to each other, ErrChecksum if they do but one was damaged.
func Join(tail Fragment, rest ...Fragment) (Event, bool, error) {
	rec, end, err := join(tail, rest)
	if err != nil {
		return Event{}, false, joinError(tail, err)
	}
	k := kindOf(rec[17], rec[16])
	if k == 0 {
		return Event{}, false, nil
	}
	e := Event{Kind: k, LSN: tail.Start, EndLSN: end}
	if err := decode(tail.Major, rec, &e); err != nil {
		return Event{}, false, joinError(tail, err)
	}
	return e, true, nil
}

// JoinRecord is Join for a record of any kind, as Options.Records is given it,
// from the parts that Scanner.Ends gives.
func JoinRecord(tail Fragment, rest ...Fragment) (Record, error) {
	rec, end, err := join(tail, rest)
	if err != nil {
		return Record{}, joinError(tail, err)
	}
	var r Record
	if err := decodeRecord(tail.Major, rec, &r); err != nil {
		return Record{}, joinError(tail, err)
	}
	r.LSN, r.EndLSN = tail.Start, end
	return r, nil
}

func joinError(tail Fragment, err error) error {
	return fmt.Errorf("joining the parts of the WAL record at %s: %w", tail.Start, err)
}

// join gives the first bytes of the record, up to the first that was not kept,
// and its end.
func join(tail Fragment, rest []Fragment) (rec []byte, end pg.LSN, err error) {
	last := tail
	for _, f := range rest {
		// Between two parts stands a page header at most.
		if f.Major != tail.Major || last.More == 0 || uint64(last.More) != uint64(f.Length)+uint64(f.More) ||
			f.Start < last.End || f.Start > last.End+LongHeaderSize {
			return nil, 0, fmt.Errorf("%w: %d bytes are to follow at %s, not %d at %s",
				ErrFragments, last.More, last.End, uint64(f.Length)+uint64(f.More), f.Start)
		}
		last = f
	}
	if last.More != 0 {
		return nil, 0, fmt.Errorf("%w: %d bytes after %s", ErrIncomplete, last.More, last.End)
	}
	if rec, err = joinData(tail, rest); err != nil {
		return nil, 0, err
	}
	return rec, last.End, checkJoinedSum(rec, tail, rest)
}

// joinData gives the record's first bytes, up to the first that was not kept.
func joinData(tail Fragment, rest []Fragment) ([]byte, error) {
	rec := append([]byte(nil), tail.Data...)
	length, whole := uint64(tail.Length), len(tail.Data) == int(tail.Length)
	for _, f := range rest {
		if whole {
			rec = append(rec, f.Data...)
			whole = len(f.Data) == int(f.Length)
		}
		length += uint64(f.Length)
	}
	if uint64(len(rec)) > length || len(rec) < recordHeaderSize {
		return nil, fmt.Errorf("%w: %d bytes were kept of %d", ErrFragments, len(rec), length)
	}
	if total := binary.LittleEndian.Uint32(rec); uint64(total) != length {
		return nil, fmt.Errorf("%w: they have %d bytes, the record has %d", ErrFragments, length, total)
	}
	return rec, nil
}

func checkJoinedSum(rec []byte, tail Fragment, rest []Fragment) error {
	tab := crc32.MakeTable(crc32.Castagnoli)
	all, length := tail.Sum, uint64(tail.Length)
	for _, f := range rest {
		all = joinSums(all, f.Sum, uint64(f.Length))
		length += uint64(f.Length)
	}
	header := rec[:recordHeaderSize]
	body := cutSum(all, crc32.Checksum(header, tab), length-recordHeaderSize)
	if got := recordSum(tab, body, header); got != storedSum(header) {
		return fmt.Errorf("%w: %08X in the record, %08X computed", ErrChecksum, storedSum(header), got)
	}
	return nil
}
