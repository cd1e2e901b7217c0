package walrec

import (
	"errors"
	"fmt"

	"github.com/salvor-dr/salvor/internal/pg"
)

// What can be wrong with WAL. Errors of this package wrap one of these.
var (
	// ErrPageHeader: a page header that PostgreSQL never writes.
	ErrPageHeader = errors.New("bad WAL page header")
	// ErrPageAddress: a well-formed page that belongs elsewhere, as the pages
	// after the end of WAL in a recycled segment do.
	ErrPageAddress = errors.New("WAL page of another place")
	// ErrForeignSegment: a segment that is not the one its name says.
	ErrForeignSegment = errors.New("not the WAL segment of that name")
	// ErrRecord: a record header, or the fields after it, that make no sense
	// where they stand.
	ErrRecord = errors.New("bad WAL record")
	// ErrChecksum: a record whose CRC-32C does not match.
	ErrChecksum = errors.New("WAL record checksum mismatch")
	// ErrFragments: pieces handed to Join that do not make up one record.
	ErrFragments = errors.New("pieces of different WAL records")
	// ErrIncomplete: Join was not given the last piece of the record.
	ErrIncomplete = errors.New("WAL record without its end")
	// ErrIndex: bytes that are no encoded Index of a known version.
	ErrIndex = errors.New("bad WAL index")
)

// Error says where WAL could not be read, and why.
type Error struct {
	At  pg.LSN // of the page or record
	Err error  // wraps one of the sentinels above
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("WAL at %s: %v", e.At, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
