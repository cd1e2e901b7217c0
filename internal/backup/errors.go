package backup

import (
	"fmt"
	"time"
)

// Refusal says why no backup can be made as things are, and what helps.
type Refusal struct {
	Reason string
	Hint   string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Reason }

func refuse(hint, format string, args ...any) error {
	return &Refusal{Reason: fmt.Sprintf(format, args...), Hint: hint}
}

// DamagedParent says that damage was found in what an incremental backup was to take
// from its parent. A full backup can be made all the same.
type DamagedParent struct {
	ID  string
	Err error
}

// Error implements error.
func (e *DamagedParent) Error() string {
	return fmt.Sprintf("backup %s cannot be the parent: %v", e.ID, e.Err)
}

// Unwrap gives what is damaged.
func (e *DamagedParent) Unwrap() error { return e.Err }

// ArchiveTimeout says that WAL which the backup needs did not come into the
// repository in time, and why, as far as the server tells.
type ArchiveTimeout struct {
	Segment    string
	Repository string
	Waited     time.Duration
	Cause      string
	Hint       string
}

// Error implements error.
func (e *ArchiveTimeout) Error() string {
	return fmt.Sprintf("WAL segment %s is not in repository %s after %s: %s", e.Segment, e.Repository, e.Waited, e.Cause)
}
