// Package seal makes and reads the objects of a repository. Every object is an
// envelope: a header, then frames, the last of which is marked, then a trailer
// that points at it. An object is written once, under one name.
//
//	header   112 bytes: what it is, its identity, its own random key, wrapped
//	frame    16 bytes of frame header, then the sealed payload and a 16-byte tag
//	…
//	last     a frame like the others; readers of a pack look for it first
//	trailer  16 bytes: offset of the last frame, magic
//
// Each object has a key of its own, wrapped by a key derived from the
// repository's master key and the object's identity. Frames are AES-256-GCM
// (NIST SP 800-38D) with the frame's ordinal as nonce; object identity and frame
// header are authenticated with them, and the object's name and kind with the
// wrapped key. So a byte changed, a frame moved, an object cut, renamed or
// swapped for another is seen. An identity belongs to one attempt to write: no
// other bytes ever go under a used key and nonce.
//
// Without encryption the layout is the same; the tags are keyed BLAKE3 with a
// key that anyone can compute, which finds accidents, not adversaries.
//
// docs/format/README.md specifies every byte.
package seal
