// Package retry repeats what a store could not do for the moment.
//
// A Policy says how often and how long a call is repeated when its error is
// store.ErrUnavailable; every other error is returned at once. The pause before
// each repetition is drawn at random between nothing and a bound that doubles
// each time ("full jitter"), so that many clients of a place that had a hiccup
// do not come back together (Marc Brooker, "Exponential Backoff And Jitter",
// AWS Architecture Blog, 2015). Both the number of calls and the time are
// bounded, and the last error is kept.
//
// Store is the behaviour as a wrapper, for backends that do not repeat by
// themselves:
//
//   - Stat, Open, and Delete without match are repeated as they are.
//   - List goes on after the last entry that was yielded.
//   - A Writer keeps up to SmallMax bytes until Commit, which is then repeated
//     as a whole. Larger objects go on to the store as they are written, and
//     are not repeated.
//   - Delete with match, and the reads of an open reader, are not repeated.
//
// An error of a Commit leaves open whether the object was published. When its
// repetition finds a condition broken, the object there is compared: if it holds
// the same bytes, it was published, by whichever attempt, and Commit succeeds.
// Otherwise the outcome stays open, so the error is the one of the attempt
// before, and neither store.ErrExists nor store.ErrChanged.
package retry
