package summary

import (
	"math"
	"math/bits"
	"slices"
)

// noLimit is the limit of a fork that was not cut, made or removed. It is no
// block's number (InvalidBlockNumber, block.h).
const noLimit = math.MaxUint32

const (
	chunkBlocks = 1 << 16 // of a chunk
	// maxArray is where an array becomes a bitmap at the latest. A bitmap takes
	// at most 8 KiB for 512 MiB of relation, so that all of a terabyte takes 16 MiB:
	// early is cheap, and adding to a bitmap is fast.
	maxArray = 128
)

// blocks is a set of numbers of blocks: those that are listed, and all from a
// limit on. None of those listed is at or above the limit.
//
// The listed are kept in chunks of 65,536 numbers, each as a sorted array of
// 16-bit offsets or as a bitmap that ends with its last word that is not zero
// (the idea of Roaring bitmaps, and of PostgreSQL's blkreftable.c).
type blocks struct {
	limit  uint32
	hint   uint32  // index of the chunk used last
	chunks []chunk // by key
}

type chunk struct {
	key   uint16   // the high half of its blocks' numbers
	array []uint16 // unless bits is set
	bits  []uint64
}

func newBlocks() *blocks { return &blocks{limit: noLimit} }

func (s *blocks) add(b uint32) {
	if b < s.limit {
		s.chunk(uint16(b >> 16)).add(uint16(b))
	}
}

// chunk finds or makes the chunk of a key.
func (s *blocks) chunk(key uint16) *chunk {
	if i := int(s.hint); i < len(s.chunks) && s.chunks[i].key == key {
		return &s.chunks[i]
	}
	if i := int(key); i < len(s.chunks) && s.chunks[i].key == key { // as if all are there
		return &s.chunks[i]
	}
	i, found := slices.BinarySearchFunc(s.chunks, key, func(c chunk, k uint16) int { return int(c.key) - int(k) })
	if !found {
		s.chunks = slices.Insert(s.chunks, i, chunk{key: key})
	}
	s.hint = uint32(i)
	return &s.chunks[i]
}

// cut adds all blocks from limit on.
func (s *blocks) cut(limit uint32) {
	if limit >= s.limit {
		return
	}
	s.limit = limit
	key, rest := uint16(limit>>16), uint16(limit)
	n := 0
	for i := range s.chunks {
		c := &s.chunks[i]
		if c.key > key {
			break
		}
		if c.key == key && !c.cut(rest) {
			break
		}
		n++
	}
	s.chunks = slices.Clip(slices.Delete(s.chunks, n, len(s.chunks)))
}

// merge adds what o has. It may take over parts of o, which must not be used then.
func (s *blocks) merge(o *blocks) {
	s.cut(o.limit)
	if len(s.chunks) == 0 {
		s.chunks = o.chunks
	} else {
		for _, c := range o.chunks {
			if uint32(c.key)<<16 >= s.limit {
				break
			}
			s.chunk(c.key).merge(c)
		}
	}
	limit := s.limit
	s.limit = noLimit
	s.cut(limit)
}

func (c *chunk) add(o uint16) {
	if c.bits != nil {
		w := int(o >> 6)
		if w >= len(c.bits) {
			c.bits = append(c.bits, make([]uint64, w+1-len(c.bits))...)
		}
		c.bits[w] |= 1 << (o & 63)
		return
	}
	if n := len(c.array); n == 0 || o > c.array[n-1] {
		c.array = append(c.array, o)
	} else if i, found := slices.BinarySearch(c.array, o); !found {
		c.array = slices.Insert(c.array, i, o)
	}
	if c.dense() {
		c.toBits()
	}
}

// dense says whether a bitmap serves better than the array.
func (c *chunk) dense() bool {
	n := len(c.array)
	return n > maxArray || n >= 8 && 2*n >= 8*(int(c.array[n-1]>>6)+1)
}

func (c *chunk) toBits() {
	if c.bits != nil || len(c.array) == 0 {
		return
	}
	c.bits = make([]uint64, c.array[len(c.array)-1]>>6+1)
	for _, o := range c.array {
		c.bits[o>>6] |= 1 << (o & 63)
	}
	c.array = nil
}

// cut removes the offsets from o on, and says whether any are left.
func (c *chunk) cut(o uint16) bool {
	if c.bits == nil {
		i, _ := slices.BinarySearch(c.array, o)
		c.array = c.array[:i]
		return i > 0
	}
	if w := int(o >> 6); w < len(c.bits) {
		c.bits = c.bits[:w+1]
		c.bits[w] &= 1<<(o&63) - 1
	}
	for n := len(c.bits); n > 0 && c.bits[n-1] == 0; n-- {
		c.bits = c.bits[:n-1]
	}
	return len(c.bits) > 0
}

func (c *chunk) merge(o chunk) {
	switch {
	case c.bits == nil && len(c.array) == 0:
		c.array, c.bits = o.array, o.bits
	case o.bits == nil && len(c.array)+len(o.array) <= maxArray:
		for _, n := range o.array {
			c.add(n)
		}
	default:
		c.toBits()
		o.toBits()
		if len(o.bits) > len(c.bits) {
			c.bits, o.bits = o.bits, c.bits
		}
		for i, w := range o.bits {
			c.bits[i] |= w
		}
	}
}

// has says whether block b is in the set.
func (s *blocks) has(b uint32) bool {
	if b >= s.limit {
		return true
	}
	i, found := slices.BinarySearchFunc(s.chunks, uint16(b>>16), func(c chunk, k uint16) int { return int(c.key) - int(k) })
	if !found {
		return false
	}
	c, o := &s.chunks[i], uint16(b)
	if c.bits != nil {
		return int(o>>6) < len(c.bits) && c.bits[o>>6]&(1<<(o&63)) != 0
	}
	_, found = slices.BinarySearch(c.array, o)
	return found
}

// runs calls yield with each run of blocks that are listed, from first to before
// end, within from and to, until it returns false. Runs are as long as can be, and
// in order.
func (s *blocks) runs(from, to uint64, yield func(first, end uint64) bool) bool {
	first, end := uint64(0), uint64(0) // the run that may go on
	add := func(a, b uint64) bool {
		a, b = max(a, from), min(b, to)
		switch {
		case a >= b:
			return true
		case a == end && first < end:
			end = b
			return true
		}
		ok := first == end || yield(first, end)
		first, end = a, b
		return ok
	}
	for i := range s.chunks {
		c := &s.chunks[i]
		base := uint64(c.key) << 16
		if base >= to {
			break
		}
		if base+chunkBlocks <= from {
			continue
		}
		if !c.runs(func(a, b uint64) bool { return add(base+a, base+b) }) {
			return false
		}
	}
	return first == end || yield(first, end)
}

// runs calls yield with each run of offsets, from a to before b.
func (c *chunk) runs(yield func(a, b uint64) bool) bool {
	for i := 0; i < len(c.array); {
		j := i + 1
		for j < len(c.array) && c.array[j] == c.array[j-1]+1 {
			j++
		}
		if !yield(uint64(c.array[i]), uint64(c.array[j-1])+1) {
			return false
		}
		i = j
	}
	open, start := false, uint64(0)
	for i, w := range c.bits {
		at := uint64(i) * 64
		for n := uint64(0); n < 64; {
			rest := w >> n
			if open {
				k := uint64(bits.TrailingZeros64(^rest))
				if n += k; n >= 64 {
					break
				}
				open = false
				if !yield(start, at+n) {
					return false
				}
				continue
			}
			if rest == 0 {
				break
			}
			n += uint64(bits.TrailingZeros64(rest))
			open, start = true, at+n
		}
	}
	return !open || yield(start, uint64(len(c.bits))*64)
}

// count is how many blocks are listed.
func (s *blocks) count() uint64 {
	n := uint64(0)
	for i := range s.chunks {
		n += uint64(len(s.chunks[i].array))
		for _, w := range s.chunks[i].bits {
			n += uint64(bits.OnesCount64(w))
		}
	}
	return n
}
