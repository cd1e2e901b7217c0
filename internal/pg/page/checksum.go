package page

import "encoding/binary"

// The parameters of PostgreSQL's page checksum (checksum_impl.h): an FNV-1a
// variant that runs over 32 interleaved lanes of 32-bit words.
const (
	lanes    = 32
	rowSize  = lanes * 4
	fnvPrime = 16777619
)

// Checksum computes the checksum PostgreSQL stores in pd_checksum when it
// writes the page as the given block of its relation fork (pg_checksum_page,
// checksum_impl.h). The field itself counts as zero; the page is not changed.
// The result is never zero for a page: zero means the slice is not a whole
// number of 128-byte rows and so no page.
//
// Each lane depends only on itself, so the page is walked once for each group
// of eight lanes: their sums stay in registers, and eight independent chains
// hide the latency of the multiplication. The page stays in the first-level
// cache meanwhile.
func Checksum(page []byte, block uint32) uint16 {
	if len(page) < rowSize || len(page)%rowSize != 0 {
		return 0
	}
	stored := binary.LittleEndian.Uint32(page[offChecksum:]) & 0xffff
	// The start values of the lanes (checksumBaseOffsets, checksum_impl.h) are
	// part of the format. Xoring what is stored into the third one, whose first
	// word it begins, makes that word's low half count as zero.
	sum := sumLanes(page, [8]uint32{
		0x5B1F36E9, 0xB8525960, 0x02AB50AA ^ stored, 0x1DE66D2A,
		0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
	}) ^ sumLanes(page[32:], [8]uint32{
		0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA,
		0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
	}) ^ sumLanes(page[64:], [8]uint32{
		0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE,
		0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
	}) ^ sumLanes(page[96:], [8]uint32{
		0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E,
		0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
	})
	return uint16((sum^block)%65535 + 1)
}

// sumLanes hashes eight neighbouring lanes of all rows: p starts at the first
// lane's first word, seed holds the start values. It adds PostgreSQL's two
// final rounds of zeros and folds the lanes.
func sumLanes(p []byte, seed [8]uint32) uint32 {
	a, b, c, d := seed[0], seed[1], seed[2], seed[3]
	e, f, g, h := seed[4], seed[5], seed[6], seed[7]
	for len(p) >= 32 {
		w := (*[32]byte)(p)
		a = mix(a ^ binary.LittleEndian.Uint32(w[0:4]))
		b = mix(b ^ binary.LittleEndian.Uint32(w[4:8]))
		c = mix(c ^ binary.LittleEndian.Uint32(w[8:12]))
		d = mix(d ^ binary.LittleEndian.Uint32(w[12:16]))
		e = mix(e ^ binary.LittleEndian.Uint32(w[16:20]))
		f = mix(f ^ binary.LittleEndian.Uint32(w[20:24]))
		g = mix(g ^ binary.LittleEndian.Uint32(w[24:28]))
		h = mix(h ^ binary.LittleEndian.Uint32(w[28:32]))
		if len(p) < rowSize {
			break
		}
		p = p[rowSize:]
	}
	return mix(mix(a)) ^ mix(mix(b)) ^ mix(mix(c)) ^ mix(mix(d)) ^
		mix(mix(e)) ^ mix(mix(f)) ^ mix(mix(g)) ^ mix(mix(h))
}

// mix is one round of the hash after the word was xored in: x*prime ^ x>>17.
func mix(x uint32) uint32 { return x*fnvPrime ^ x>>17 }
