package page

import (
	"encoding/binary"

	"github.com/salvor-dr/salvor/internal/pg"
)

// Offsets of the fields of PageHeaderData (bufpage.h).
const (
	offLSN         = 0 // two 32-bit halves, the high one first
	offChecksum    = 8
	offFlags       = 10
	offLower       = 12
	offUpper       = 14
	offSpecial     = 16
	offSizeVersion = 18
	headerSize     = 24 // with pd_prune_xid, without line pointers
)

const (
	validFlags = 0x0007 // PD_VALID_FLAG_BITS
	maxAlign   = 8      // MAXIMUM_ALIGNOF on every 64-bit platform
	minSize    = 1 << 10
	maxSize    = 32 << 10
)

// Header is the beginning of a page (PageHeaderData, bufpage.h). All offsets
// are in bytes from the beginning of the page.
type Header struct {
	LSN      pg.LSN // end of the last WAL record that changed the page
	Checksum uint16 // as stored; meaningless when data checksums are off
	Flags    uint16 // pd_flags
	Lower    uint16 // start of the free space
	Upper    uint16 // end of the free space; zero on a page never initialised
	Special  uint16 // start of the access method's own space
	PageSize uint16 // as stored, in bytes
	Layout   uint8  // page layout version, 4 since PostgreSQL 8.3
}

// ParseHeader reads the header of a page. It returns false if the slice is too
// short to hold one; it judges nothing.
func ParseHeader(page []byte) (Header, bool) {
	if len(page) < headerSize {
		return Header{}, false
	}
	sizeVersion := binary.LittleEndian.Uint16(page[offSizeVersion:])
	return Header{
		LSN:      LSN(page),
		Checksum: binary.LittleEndian.Uint16(page[offChecksum:]),
		Flags:    binary.LittleEndian.Uint16(page[offFlags:]),
		Lower:    binary.LittleEndian.Uint16(page[offLower:]),
		Upper:    binary.LittleEndian.Uint16(page[offUpper:]),
		Special:  binary.LittleEndian.Uint16(page[offSpecial:]),
		PageSize: sizeVersion &^ 0xff,
		Layout:   uint8(sizeVersion),
	}, true
}

// LSN gives pd_lsn, the end of the last WAL record that changed the page, and
// zero for a slice shorter than that field. PostgreSQL stores it as two 32-bit
// numbers, the high half first (PageXLogRecPtr, bufpage.h).
func LSN(page []byte) pg.LSN {
	if len(page) < offLSN+8 {
		return 0
	}
	hi := binary.LittleEndian.Uint32(page[offLSN:])
	lo := binary.LittleEndian.Uint32(page[offLSN+4:])
	return pg.LSN(uint64(hi)<<32 | uint64(lo))
}

// AllVisible says whether a page has PD_ALL_VISIBLE set (bufpage.h). It must have a
// header. The flag can be set without a new LSN (visibilitymap_set, visibilitymap.c);
// it is never cleared so.
func AllVisible(page []byte) bool { return page[10]&4 != 0 }

// IsZero says whether every byte is zero. A page like that is valid: PostgreSQL
// extends a file with zeros before it fills the new pages.
func IsZero(page []byte) bool {
	for len(page) >= 64 {
		// Eight words, one branch: the compiler keeps it free of bounds checks.
		b := (*[64]byte)(page)
		if le64(b[0:8])|le64(b[8:16])|le64(b[16:24])|le64(b[24:32])|
			le64(b[32:40])|le64(b[40:48])|le64(b[48:56])|le64(b[56:64]) != 0 {
			return false
		}
		page = page[64:]
	}
	for _, b := range page {
		if b != 0 {
			return false
		}
	}
	return true
}

func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// headerSane is PostgreSQL's own test before it takes a page into its buffers
// (PageIsVerified, bufpage.c).
func headerSane(h Header, size int) bool {
	return h.Flags&^validFlags == 0 &&
		h.Lower <= h.Upper &&
		h.Upper <= h.Special &&
		int(h.Special) <= size &&
		h.Special%maxAlign == 0
}

// sizeValid says whether PostgreSQL can have been built with such a block size.
func sizeValid(n int) bool { return n >= minSize && n <= maxSize && n&(n-1) == 0 }
