// Package lock keeps leases in a store: the only objects of a repository that
// change.
//
// A lease is a small JSON object under locks/, made by put-if-absent and renewed by
// compare-and-set well within its time to live. Wall clocks of two hosts are
// never compared: who wants a lease that its holder does not renew watches it for a
// whole time to live by its own clock, and takes it only if it did not change
// meanwhile. So it is with a lease that cannot be read, because it is damaged or of
// another release: a holder that lives renews it, which changes it, or has lost it before
// the watch ends. A holder of the same host whose process is known to be gone is replaced
// at once. Every take-over is a compare-and-set of what was judged, so of two one wins.
//
// A holder counts its time to live from the beginning of the last renewal that got
// through, so it knows that it may have lost the lease before anybody can take it.
// One that was stopped as a whole (with its machine, say) does not know that: before a
// step that must not be done twice it calls Check.
//
// # Progress
//
// A holder may report how far it has come: Report. The report is small, opaque JSON, and
// travels in the lease with each renewal; anybody who can read the store sees it by Look.
//
// # Cancelling
//
// Cancel asks a holder to stop, from any host: it puts an object beside the lease,
// locks/<what>.cancel, which names the holding that is meant by its token. The holder
// looks for it every few seconds; when it finds its own token its context ends with
// *Cancelled. A request for another holding is never obeyed: whoever finds one removes
// it. Wait waits until a holding has ended.
//
//	locks/<what>          token of the holding, holder, renewed at, report
//	locks/<what>.cancel   token of the holding that shall stop, who asked, when
package lock
