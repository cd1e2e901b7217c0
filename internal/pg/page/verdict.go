package page

import "fmt"

// Verdict is what Check thinks of a page.
type Verdict int

// The verdicts. OK and Zero are good pages, the others are not.
const (
	OK          Verdict = iota
	Zero                // all bytes are zero: allocated, not yet filled
	BadHeader           // the header is none that PostgreSQL writes
	BadChecksum         // the stored checksum is not the one of the contents
)

// Good says whether PostgreSQL would take the page into its buffers.
func (v Verdict) Good() bool { return v == OK || v == Zero }

// String gives the verdict in words.
func (v Verdict) String() string {
	switch v {
	case OK:
		return "ok"
	case Zero:
		return "zero"
	case BadHeader:
		return "bad header"
	case BadChecksum:
		return "bad checksum"
	}
	return fmt.Sprintf("Verdict(%d)", int(v))
}

// Check judges one page as PostgreSQL does when it reads one from disk
// (PageIsVerified, bufpage.c). The page is the whole slice; a slice that is not
// a block size PostgreSQL can have, such as the rest of a torn file, is
// BadHeader. block counts from the beginning of the relation fork over all its
// segment files. Checksums are compared only if checksums is set; then a page
// with both a wrong checksum and a wrong header is BadChecksum, the stronger
// proof.
func Check(page []byte, block uint32, checksums bool) Verdict {
	h, ok := ParseHeader(page)
	if !ok || !sizeValid(len(page)) {
		return BadHeader
	}
	if h.Upper == 0 {
		// PageIsNew: PostgreSQL sets no checksum then, so only zeros will do.
		if IsZero(page) {
			return Zero
		}
		return BadHeader
	}
	if checksums && h.Checksum != Checksum(page, block) {
		return BadChecksum
	}
	if !headerSane(h, len(page)) {
		return BadHeader
	}
	return OK
}
