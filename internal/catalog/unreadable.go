package catalog

import (
	"fmt"

	"github.com/salvor-dr/salvor/internal/pg"
)

// Unreadable says why a backup that is there cannot be read: its head is damaged, or
// this release or key cannot read it. It wraps repo.ErrDamaged, repo.ErrUnknownFormat
// or repo.ErrWrongKey.
type Unreadable struct {
	ID    string
	Place Place
	Err   error
}

// UnreadablePlace says why a place that is there cannot be read: its origin is damaged
// or missing, or this release or key cannot read it. It wraps what Unreadable does.
type UnreadablePlace struct {
	Place Place
	Err   error
}

// UnreadableProof says why a proof that is there cannot be read. It wraps what Unreadable
// does.
type UnreadableProof struct {
	ID    string
	Place Place
	Err   error
}

// Error implements error.
func (u *UnreadableProof) Error() string { return fmt.Sprintf("proof %s: %v", u.ID, u.Err) }

// Unwrap gives why.
func (u *UnreadableProof) Unwrap() error { return u.Err }

// UnreadableHistory says why the history file of a timeline cannot be read. It wraps what
// Unreadable does.
type UnreadableHistory struct {
	Timeline pg.Timeline
	Err      error
}

// NeedsUnknown says that what a backup needs is not known, so that nothing it might need
// may go. It wraps why.
type NeedsUnknown struct {
	ID  string
	Err error
}

// Error implements error.
func (n *NeedsUnknown) Error() string {
	return fmt.Sprintf("what backup %s needs is not known: %v", n.ID, n.Err)
}

// Unwrap gives why.
func (n *NeedsUnknown) Unwrap() error { return n.Err }

// Error implements error.
func (u *UnreadableHistory) Error() string {
	return fmt.Sprintf("the history of timeline %d: %v", u.Timeline, u.Err)
}

// Unwrap gives why.
func (u *UnreadableHistory) Unwrap() error { return u.Err }

// Error implements error.
func (u *UnreadablePlace) Error() string { return fmt.Sprintf("place %s: %v", u.Place, u.Err) }

// Unwrap gives why.
func (u *UnreadablePlace) Unwrap() error { return u.Err }

// Error implements error.
func (u *Unreadable) Error() string { return fmt.Sprintf("backup %s: %v", u.ID, u.Err) }

// Unwrap gives why.
func (u *Unreadable) Unwrap() error { return u.Err }
