package catalog

import "fmt"

// Unreadable says why a backup that is there cannot be read: its head is damaged, or
// this release or key cannot read it. It wraps repo.ErrDamaged, repo.ErrUnknownFormat
// or repo.ErrWrongKey.
type Unreadable struct {
	ID  string
	Err error
}

// Error implements error.
func (u *Unreadable) Error() string { return fmt.Sprintf("backup %s: %v", u.ID, u.Err) }

// Unwrap gives why.
func (u *Unreadable) Unwrap() error { return u.Err }
