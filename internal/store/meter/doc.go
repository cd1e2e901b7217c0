// Package meter counts what is done with a store: calls, bytes, errors and how long
// they took, for each kind of operation. It knows no metrics library; who exports
// them reads Counts.
//
// A put is an object from Create to its Commit or Abort, a get is a range from Open to
// Close, a list is one run over a List. Their time is what is spent in calls of the
// store, without what the caller does in between. Bytes count as they move, the rest
// when the operation has ended.
//
// store.ErrNotFound, ErrExists and ErrChanged are answers and no failures: they are
// counted among the errors by their name, but not as failed.
package meter
