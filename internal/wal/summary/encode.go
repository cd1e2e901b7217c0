package summary

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
)

// version is the first byte of an encoded Summary.
const version = 1

// flagOverwritten is the bit for Summary.Overwritten.
const flagOverwritten = 1

// Encode gives the compact form of a Summary, as doc.go specifies it. Equal
// summaries have equal forms.
func Encode(s Summary) []byte {
	b := []byte{version, 0}
	if s.Overwritten {
		b[1] |= flagOverwritten
	}
	b = binary.AppendUvarint(b, uint64(s.Timeline))
	b = binary.AppendUvarint(b, uint64(s.From))
	b = binary.AppendUvarint(b, uint64(s.To-s.From))
	b = appendFragments(b, s.Head, s.From)
	b = appendFragments(b, s.Tail, s.From)
	b = binary.AppendUvarint(b, uint64(len(s.Reasons)))
	for _, r := range s.Reasons {
		b = append(b, byte(r.Kind), r.Manager)
		b = binary.AppendUvarint(b, uint64(r.First))
		b = binary.AppendUvarint(b, uint64(r.Last-r.First))
	}
	return s.Map.append(b)
}

func appendFragments(b []byte, parts []walrec.Fragment, from pg.LSN) []byte {
	b = binary.AppendUvarint(b, uint64(len(parts)))
	for _, f := range parts {
		b = append(b, byte(f.Major))
		b = walrec.AppendFragment(b, f, from)
	}
	return b
}

func (m *Map) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(m.tablespaces)))
	for _, t := range slices.Sorted(maps.Keys(m.tablespaces)) {
		b = binary.AppendUvarint(b, uint64(t))
	}
	b = binary.AppendUvarint(b, uint64(len(m.databases)))
	for _, d := range slices.SortedFunc(maps.Keys(m.databases), compareDatabases) {
		b = binary.AppendUvarint(b, uint64(d.tablespace))
		b = binary.AppendUvarint(b, uint64(d.oid))
	}
	b = binary.AppendUvarint(b, uint64(len(m.forks)))
	var last fork
	for _, f := range slices.SortedFunc(maps.Keys(m.forks), compareForks) {
		b = appendFork(b, f, last)
		b = m.forks[f].append(b)
		last = f
	}
	return b
}

func compareDatabases(a, b database) int {
	return cmp.Or(cmp.Compare(a.tablespace, b.tablespace), cmp.Compare(a.oid, b.oid))
}

func compareForks(a, b fork) int {
	return cmp.Or(cmp.Compare(a.Tablespace, b.Tablespace), cmp.Compare(a.Database, b.Database),
		cmp.Compare(a.Number, b.Number), cmp.Compare(a.number, b.number))
}

// appendFork names a fork, less what it has in common with the last.
func appendFork(b []byte, f, last fork) []byte {
	if f.Tablespace == last.Tablespace && f.Database == last.Database {
		b = append(b, f.number<<1|1)
		return binary.AppendUvarint(b, uint64(f.Number-last.Number))
	}
	b = append(b, f.number<<1)
	b = binary.AppendUvarint(b, uint64(f.Tablespace))
	b = binary.AppendUvarint(b, uint64(f.Database))
	return binary.AppendUvarint(b, uint64(f.Number))
}

func (s *blocks) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(s.limit+1)) // 0 is none
	b = binary.AppendUvarint(b, uint64(len(s.chunks)))
	key := 0
	for i := range s.chunks {
		c := &s.chunks[i]
		b = binary.AppendUvarint(b, uint64(int(c.key)-key))
		key = int(c.key) + 1
		b = c.append(b)
	}
	return b
}

// append writes runs, or the bitmap if that is shorter.
func (c *chunk) append(b []byte) []byte {
	from, count, end := len(b), uint64(0), uint64(0)
	c.runs(func(_, z uint64) bool {
		count, end = count+1, z
		return true
	})
	b = binary.AppendUvarint(b, count)
	last := uint64(0)
	c.runs(func(a, z uint64) bool {
		b = binary.AppendUvarint(b, a-last)
		b = binary.AppendUvarint(b, z-a-1)
		last = z
		return true
	})
	words := int(end+63) / 64
	if len(b)-from <= 3+8*words {
		return b
	}
	b = append(b[:from], 0)
	b = binary.AppendUvarint(b, uint64(words))
	full := chunk{array: c.array, bits: c.bits}
	full.toBits()
	for _, w := range full.bits {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}
