// Package repo holds the words of a repository: identifiers, references to
// stored chunks, and the errors its readers tell apart. A repository is the
// sealed contents of a store; docs/format specifies every byte of it.
//
// The parts, in the order data flows through them on its way in:
//
//   - repo/chunk: a few neighbouring blocks of a file: hashed, compressed; and
//     the maps that say which chunk holds which block
//   - repo/seal: named objects of sealed frames, written once
//   - repo/pack: objects of many chunks
//   - repo/keys: who can open the seals
//   - repo/lock: leases, the only objects that change
//   - repo/open: a repository made or opened from a store
//
// Not one word of PostgreSQL is in here.
package repo
