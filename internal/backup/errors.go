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
