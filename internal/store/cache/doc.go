// Package cache keeps small objects that never change in a local directory, so that
// a place with ten thousand backups on the other side of a network is not read anew
// each time somebody lists them.
//
// Store is the behaviour as a wrapper. Which objects are kept, and which of them
// together, is decided by Options.Group: a group is all kept objects under one
// prefix, and one file of the cache.
//
//   - A list always comes from the store. It tells which objects are there, and which
//     version each is.
//   - A kept object is read from the cache only after a list of this Store has named
//     it, with the version that is in the cache. Everything else is read from the
//     store: Stat asks it, and so does Open of an object that was not listed.
//   - An object that was listed and is not in the cache is kept when it has been read
//     to its end. Close writes the groups that have changed.
//   - When all of a group has been listed, what the list did not name is dropped.
//
// What the wrapper takes from the contract of store.Store is this: a kept object that
// somebody else deletes may still be read, by who has listed it before. Names of kept
// objects must never be used again.
//
// In memory is where the bytes of each kept object are; they stay in the files, and new
// ones go to a file without a name until Close.
//
// Bytes are kept as the store has them: what is sealed there is sealed here. The
// cache does not trust its files: who opens the seal of an object, and finds that it
// does not open, calls Forget, and reads it from the store. So a damaged or forged
// file of the cache never looks like a damaged repository.
//
// A file is written under another name and renamed, without waiting for the disk:
// what a crash leaves is a whole file, none, or one that fails to parse or to
// unseal. Several processes may use a directory at the same time: the last to write a
// group wins, and what it did not know is fetched again. Nothing waits for a lock.
package cache
