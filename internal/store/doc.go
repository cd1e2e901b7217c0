// Package store is the contract for raw objects: where a repository keeps its
// bytes. It says what a place must promise (a directory, a bucket) so that
// everything above it can be written once.
//
// Words:
//
//   - object: bytes under a key, published whole or not at all
//   - key: a name such as "clusters/main/wal/00000001/000000010000000000000003"
//   - version: an opaque mark of an object's content, for compare-and-set
//   - common prefix: what a delimited list shows in place of a "folder"
//
// The invariants everything above relies on:
//
//  1. An object is seen whole or not at all, by every reader, at any moment,
//     also after a crash.
//  2. When Commit has returned, the object survives a power loss.
//  3. Of several writers with IfAbsent, or with the same IfMatch, one wins.
//  4. "Absent" is proven: ErrNotFound means that the place was asked and has no
//     such object. A place that cannot be reached is ErrUnavailable. PostgreSQL
//     ends recovery on the word "absent", so the two are never mixed up.
//  5. A read that delivers less than was asked ends with an error.
//
// The backends are children of this package (store/file, store/mem, ...), and
// so are the behaviours that wrap one. A new backend is done when
// storetest.Run passes over it.
package store
