package meter

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
)

// Op is a kind of operation.
type Op string

// The operations.
const (
	Put    Op = "put"
	Get    Op = "get"
	Stat   Op = "stat"
	List   Op = "list"
	Delete Op = "delete"
)

// ops are all of them, in the order of Counts.
func ops() []Op { return []Op{Put, Get, Stat, List, Delete} }

// Bounds are the upper bounds of the buckets of Latency; the last bucket has none.
// They reach from a file's time to that of a place in trouble.
func Bounds() []time.Duration {
	return []time.Duration{time.Millisecond, 4 * time.Millisecond, 16 * time.Millisecond, 64 * time.Millisecond,
		256 * time.Millisecond, time.Second, 4 * time.Second, 16 * time.Second, time.Minute}
}

// Buckets is how many buckets Latency has.
const Buckets = 10

// Counts is what was counted of one kind of operation.
type Counts struct {
	Op      Op
	Ended   int64            // operations that have ended, in whatever way
	Failed  int64            // of those, with an error that is no answer
	Aborted int64            // of those, puts that were dropped by their writer
	Errors  map[string]int64 // errors by name: "not_found", "unavailable", …; "other" for what is of no kind
	Bytes   int64            // moved
	Time    time.Duration    // spent, of all together
	Slowest time.Duration    // one
	Latency [Buckets]int64   // operations by their time, see Bounds
}

// add counts an operation that has ended.
func (c *Counts) add(took time.Duration, err error) {
	c.Ended++
	c.Time += took
	c.Slowest = max(c.Slowest, took)
	c.Latency[bucket(took)]++
	if err == nil {
		return
	}
	name, failed := nameOf(err)
	if c.Errors == nil {
		c.Errors = map[string]int64{}
	}
	c.Errors[name]++
	if failed {
		c.Failed++
	}
}

func bucket(took time.Duration) int {
	for i, bound := range Bounds() {
		if took <= bound {
			return i
		}
	}
	return Buckets - 1
}

// nameOf gives an error's kind a name, and says whether it is a failure.
func nameOf(err error) (name string, failed bool) {
	for _, k := range []struct {
		kind   error
		name   string
		failed bool
	}{
		{store.ErrNotFound, "not_found", false},
		{store.ErrExists, "exists", false},
		{store.ErrChanged, "changed", false},
		{context.Canceled, "canceled", true},
		{context.DeadlineExceeded, "canceled", true},
		{store.ErrUnavailable, "unavailable", true},
		{store.ErrPermission, "permission", true},
		{store.ErrNoSpace, "no_space", true},
		{store.ErrRange, "range", true},
		{store.ErrInvalidKey, "invalid_key", true},
		{io.ErrUnexpectedEOF, "cut", true},
	} {
		if errors.Is(err, k.kind) {
			return k.name, k.failed
		}
	}
	return "other", true
}
