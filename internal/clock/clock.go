package clock

import "time"

// Clock tells the time and lets time pass.
type Clock interface {
	// Now gives the current time. Two readings of one clock may be subtracted
	// to measure how long something took, whatever happens to the wall clock
	// in between.
	Now() time.Time

	// After gives a channel on which the time is sent once, when d has
	// passed; at once if d is not positive. A channel that nobody reads any
	// more costs nothing.
	After(d time.Duration) <-chan time.Time
}

// System is the clock of this machine.
func System() Clock { return system{} }

type system struct{}

func (system) Now() time.Time                         { return time.Now() }
func (system) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Fixed is a clock that stands at t, for tests. Its After does not wait: it
// sends the moment that would have come.
func Fixed(t time.Time) Clock { return fixed{t} }

type fixed struct{ at time.Time }

func (f fixed) Now() time.Time { return f.at }

func (f fixed) After(d time.Duration) <-chan time.Time {
	c := make(chan time.Time, 1)
	c <- f.at.Add(max(d, 0))
	return c
}
