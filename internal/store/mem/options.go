package mem

import (
	"context"
	"time"
)

// Options of a Store. The zero value has no limits and no faults.
type Options struct {
	// Capacity is the most bytes the store holds, counting what writers have
	// written and not committed; then it is store.ErrNoSpace. 0 is no limit.
	Capacity int64
	// Hook is called before each operation, without a lock held.
	Hook Hook
	// Now is the clock of ModTime; nil is a counter from a fixed day, so that a
	// run is the same every time.
	Now func() time.Time
}

// Op is a kind of operation.
type Op string

// The operations.
const (
	OpCreate Op = "create"
	OpWrite  Op = "write"
	OpCommit Op = "commit"
	OpOpen   Op = "open"
	OpRead   Op = "read"
	OpStat   Op = "stat"
	OpList   Op = "list" // once a list, with the prefix as Key
	OpDelete Op = "delete"
)

// Call is an operation about to be done.
type Call struct {
	Op  Op
	Key string
	// Len is how many bytes a read or write is to move. A hook that lowers it
	// makes a short one; with an error it is cut off there.
	Len int
}

// Hook decides on an operation: it may wait (until ctx is done), lower Len, and
// return an error, which the operation then returns.
type Hook func(ctx context.Context, c *Call) error
