package summary

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
)

// maxDecoded bounds the memory of a decoded Map, in bytes: what lists every block
// of 16 TiB of relations takes half of it.
const maxDecoded = 512 << 20

// What a decoded fork and chunk take at most, beside their blocks.
const (
	forkCost  = 160
	chunkCost = 64
)

// Decode reads what Encode wrote. The error wraps ErrFormat. The result does not
// share memory with b.
func Decode(b []byte) (Summary, error) { return decode(b, maxDecoded) }

func decode(b []byte, budget int) (Summary, error) {
	r := reader{b: b, budget: budget}
	s := r.summary()
	if r.err == nil && len(r.b) != 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return Summary{}, r.err
	}
	return s, nil
}

// reader takes values off the front of b. After an error it gives zeros.
type reader struct {
	b      []byte
	budget int
	err    error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)
	}
	r.b = nil
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("cut short")
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) number(most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > most {
		r.fail("a number is cut short or above %d", most)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads how many things follow, each of which takes so many bytes at least.
func (r *reader) count(least int) int { return int(r.number(uint64(len(r.b) / least))) }

func (r *reader) oid() pg.OID { return pg.OID(r.number(math.MaxUint32)) }

// spend takes memory off the budget.
func (r *reader) spend(n int) {
	if r.budget -= n; r.budget < 0 {
		r.fail("the map takes too much memory")
	}
}

func (r *reader) summary() Summary {
	if v := r.byte(); r.err == nil && v != version {
		r.fail("version %d, this release knows %d", v, version)
	}
	flags := r.byte()
	if flags&^flagOverwritten != 0 {
		r.fail("unknown flags %02X", flags)
	}
	s := Summary{Overwritten: flags&flagOverwritten != 0}
	s.Timeline = pg.Timeline(r.number(math.MaxUint32))
	s.From = pg.LSN(r.number(math.MaxUint64))
	s.To = s.From + pg.LSN(r.number(math.MaxUint64-uint64(s.From)))
	s.Head = r.fragments(s.From)
	s.Tail = r.fragments(s.From)
	s.Reasons = r.reasons()
	s.Map = r.readMap()
	return s
}

func (r *reader) fragments(from pg.LSN) []walrec.Fragment {
	var parts []walrec.Fragment
	for range r.count(11) {
		major := int(r.byte())
		f, rest, err := walrec.DecodeFragment(r.b, from, major)
		if err != nil && r.err == nil {
			r.fail("%w", err)
		}
		if r.err != nil {
			return nil
		}
		r.b = rest
		parts = append(parts, f)
	}
	return parts
}

func (r *reader) reasons() []Reason {
	var all []Reason
	for i := range r.count(4) {
		c := Reason{Kind: ReasonKind(r.byte()), Manager: r.byte()}
		c.First = pg.LSN(r.number(math.MaxUint64))
		c.Last = c.First + pg.LSN(r.number(math.MaxUint64-uint64(c.First)))
		switch {
		case r.err != nil:
			return nil
		case c.Kind == 0 || c.Kind > lastReason:
			r.fail("unknown reason %d", c.Kind)
		case i > 0 && (c.Kind < all[i-1].Kind || c.Kind == all[i-1].Kind && c.Manager <= all[i-1].Manager):
			r.fail("reasons out of order")
		}
		all = append(all, c)
	}
	return all
}

func (r *reader) readMap() *Map {
	m := NewMap()
	for range r.count(1) {
		m.tablespaces[r.oid()] = struct{}{}
		r.spend(chunkCost)
	}
	for range r.count(2) {
		t, d := r.oid(), r.oid()
		if m.whole(t, d) {
			r.fail("a database twice")
		}
		m.databases[database{t, d}] = struct{}{}
		r.spend(chunkCost)
	}
	var last fork
	for i := range r.count(4) {
		f := r.fork(last)
		if r.err == nil && i > 0 && compareForks(last, f) >= 0 {
			r.fail("forks out of order")
		}
		if r.err == nil && (!tracked(f.number) || m.whole(f.Tablespace, f.Database)) {
			r.fail("a fork that says nothing")
		}
		r.spend(forkCost)
		s := r.blocks()
		if r.err != nil {
			return m
		}
		m.forks[f], last = s, f
	}
	return m
}

func (r *reader) fork(last fork) fork {
	tag := r.byte()
	f := fork{number: tag >> 1}
	if tag&1 != 0 {
		f.RelFileLocator = last.RelFileLocator
		f.Number += uint32(r.number(uint64(math.MaxUint32 - f.Number)))
		return f
	}
	f.Tablespace, f.Database, f.Number = r.oid(), r.oid(), uint32(r.number(math.MaxUint32))
	return f
}

func (r *reader) blocks() *blocks {
	s := &blocks{limit: uint32(r.number(noLimit)) - 1} // 0 is none
	n := r.count(3)
	if n == 0 || r.err != nil {
		return s
	}
	r.spend(n * chunkCost)
	if r.err != nil {
		return s
	}
	s.chunks = make([]chunk, 0, n)
	next := uint64(0)
	for range n {
		key := next + r.number(chunkBlocks)
		if key >= chunkBlocks {
			r.fail("a block beyond all numbers")
		}
		next = key + 1
		c := chunk{key: uint16(key)}
		if end := r.chunk(&c); r.err == nil && key<<16+end > uint64(s.limit) {
			r.fail("a block beyond its limit")
		}
		if r.err != nil {
			return s
		}
		s.chunks = append(s.chunks, c)
	}
	return s
}

// chunk reads runs or a bitmap, and gives the end of the last run.
func (r *reader) chunk(c *chunk) uint64 {
	runs := r.count(2)
	if runs == 0 {
		return r.bitmap(c)
	}
	start, total, last := r.b, 0, uint64(0)
	for range runs { // to know how many there are
		last += r.number(chunkBlocks)
		n := r.number(chunkBlocks) + 1
		last, total = last+n, total+int(n)
		if last > chunkBlocks {
			r.fail("a run beyond its chunk")
		}
	}
	if r.err != nil {
		return 0
	}
	words := int(last+63) / 64
	if r.spend(8 * words); r.err != nil {
		return 0
	}
	if total > maxArray {
		c.bits = make([]uint64, words)
	} else {
		c.array = make([]uint16, 0, total)
	}
	again, at := reader{b: start}, uint64(0)
	for range runs {
		at += again.number(chunkBlocks)
		for n := again.number(chunkBlocks) + 1; n > 0; n-- {
			c.add(uint16(at))
			at++
		}
	}
	return last
}

func (r *reader) bitmap(c *chunk) uint64 {
	words := int(r.number(chunkBlocks / 64))
	r.spend(8 * words)
	if r.err != nil || words == 0 || len(r.b) < 8*words {
		r.fail("an empty chunk, or one cut short")
		return 0
	}
	c.bits = make([]uint64, words)
	for i := range c.bits {
		c.bits[i] = binary.LittleEndian.Uint64(r.b[8*i:])
	}
	r.b = r.b[8*words:]
	end := uint64(0)
	c.runs(func(_, z uint64) bool {
		end = z
		return true
	})
	if c.bits[words-1] == 0 {
		r.fail("a bitmap that does not end with a block")
	}
	return end
}
