// Package lock keeps leases in a store: the only objects of a repository that
// change.
//
// A lease is a small JSON object under locks/, made by put-if-absent and renewed by
// compare-and-set well within its time to live. Wall clocks of two hosts are
// never compared: who wants a lease that another host holds watches it for a whole
// time to live by its own clock, and takes it only if it did not change meanwhile.
// On the same host a holder whose process is gone is replaced at once.
//
// A holder that was stopped for longer than its lease may have been replaced:
// before a step that must not be done twice it calls Check.
package lock
