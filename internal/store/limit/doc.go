// Package limit bounds what one process takes of a store: bytes a second up and
// down, and operations at the same time.
//
// A rate is kept by a virtual clock (the generic cell rate algorithm): each piece of
// n bytes moves the time at which the next one may pass by n/rate, and what was not
// used lies ready for a tenth of a second at most. So the mean is exact, and no burst
// follows an idle hour. Large reads and writes go in pieces of a tenth of a second.
//
// An operation is counted while its call runs: a Stat from beginning to end, but of an
// open reader or writer only each Read, Write and Commit. So two readers of one
// goroutine, or a Stat in the loop over a List, never wait for each other.
package limit
