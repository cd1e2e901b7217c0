// Package pack stores many chunks in one object, and reads them back one by one.
//
// A pack is a sealed object (repo/seal) whose frames are chunks; its last frame
// is the footer, which lists each chunk's lengths and the hash of each block in
// it. Files share packs, so a database of many small relations is no multitude of
// objects. A pack belongs to one attempt to write it: a half-written one is
// invisible and never continued.
//
// Who reads a pack brings an Info from the backup's list of packs: size and
// header digest are compared, so that a pack cut, replaced or swapped is named
// before its first chunk is used.
package pack
