package walrec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/salvor-dr/salvor/internal/pg"
)

// Scanner reads WAL that is written to it, in order and in pieces of any size,
// and collects the events. It is an io.Writer, so that one pass can hash,
// compress, store and scan. It needs one WAL page of memory, and what an Index
// holds.
//
// It is not safe for concurrent use.
type Scanner struct {
	opts Options
	tab  *crc32.Table

	first     SegmentHeader // sizes, system and magic of the input
	skip      int           // bytes before the first whole page
	midPage   bool          // the input began inside a page
	buf       []byte        // an incomplete page
	at        pg.LSN        // of the next page
	from      pg.LSN
	pages     int
	timeline  pg.Timeline // of the latest page
	prev      pg.LSN      // latest record
	prevKnown bool
	resume    pg.LSN // after a segment switch: where WAL goes on
	end       pg.LSN // of the latest whole record
	rec       pending
	head      *Fragment
	tail      *Fragment // also of no event; see Ends
	record    Record
	events    []Event
	ending    Ending
	err       error
}

// NewScanner makes a Scanner. It fails only for options that contradict each
// other; the zero Options are fine.
func NewScanner(opts Options) (*Scanner, error) {
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("scanning WAL: %w", err)
	}
	s := &Scanner{opts: opts, tab: crc32.MakeTable(crc32.Castagnoli)}
	if opts.BlockSize != 0 {
		s.first.BlockSize, s.first.SegmentSize = opts.BlockSize, opts.SegmentSize
		s.at = opts.Start
		if off := int(opts.Start % pg.LSN(opts.BlockSize)); off != 0 {
			s.skip = int(opts.BlockSize) - off
			s.at += pg.LSN(s.skip)
			s.midPage = true
		}
		s.from, s.end = s.at, s.at
	}
	return s, nil
}

// Write takes the next bytes of WAL. It always takes all of them and never
// fails, so that whoever else reads the same pass is not disturbed: Finish says
// what was wrong. Records are seen when their page is complete.
func (s *Scanner) Write(p []byte) (int, error) {
	n := len(p)
	if s.skip > 0 {
		k := min(s.skip, len(p))
		s.skip -= k
		p = p[k:]
	}
	if s.first.BlockSize == 0 && s.ending == 0 {
		k := min(LongHeaderSize-len(s.buf), len(p))
		s.buf = append(s.buf, p[:k]...)
		p = p[k:]
		if len(s.buf) == LongHeaderSize {
			s.readFirstHeader()
		}
	}
	block := int(s.first.BlockSize)
	for len(p) > 0 && s.ending != Damaged {
		if len(s.buf) == 0 && len(p) >= block {
			s.page(p[:block])
			p = p[block:]
			continue
		}
		k := min(block-len(s.buf), len(p))
		s.buf = append(s.buf, p[:k]...)
		p = p[k:]
		if len(s.buf) == block {
			s.page(s.buf)
			s.buf = s.buf[:0]
		}
	}
	return n, nil
}

// readFirstHeader learns the sizes from a segment's first page.
func (s *Scanner) readFirstHeader() {
	h, err := ParseSegmentHeader(s.buf)
	if err == nil && s.opts.Start != 0 && h.PageAddr != s.opts.Start {
		err = fmt.Errorf("%w: it says %s", ErrPageAddress, h.PageAddr)
	}
	if err != nil {
		s.at, s.from, s.end = s.opts.Start, s.opts.Start, s.opts.Start
		s.stop(Damaged, s.opts.Start, err)
		return
	}
	s.first = h
	s.at, s.from, s.end = h.PageAddr, h.PageAddr, h.PageAddr
	page := make([]byte, len(s.buf), h.BlockSize)
	copy(page, s.buf)
	s.buf = page
}

// stop ends the scan. Later pages are looked at only to tell an end of WAL from
// damage in the middle of it.
func (s *Scanner) stop(ending Ending, at pg.LSN, err error) {
	s.ending, s.err = ending, &Error{At: at, Err: err}
	s.rec.active = false
}

// page reads one page. It may be shorter than a page at the input's end.
func (s *Scanner) page(p []byte) {
	at := s.at
	s.at += pg.LSN(s.first.BlockSize)
	if s.ending == Damaged || at < s.resume {
		return
	}
	h, ending, err := s.pageHeader(p, at)
	if s.ending == EndsEarly {
		if err == nil {
			s.ending = Damaged // WAL goes on after what looked like its end
		}
		return
	}
	if err != nil {
		s.stop(ending, at, err)
		return
	}
	s.pages++
	s.timeline = h.Timeline
	off, ok := s.continuation(p, h, at)
	if ok {
		s.records(p, off, at)
	}
}

// pageHeader checks a page as XLogReaderValidatePageHeader (xlogreader.c) does.
// The Ending tells a page that was never written, or not since the file was
// recycled, from a damaged one.
func (s *Scanner) pageHeader(p []byte, at pg.LSN) (PageHeader, Ending, error) {
	h, err := ParsePageHeader(p)
	if err != nil {
		if allZero(p[:min(len(p), ShortHeaderSize)]) {
			return h, EndsEarly, err
		}
		return h, Damaged, err
	}
	beginsSegment := uint64(at)%uint64(s.first.SegmentSize) == 0
	switch {
	case h.PageAddr < at:
		return h, EndsEarly, fmt.Errorf("%w: it says %s", ErrPageAddress, h.PageAddr)
	case h.PageAddr > at:
		return h, Damaged, fmt.Errorf("%w: it says %s", ErrPageAddress, h.PageAddr)
	case s.first.Magic != 0 && h.Magic != s.first.Magic:
		return h, Damaged, fmt.Errorf("%w: magic %04X after %04X", ErrPageHeader, h.Magic, s.first.Magic)
	case h.Timeline < s.timeline:
		return h, Damaged, fmt.Errorf("%w: timeline %d after %d", ErrPageHeader, h.Timeline, s.timeline)
	case beginsSegment && !h.Long():
		return h, Damaged, fmt.Errorf("%w: short at a segment's beginning", ErrPageHeader)
	}
	if h.Long() {
		long, err := parseLongHeader(p)
		switch {
		case err != nil:
			return h, Damaged, err
		case long.SegmentSize != s.first.SegmentSize || long.BlockSize != s.first.BlockSize:
			return h, Damaged, fmt.Errorf("%w: sizes differ from the first segment's", ErrPageHeader)
		case s.first.SystemID != 0 && long.SystemID != s.first.SystemID:
			return h, Damaged, fmt.Errorf("%w: of system %s, not %s", ErrPageHeader, long.SystemID, s.first.SystemID)
		}
		s.first.SystemID = long.SystemID
	}
	if s.first.Magic == 0 {
		s.first.PageHeader = h
	}
	return h, 0, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// continuation takes what a page holds of a record begun earlier. It returns
// where the first record on the page starts, and false if none does.
func (s *Scanner) continuation(p []byte, h PageHeader, at pg.LSN) (int, bool) {
	off := h.size()
	if !h.Continued() {
		if s.rec.active && !h.Overwritten() {
			s.stop(Damaged, at, fmt.Errorf("%w: the rest of the record at %s is missing", ErrRecord, s.rec.start))
			return 0, false
		}
		s.rec.active = false // given up after a crash
		return off, true
	}
	if !s.rec.active {
		if s.pages > 1 {
			s.stop(Damaged, at, fmt.Errorf("%w: the page continues a record, but none is open", ErrRecord))
			return 0, false
		}
		s.rec.begin(at+pg.LSN(off), h.RemLen, true, s.opts.MaxFragment)
	}
	if h.RemLen == 0 || h.RemLen != s.rec.left() {
		s.stop(Damaged, at, fmt.Errorf("%w: %d bytes of the record at %s are to follow, the page says %d",
			ErrRecord, s.rec.left(), s.rec.start, h.RemLen))
		return 0, false
	}
	room := len(p) - off
	if room <= 0 {
		return 0, false
	}
	n := min(int(h.RemLen), room)
	if !s.feed(p[off : off+n]) {
		return 0, false
	}
	if s.rec.left() > 0 {
		return 0, false
	}
	off = align8(off + n)
	return off, s.complete(at+pg.LSN(off)) && at+pg.LSN(off) > s.resume
}

// feed adds bytes to the open record, and checks its header once it is whole.
func (s *Scanner) feed(b []byte) bool {
	r := &s.rec
	if !r.head && r.got < recordHeaderSize {
		n := min(recordHeaderSize-int(r.got), len(b))
		r.add(s.tab, b[:n])
		b = b[n:]
		if !r.headerKnown() {
			return true
		}
		if err := checkRecordHeader(r.kept, r.start, s.prev, s.prevKnown, s.first.Major); err != nil {
			s.stop(EndsEarly, r.start, err)
			return false
		}
		r.setKind(s.opts.Records != nil)
	}
	r.add(s.tab, b)
	return true
}

// complete closes the open record, which ends at end.
func (s *Scanner) complete(end pg.LSN) bool {
	r := &s.rec
	r.active = false
	if r.head {
		if !s.midPage {
			s.head = r.event(s.tab, s.first.Major, end, s.opts.MaxFragment)
		}
		s.end = end
		return true
	}
	if !s.opts.SkipCRC {
		if got := recordSum(s.tab, r.sum, r.kept); got != storedSum(r.kept) {
			s.badSum(r.start, r.kept, got)
			return false
		}
	}
	s.prev, s.prevKnown = r.start, true
	if s.opts.Records != nil && !s.report(r.kept, r.start, end) {
		return false
	}
	if r.kind == 0 {
		s.end = end
		return true
	}
	return s.event(r.kind, r.kept, r.start, end)
}

// records reads the records that start on a page from off on.
func (s *Scanner) records(p []byte, off int, at pg.LSN) {
	for off+8 <= len(p) {
		lsn := at + pg.LSN(off)
		rec := p[off:]
		total := headTotal(rec)
		if len(rec) < recordHeaderSize || int64(total) > int64(len(rec)) {
			s.beginRecord(rec, lsn, total)
			return
		}
		// Nearly every record passes these, and then all of the check.
		if total < recordHeaderSize || rec[17] > rmgrMaxBuiltin || !s.prevKnown ||
			pg.LSN(binary.LittleEndian.Uint64(rec[8:])) != s.prev {
			if err := checkRecordHeader(rec, lsn, s.prev, s.prevKnown, s.first.Major); err != nil {
				s.stop(EndsEarly, lsn, err)
				return
			}
		}
		rec = rec[:total]
		if !s.opts.SkipCRC {
			body := crc32.Update(0, s.tab, rec[recordHeaderSize:])
			if got := recordSum(s.tab, body, rec); got != storedSum(rec) {
				s.badSum(lsn, rec, got)
				return
			}
		}
		off = align8(off + int(total))
		s.prev, s.prevKnown = lsn, true
		if s.opts.Records != nil && !s.report(rec, lsn, at+pg.LSN(off)) {
			return
		}
		k := kindOf(rec[17], rec[16])
		if k == 0 {
			s.end = at + pg.LSN(off)
		} else if !s.event(k, rec, lsn, at+pg.LSN(off)) || k == Switch {
			return
		}
	}
}

// beginRecord opens a record that goes on after the page's end.
func (s *Scanner) beginRecord(rec []byte, lsn pg.LSN, total uint32) {
	if total < recordHeaderSize || total > maxRecordSize {
		s.stop(EndsEarly, lsn, fmt.Errorf("%w: impossible length %d", ErrRecord, total))
		return
	}
	s.rec.begin(lsn, total, false, recordHeaderSize)
	s.feed(rec[:min(len(rec), int(total))])
}

func (s *Scanner) badSum(lsn pg.LSN, header []byte, got uint32) {
	s.stop(Damaged, lsn, fmt.Errorf("%w: %08X in the record, %08X computed", ErrChecksum, storedSum(header), got))
}

// report hands a whole record, of which rec are the first bytes, to Options.Records.
func (s *Scanner) report(rec []byte, lsn, end pg.LSN) bool {
	if err := decodeRecord(s.first.Major, rec, &s.record); err != nil {
		s.stop(Damaged, lsn, err)
		return false
	}
	s.record.LSN, s.record.EndLSN = lsn, end
	s.opts.Records(&s.record)
	return true
}

// event decodes a whole record and notes it.
func (s *Scanner) event(k Kind, rec []byte, lsn, end pg.LSN) bool {
	if s.opts.NoEvents {
		s.events = s.events[:0]
	}
	if len(s.events) == cap(s.events) {
		s.grow(lsn)
	}
	s.events = append(s.events, Event{Kind: k, LSN: lsn, EndLSN: end})
	e := &s.events[len(s.events)-1]
	if err := decode(s.first.Major, rec, e); err != nil {
		s.events = s.events[:len(s.events)-1]
		s.stop(Damaged, lsn, err)
		return false
	}
	if k == Switch {
		// The rest of the segment is not WAL (XLogDecodeNextRecord).
		seg := pg.LSN(s.first.SegmentSize)
		e.EndLSN = (end + seg - 1) / seg * seg
		s.resume = e.EndLSN
	}
	s.end = e.EndLSN
	return true
}

// grow makes room for the events to come, in the hope that the segment goes on
// as it began, so that they are not copied often.
func (s *Scanner) grow(lsn pg.LSN) {
	n := len(s.events)
	seen := max(uint64(lsn-s.from), 1)
	left := uint64(s.first.SegmentSize) - uint64(lsn)%uint64(s.first.SegmentSize)
	more := float64(n) * float64(left) / float64(seen) * 9 / 8
	s.events = slices.Grow(s.events, max(64, n/4, min(int(more), 7*n)))
}

// Finish says that no more bytes follow, and returns what was found. The Index
// is valid up to Index.To also with an error, which is an *Error: bytes that
// PostgreSQL wrote there are damaged. An end of WAL before the end of the input
// is no error; Index.Ending and Cause tell of it.
//
// The Scanner must not be used after Finish, but for Cause.
func (s *Scanner) Finish() (Index, error) {
	if s.first.BlockSize == 0 && s.ending == 0 {
		s.stop(Damaged, s.opts.Start, fmt.Errorf("%w: %d bytes are too few for one", ErrPageHeader, len(s.buf)))
	}
	whole := len(s.buf) == 0 && s.pages > 0 && uint64(s.at)%uint64(max(s.first.SegmentSize, 1)) == 0
	if len(s.buf) > 0 && s.ending == 0 {
		s.page(s.buf)
	}
	x := Index{
		Header:   s.first,
		Timeline: s.timeline,
		From:     s.from,
		Head:     s.head,
	}
	if len(s.events) > 0 && !s.opts.NoEvents {
		x.Events = s.events
	}
	if s.ending == EndsEarly && whole && s.switchedByHead() {
		s.ending, s.err = EndsBySwitch, nil
		s.end, s.head.End = s.at, s.at
	}
	switch {
	case s.ending != 0:
	case s.resume > s.from && s.resume >= s.at:
		s.ending = EndsBySwitch
	case whole:
		s.ending = EndsFull
		s.end = s.at
		if s.rec.active && !(s.rec.head && s.midPage) {
			f := s.rec.event(s.tab, s.first.Major, s.at, s.opts.MaxFragment)
			if s.rec.head {
				s.head, x.Head = f, f
			} else {
				x.Tail = f
				s.tail = s.rec.fragment(s.tab, s.first.Major, s.at, s.opts.MaxFragment)
			}
		}
	default:
		s.ending = EndsEarly
		s.err = &Error{At: s.end, Err: errors.New("the input ends inside a segment")}
	}
	x.To, x.Ending = s.end, s.ending
	if s.ending == Damaged {
		return x, s.err
	}
	return x, nil
}

// switchedByHead says whether the input is one segment that holds nothing but
// the end of a switch record, begun so late in the segment before that even its
// header was cut (ReserveXLogSwitch, xlog.c). That header ends with xl_info,
// xl_rmid, two bytes of padding and the CRC.
func (s *Scanner) switchedByHead() bool {
	if s.head == nil || s.end != s.head.End || s.at-s.from != pg.LSN(s.first.SegmentSize) {
		return false
	}
	n := len(s.head.Data)
	if n != 8 && n != 16 {
		return false
	}
	last := s.head.Data[n-8:]
	return kindOf(last[1], last[0]) == Switch && last[2] == 0 && last[3] == 0
}

// Ends gives, after Finish, the parts of the records that cross the ends of the
// input, for JoinRecord: the Index's Head, and the beginning of a record that goes
// on after it. Unlike Index.Tail that is given whatever the record is. With
// Options.Records it has what decoding the record needs.
func (s *Scanner) Ends() (head, tail *Fragment) { return s.head, s.tail }

// Cause says why the scan stopped before the input's end: an *Error, or nil if
// it did not. After Finish it is complete.
func (s *Scanner) Cause() error { return s.err }
