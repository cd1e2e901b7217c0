// Package vfstest is a file system in memory for proving that code survives
// crashes and errors. It keeps what is synced apart from what is not.
//
//   - Crash returns the file system as a loss of power could have left it:
//     bytes and names that were not synced are lost or kept, each for itself,
//     as a seed decides. That is harsher than a journaling file system, and all
//     that POSIX promises.
//   - SetHook is called before each operation, without any lock held. It can
//     fail the operation, shorten a write or a read, wait, or take a Crash: so
//     a test visits every crash point and every error of a run.
//   - Open counts what is not closed.
//
// The model: a file has synced and current bytes, size and time. A directory
// has synced names, and for each name that changed since, every state that it
// has gone through: a crash picks one of these. A crash picks for each 512-byte
// sector that was written since the last sync the old or the new bytes, and for
// the size one between the synced and the current. Paths are absolute; there
// are no links of either kind but those of RenameNoReplace, which is one step.
// Permissions are not modelled. Times come from a counter, so a run is the same
// every time.
package vfstest
