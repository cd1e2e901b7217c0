package walrec

import (
	"encoding/binary"
	"fmt"

	"github.com/salvor-dr/salvor/internal/pg"
)

// Sizes of the two page headers, padded to eight bytes (SizeOfXLogShortPHD and
// SizeOfXLogLongPHD, xlog_internal.h).
const (
	ShortHeaderSize = 24
	LongHeaderSize  = 40
)

// Flags in a page header (XLP_*, xlog_internal.h).
const (
	flagContinued   = 0x0001 // the page begins inside a record
	flagLong        = 0x0002 // the page has the long header
	flagRemovable   = 0x0004 // no promise of full-page images; of no use here
	flagOverwritten = 0x0008 // the record cut off before this page never gets its rest
	allFlags        = 0x000F
)

// PageHeader is what stands at the beginning of every WAL page
// (XLogPageHeaderData, xlog_internal.h).
type PageHeader struct {
	Magic    uint16      // changes with every major version
	Major    int         // the major version Magic stands for
	Info     uint16      // XLP_* flags
	Timeline pg.Timeline // of the first record on the page
	PageAddr pg.LSN      // where the page believes it lies
	RemLen   uint32      // bytes of a record begun earlier that are still to come, with this page's
}

// Long says whether the page has the long header, as the first of each segment
// has.
func (h PageHeader) Long() bool { return h.Info&flagLong != 0 }

// Continued says whether the page begins inside a record.
func (h PageHeader) Continued() bool { return h.Info&flagContinued != 0 }

// Overwritten says that the record cut off before this page was given up after
// a crash, and that an XLOG_OVERWRITE_CONTRECORD record begins here.
func (h PageHeader) Overwritten() bool { return h.Info&flagOverwritten != 0 }

func (h PageHeader) size() int {
	if h.Long() {
		return LongHeaderSize
	}
	return ShortHeaderSize
}

// SegmentHeader is the long header of a segment's first page
// (XLogLongPageHeaderData, xlog_internal.h).
type SegmentHeader struct {
	PageHeader
	SystemID    pg.SystemID
	SegmentSize uint32 // bytes, a power of two from 1 MiB to 1 GiB
	BlockSize   uint32 // XLOG_BLCKSZ, a power of two from 1 to 64 KiB
}

// MajorOf gives the major version whose WAL pages carry magic, and false for a
// version that this release cannot read (XLOG_PAGE_MAGIC, xlog_internal.h).
func MajorOf(magic uint16) (int, bool) {
	switch magic {
	case 0xD10D:
		return 14, true
	case 0xD110:
		return 15, true
	case 0xD113:
		return 16, true
	case 0xD116:
		return 17, true
	case 0xD118:
		return 18, true
	}
	return 0, false
}

// ParsePageHeader reads the short header that every page has, and checks what
// can be checked without knowing where the page should lie: magic and flags.
// The error wraps ErrPageHeader.
func ParsePageHeader(page []byte) (PageHeader, error) {
	if len(page) < ShortHeaderSize {
		return PageHeader{}, fmt.Errorf("%w: %d bytes are too few for one", ErrPageHeader, len(page))
	}
	h := PageHeader{
		Magic:    binary.LittleEndian.Uint16(page),
		Info:     binary.LittleEndian.Uint16(page[2:]),
		Timeline: pg.Timeline(binary.LittleEndian.Uint32(page[4:])),
		PageAddr: pg.LSN(binary.LittleEndian.Uint64(page[8:])),
		RemLen:   binary.LittleEndian.Uint32(page[16:]),
	}
	major, ok := MajorOf(h.Magic)
	switch {
	case !ok:
		return PageHeader{}, fmt.Errorf("%w: magic %04X is of no version from %d to %d",
			ErrPageHeader, h.Magic, pg.OldestMajor, pg.NewestMajor)
	case h.Info&^allFlags != 0:
		return PageHeader{}, fmt.Errorf("%w: unknown flags %04X", ErrPageHeader, h.Info)
	case h.Timeline == 0:
		return PageHeader{}, fmt.Errorf("%w: timeline 0", ErrPageHeader)
	}
	h.Major = major
	return h, nil
}

// ParseSegmentHeader reads the long header at the beginning of a segment's
// first page; LongHeaderSize bytes are enough. It checks magic, flags, sizes
// and that the address is that of a segment's beginning. The error wraps
// ErrPageHeader.
//
// Timeline is that of the first record on the page. In the first segment of a
// new timeline, which begins as a copy of the old one's, it is lower than the
// timeline in the file's name.
func ParseSegmentHeader(page []byte) (SegmentHeader, error) {
	h, err := parseLongHeader(page)
	if err != nil {
		return SegmentHeader{}, err
	}
	if uint64(h.PageAddr)%uint64(h.SegmentSize) != 0 {
		return SegmentHeader{}, fmt.Errorf("%w: address %s is inside a segment of %d bytes", ErrPageHeader, h.PageAddr, h.SegmentSize)
	}
	return h, nil
}

func parseLongHeader(page []byte) (SegmentHeader, error) {
	if len(page) < LongHeaderSize {
		return SegmentHeader{}, fmt.Errorf("%w: %d bytes are too few for a segment's", ErrPageHeader, len(page))
	}
	p, err := ParsePageHeader(page)
	if err != nil {
		return SegmentHeader{}, err
	}
	h := SegmentHeader{
		PageHeader:  p,
		SystemID:    pg.SystemID(binary.LittleEndian.Uint64(page[24:])),
		SegmentSize: binary.LittleEndian.Uint32(page[32:]),
		BlockSize:   binary.LittleEndian.Uint32(page[36:]),
	}
	switch {
	case !h.Long():
		return SegmentHeader{}, fmt.Errorf("%w: not the one that begins a segment", ErrPageHeader)
	case !pg.ValidSegmentSize(h.SegmentSize):
		return SegmentHeader{}, fmt.Errorf("%w: impossible segment size %d", ErrPageHeader, h.SegmentSize)
	case !validBlockSize(h.BlockSize):
		return SegmentHeader{}, fmt.Errorf("%w: impossible block size %d", ErrPageHeader, h.BlockSize)
	}
	return h, nil
}

func validBlockSize(n uint32) bool { return n >= 1<<10 && n <= 64<<10 && n&(n-1) == 0 }

// Check says whether the header is that of segment seg of the cluster with the
// given system identifier (zero to accept any). The error wraps
// ErrForeignSegment.
func (h SegmentHeader) Check(seg pg.Segment, system pg.SystemID) error {
	switch {
	case system != 0 && h.SystemID != system:
		return fmt.Errorf("%w: it is of system %s, not %s", ErrForeignSegment, h.SystemID, system)
	case h.PageAddr != seg.Start(h.SegmentSize):
		return fmt.Errorf("%w: it begins at %s, %s begins at %s", ErrForeignSegment,
			h.PageAddr, seg.Name(h.SegmentSize), seg.Start(h.SegmentSize))
	case h.Timeline > seg.Timeline:
		return fmt.Errorf("%w: it is of timeline %d, %s is of timeline %d", ErrForeignSegment,
			h.Timeline, seg.Name(h.SegmentSize), seg.Timeline)
	}
	return nil
}
