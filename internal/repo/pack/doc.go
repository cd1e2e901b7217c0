// Package pack stores many chunks in one object, and reads them back one by one.
//
// A pack is a sealed object (repo/seal) whose frames are chunks; its last frame
// is the footer, which lists each chunk's lengths and the hash of each block in
// it. Files share packs, so a database of many small relations is no multitude of
// objects. A pack belongs to one attempt to write it: a half-written one is
// invisible and never continued.
//
// Who reads a pack brings an Info from the backup's list of packs: the header digest is
// compared before the first chunk is used, so that a pack replaced or swapped is named.
// A range that the pack's end cuts is named as well. What lies outside of the ranges
// read, as the footer does for a restore, Verify looks at: it reads every byte.
package pack
