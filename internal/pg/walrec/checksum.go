package walrec

import (
	"encoding/binary"
	"hash/crc32"
)

// recordSum gives the checksum that a record's header should carry, from the
// CRC-32C of the bytes after the header: those come first, then the header up
// to its CRC field (ValidXLogRecord, xlogreader.c).
func recordSum(tab *crc32.Table, body uint32, header []byte) uint32 {
	return crc32.Update(body, tab, header[:20])
}

func storedSum(header []byte) uint32 { return binary.LittleEndian.Uint32(header[20:]) }

// joinSums gives the CRC-32C of a text from those of its two parts and the
// length of the second: appending n bytes multiplies the polynomial that the
// first part is by x^8n, modulo the CRC's (as crc32_combine of zlib).
func joinSums(a, b uint32, n uint64) uint32 { return shiftSum(a, n) ^ b }

// cutSum gives the CRC-32C of the last n bytes of a text whose whole CRC is
// all and whose first part's is a.
func cutSum(all, a uint32, n uint64) uint32 { return shiftSum(a, n) ^ all }

// shiftSum multiplies sum by x^8n modulo the CRC's polynomial, by repeated
// squaring. Bits are reversed: the highest is x^0.
func shiftSum(sum uint32, n uint64) uint32 {
	for factor := uint32(1) << 23; n > 0; n >>= 1 { // x^8
		if n&1 != 0 {
			sum = multiply(sum, factor)
		}
		factor = multiply(factor, factor)
	}
	return sum
}

func multiply(a, b uint32) uint32 {
	var product uint32
	for bit := uint32(1) << 31; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= crc32.Castagnoli
		}
	}
	return product
}
