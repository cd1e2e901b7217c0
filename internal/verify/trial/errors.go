package trial

import (
	"fmt"

	"github.com/salvor-dr/salvor/internal/catalog"
)

// Kinds of problems.
const (
	Damaged       = "damaged"         // the repository does not give what was stored
	NotRecovered  = "not_recovered"   // the server did not come up, or ended
	PageDamaged   = "page_damaged"    // a page has not its checksum
	TableDamaged  = "table_damaged"   // amcheck, of a heap
	IndexDamaged  = "index_damaged"   // amcheck, of a B-tree
	NotReadable   = "not_readable"    // pg_dump failed
	CheckFailed   = "check_failed"    // an operator's check
	NotReachable  = "not_reachable"   // WAL that the backup needs is missing
	OutsideNeeded = "outside_scratch" // it cannot be tried without touching other directories
)

// NoRoom says that the scratch directory has too little space.
type NoRoom struct {
	Dir          string
	Need, Have   uint64 // bytes
	Size, Replay uint64 // of what is needed: the data directory, and WAL
}

// Error implements error.
func (e *NoRoom) Error() string {
	return fmt.Sprintf("%s has %d MB free, and to restore needs %d MB: %d MB of data, the WAL, and some to spare",
		e.Dir, e.Have>>20, e.Need>>20, e.Size>>20)
}

// Unfit says why a directory is no place for scratch.
type Unfit struct {
	Dir    string
	Reason string
}

// Error implements error.
func (e *Unfit) Error() string {
	return fmt.Sprintf("%s cannot hold a trial restore: %s", e.Dir, e.Reason)
}

// OutOfReach says that a backup cannot be tried, as a problem of the backup.
type OutOfReach struct{ Problem catalog.Problem }

// Error implements error.
func (e *OutOfReach) Error() string { return e.Problem.Detail }
