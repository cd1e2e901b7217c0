// Package chunk is the content of a repository without its seals: codecs,
// block hashes, file digests, and maps of fixed-size blocks.
//
// A file is cut into blocks of one size: pages for a relation, slices of
// SliceSize for anything else. Neighbouring blocks that are stored together
// form a chunk of at most MaxPlain bytes. A block of zeros is never stored. A
// Map says for each block of a file which chunk holds it and at which place.
//
// Each block has a 64-bit hash; the Digest of a file is a sum over its blocks'
// hashes and places, so it can be made in any order and by several workers, and
// corrected when a few blocks change without reading the others.
//
// docs/format/README.md specifies the encodings.
package chunk
