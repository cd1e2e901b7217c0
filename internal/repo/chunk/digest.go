package chunk

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// BlockHash is the 64-bit XXH3 of one block. It finds changed and wrongly
// placed blocks; it is no defence against an adversary, the seals are.
func BlockHash(block []byte) uint64 { return xxh3.Hash(block) }

var zeroBlock [MaxPlain]byte

// ZeroHash is the BlockHash of n zero bytes, at most MaxPlain.
func ZeroHash(n int) uint64 { return BlockHash(zeroBlock[:n]) }

// Digest is the 128-bit digest of a file: the sum, modulo 2^128, of one term
// for each block, XXH3-128 of its number and its hash, both as 64-bit
// little-endian. Blocks may be added in any order; Add of two digests of
// disjoint blocks is the digest of both. The last block may be short.
type Digest struct{ Hi, Lo uint64 }

// AddBlock adds the block with the given number and hash.
func (d *Digest) AddBlock(number, hash uint64) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], number)
	binary.LittleEndian.PutUint64(b[8:], hash)
	h := xxh3.Hash128(b[:])
	d.Add(Digest{h.Hi, h.Lo})
}

// Add adds the digest of other blocks of the same file.
func (d *Digest) Add(o Digest) {
	var carry uint64
	d.Lo, carry = bits.Add64(d.Lo, o.Lo, 0)
	d.Hi, _ = bits.Add64(d.Hi, o.Hi, carry)
}

// Sub takes away the digest of blocks that were added.
func (d *Digest) Sub(o Digest) {
	var borrow uint64
	d.Lo, borrow = bits.Sub64(d.Lo, o.Lo, 0)
	d.Hi, _ = bits.Sub64(d.Hi, o.Hi, borrow)
}

// SubBlock takes away a block that was added.
func (d *Digest) SubBlock(number, hash uint64) {
	var o Digest
	o.AddBlock(number, hash)
	d.Sub(o)
}

// AddData adds neighbouring blocks of the given size, the first of which has
// the given number.
func (d *Digest) AddData(first uint64, data []byte, block int) {
	for n := first; len(data) > 0; n++ {
		b := data[:min(block, len(data))]
		d.AddBlock(n, BlockHash(b))
		data = data[len(b):]
	}
}

// AppendBinary appends 16 bytes, big-endian.
func (d Digest) AppendBinary(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, d.Hi)
	return binary.BigEndian.AppendUint64(b, d.Lo)
}

// DigestFrom reads what AppendBinary wrote; b must have 16 bytes.
func DigestFrom(b []byte) Digest {
	return Digest{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// String gives 32 hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d.AppendBinary(nil)) }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != 16 {
		return fmt.Errorf("%q is not a file digest: want 32 hexadecimal digits", text)
	}
	*d = DigestFrom(b)
	return nil
}
