// Package keys says who can open the seals of a repository.
//
// A repository has master keys, which seal everything in it. They are stored in
// the repository itself, as a bundle that is wrapped once for each slot; a slot
// is opened by a passphrase (Argon2id, RFC 9106, then AES-256-GCM) or by an age
// X25519 identity (age-encryption.org/v1). A secret opens a slot; it is never a
// master key, so it can be replaced without touching what is stored.
//
// The objects keys/00000001, keys/00000002, … are written once each; the highest
// number counts. Each holds a MAC over salvor.json and over itself, made with a
// master key, so that neither can be changed by who has no key. A slot is bound to
// the secret that opens it as well: by AES-GCM under the passphrase's key, or by a
// MAC with a key from the age identity. So keys that somebody else put there
// don't open. What nobody can see without a memory of its own is that the newest
// keys object was removed and an older one counts again.
//
// An age identity is random, and opens its slot in less than a millisecond. A
// passphrase costs 64 MiB and a good part of a second on purpose, at every run,
// also at every WAL segment: identities are for machines, passphrases for people.
package keys
