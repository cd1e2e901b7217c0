package summary

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// twin is a set of blocks without any cleverness.
type twin struct {
	listed map[uint32]bool
	limit  uint32
}

func (s *twin) add(b uint32) {
	if b < s.limit {
		s.listed[b] = true
	}
}

func (s *twin) cut(limit uint32) {
	s.limit = min(s.limit, limit)
	maps.DeleteFunc(s.listed, func(b uint32, _ bool) bool { return b >= s.limit })
}

func (s *twin) merge(o *twin) {
	for b := range o.listed {
		s.add(b)
	}
	s.cut(o.limit)
}

func listed(s *blocks) []uint32 {
	var all []uint32
	end := uint64(0)
	s.runs(0, 1<<32, func(a, z uint64) bool {
		if a >= z || a <= end && end > 0 {
			panic("runs touch each other, or go back")
		}
		for ; a < z; a++ {
			all = append(all, uint32(a))
		}
		end = z
		return true
	})
	return all
}

// drawBlock prefers the borders of words and chunks, and few different numbers.
func drawBlock(t *rapid.T) uint32 {
	base := rapid.SampledFrom([]uint32{0, 0, 0, 1 << 16, 2 << 16, 7<<16 + 60, 0xFFFF0000}).Draw(t, "base")
	return base + rapid.OneOf(rapid.Uint32Range(0, 200), rapid.Uint32Range(0, 1<<16-1), rapid.Uint32Range(65500, 65535)).Draw(t, "offset")
}

func drawSet(t *rapid.T) (*blocks, *twin) {
	s, w := newBlocks(), &twin{map[uint32]bool{}, noLimit}
	for range rapid.IntRange(0, 12).Draw(t, "steps") {
		b := drawBlock(t)
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0:
			s.cut(b)
			w.cut(b)
		case 1, 2: // many neighbours
			for n := range rapid.Uint32Range(1, 1500).Draw(t, "run") {
				if b+n < noLimit && b+n >= b {
					s.add(b + n)
					w.add(b + n)
				}
			}
		case 3: // many apart
			for n := range rapid.Uint32Range(1, 700).Draw(t, "spread") {
				if c := b + 77*n; c < noLimit && c >= b {
					s.add(c)
					w.add(c)
				}
			}
		default:
			if b != noLimit {
				s.add(b)
				w.add(b)
			}
		}
	}
	return s, w
}

func checkSet(t *rapid.T, s *blocks, w *twin) {
	if got, want := listed(s), slices.Sorted(maps.Keys(w.listed)); !slices.Equal(got, want) {
		t.Fatalf("listed: %s", cmp.Diff(want, got))
	}
	if s.limit != w.limit || s.count() != uint64(len(w.listed)) {
		t.Fatalf("limit %d and %d listed, want %d and %d", s.limit, s.count(), w.limit, len(w.listed))
	}
	for range 20 {
		if b := drawBlock(t); b != noLimit && s.has(b) != (w.listed[b] || b >= w.limit) {
			t.Fatalf("block %d: %v", b, s.has(b))
		}
	}
	for _, c := range s.chunks {
		if len(c.array) == 0 && len(c.bits) == 0 || c.bits != nil && c.bits[len(c.bits)-1] == 0 || len(c.array) > maxArray {
			t.Fatalf("chunk %d has %d offsets and %d words", c.key, len(c.array), len(c.bits))
		}
	}
}

func TestBlocksAgainstTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, w := drawSet(t)
		checkSet(t, s, w)
		enc := s.append(nil)
		r := reader{b: enc, budget: maxDecoded}
		again := r.blocks()
		if r.err != nil || len(r.b) != 0 {
			t.Fatalf("%v, %d bytes left", r.err, len(r.b))
		}
		checkSet(t, again, w)
		if !slices.Equal(again.append(nil), enc) {
			t.Fatal("the form depends on how the set came about")
		}
		o, x := drawSet(t)
		s.merge(o)
		w.merge(x)
		checkSet(t, s, w)
	})
}
