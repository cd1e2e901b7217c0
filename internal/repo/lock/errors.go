package lock

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrLost says that another holder has the lease, or may have it.
	ErrLost = errors.New("the lock was lost")
	// ErrNotHeld says that nobody has the lease.
	ErrNotHeld = errors.New("nobody holds the lock")
)

// Held says that another holder has the lease now.
type Held struct {
	What   string
	Holder Holder
	Report json.RawMessage // what the holder tells of itself; may be empty
}

// Error implements error.
func (h *Held) Error() string {
	return fmt.Sprintf("%s is locked by process %d on %s since %s", h.What, h.Holder.PID, h.Holder.Host,
		h.Holder.Since.UTC().Format(time.RFC3339))
}

// Unreadable says that a lease is there and does not tell who holds it: what it holds is
// damaged, or of another release. It wraps repo.ErrDamaged or repo.ErrUnknownFormat.
type Unreadable struct {
	What string
	Err  error
}

// Error implements error.
func (u *Unreadable) Error() string {
	return fmt.Sprintf("who holds the lock %s is not known: %v; who wants it has it when nobody has changed it for %s", u.What, u.Err, TTL)
}

// Unwrap gives why it cannot be read.
func (u *Unreadable) Unwrap() error { return u.Err }

// Cancelled is why the context of a holder ends that was asked to stop.
type Cancelled struct {
	By string    // who asked
	At time.Time // by the clock of who asked
}

// Error implements error.
func (c *Cancelled) Error() string {
	return fmt.Sprintf("cancelled by %s at %s", c.By, c.At.UTC().Format(time.RFC3339))
}
