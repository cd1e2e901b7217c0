package chunk

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/salvor-dr/salvor/internal/repo"
)

const (
	mapVersion = 1
	maxBlock   = MaxPlain
)

// MaxFrame bounds the stored length of a chunk with its header and seal.
const MaxFrame = MaxPlain + 4<<10

// AppendTo appends the map's encoding, which names packs only by itself, so
// that the same bytes can serve another backup of the same unchanged file.
//
// After many incremental backups every block may lie in another chunk than its
// neighbour. The map must be small all the same, once it is compressed: so each chunk is
// described once, and numbers that are alike stand together, less what they mostly are.
func (m Map) AppendTo(b []byte) []byte {
	t := m.chunks()
	b = append(b, mapVersion)
	b = binary.AppendUvarint(b, uint64(m.Block))
	b = t.appendTo(b)
	b = binary.AppendUvarint(b, uint64(len(m.Runs)))
	for _, r := range m.Runs {
		b = binary.AppendUvarint(b, uint64(r.Blocks)<<1|stored(r))
	}
	var packs, steps, slots []byte
	last := make([]cursor, len(t.packs))
	for _, r := range m.Runs {
		if r.Zero {
			continue
		}
		i := t.index[r.Ref.Pack]
		k, _ := slices.BinarySearchFunc(t.packs[i], r.Ref, compareRefs)
		packs = binary.AppendUvarint(packs, uint64(i))
		steps = binary.AppendVarint(steps, int64(k-last[i].chunk))
		slots = binary.AppendVarint(slots, int64(r.Slot)-last[i].slot(k))
		last[i] = cursor{k, r.Slot + r.Blocks}
	}
	b = binary.AppendUvarint(b, uint64(len(packs)))
	b = append(b, packs...)
	b = binary.AppendUvarint(b, uint64(len(steps)))
	b = append(b, steps...)
	return append(b, slots...)
}

func stored(r Run) uint64 {
	if r.Zero {
		return 0
	}
	return 1
}

// cursor is the end of the run of a pack that was last in the map.
type cursor struct {
	chunk int // index into the pack's chunks
	end   uint32
}

// slot is the expected slot of a run of chunk k.
func (c cursor) slot(k int) int64 {
	if k != c.chunk {
		return 0
	}
	return int64(c.end)
}

// chunkTable lists the chunks that a map takes of each pack, in order, with the packs
// in the order in which they come first in the map.
type chunkTable struct {
	packs [][]repo.Ref
	index map[repo.ID]int
}

func (m Map) chunks() chunkTable {
	t := chunkTable{index: map[repo.ID]int{}}
	for _, r := range m.Runs {
		if r.Zero {
			continue
		}
		i, known := t.index[r.Ref.Pack]
		if !known {
			i = len(t.packs)
			t.index[r.Ref.Pack] = i
			t.packs = append(t.packs, nil)
		}
		if refs := t.packs[i]; len(refs) == 0 || refs[len(refs)-1] != r.Ref {
			t.packs[i] = append(refs, r.Ref)
		}
	}
	for i, refs := range t.packs {
		slices.SortFunc(refs, compareRefs)
		t.packs[i] = slices.Compact(refs)
	}
	return t
}

func compareRefs(a, b repo.Ref) int {
	return cmp.Or(cmp.Compare(a.Ordinal, b.Ordinal), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Stored, b.Stored), cmp.Compare(a.Plain, b.Plain))
}

// following is the expected chunk after last: right behind it, and as long.
func following(last repo.Ref) repo.Ref {
	if last.Stored == 0 {
		return repo.Ref{}
	}
	return repo.Ref{Ordinal: last.Ordinal + 1, Offset: last.End(), Plain: last.Plain}
}

func (t chunkTable) appendTo(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(t.packs)))
	for _, refs := range t.packs {
		b = append(b, refs[0].Pack[:]...)
		b = binary.AppendUvarint(b, uint64(len(refs)))
		var last repo.Ref
		for _, r := range refs {
			want := following(last)
			b = binary.AppendVarint(b, int64(r.Ordinal)-int64(want.Ordinal))
			b = binary.AppendVarint(b, int64(r.Offset)-int64(want.Offset))
			b = binary.AppendUvarint(b, uint64(r.Stored))
			b = binary.AppendVarint(b, int64(r.Plain)-int64(want.Plain))
			last = r
		}
	}
	return b
}

// ParseMap reads what AppendTo wrote. What it returns is consistent: blocks
// lie inside their chunks, and the runs follow one another from block 0.
func ParseMap(b []byte) (Map, error) {
	d := decoder{b: b}
	if v := d.byte(); v != mapVersion && d.err == nil {
		return Map{}, fmt.Errorf("file map has version %d, this release reads %d", v, mapVersion)
	}
	m := Map{Block: uint32(d.uvarint(maxBlock))}
	if d.err == nil && m.Block == 0 {
		d.err = errors.New("its block size is zero")
	}
	packs := d.chunks()
	m.Runs = d.lengths()
	d.places(m, packs)
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes follow its end", len(d.b))
	}
	if d.err != nil {
		return Map{}, fmt.Errorf("file map: %w", d.err)
	}
	return m, nil
}

// chunks reads the table of chunks.
func (d *decoder) chunks() [][]repo.Ref {
	packs := make([][]repo.Ref, d.count(len(repo.ID{})+1))
	for i := range packs {
		var last repo.Ref
		var id repo.ID
		copy(id[:], d.bytes(len(id)))
		packs[i] = make([]repo.Ref, d.count(4))
		for k := range packs[i] {
			last = d.ref(id, following(last))
			packs[i][k] = last
		}
	}
	return packs
}

func (d *decoder) ref(pack repo.ID, want repo.Ref) repo.Ref {
	ordinal := int64(want.Ordinal) + d.varint()
	offset := int64(want.Offset) + d.varint()
	r := repo.Ref{Pack: pack, Stored: uint32(d.uvarint(MaxFrame))}
	plain := int64(want.Plain) + d.varint()
	switch {
	case d.err != nil:
		return repo.Ref{}
	case ordinal < 0 || ordinal > 1<<32-1 || offset < 0 || offset > 1<<62:
		d.err = errors.New("a chunk lies outside of any pack")
	case r.Stored == 0 || plain <= 0 || plain > MaxPlain:
		d.err = errors.New("a chunk is empty, or longer than any")
	}
	r.Ordinal, r.Offset, r.Plain = uint32(ordinal), uint64(offset), uint32(plain)
	return r
}

// lengths reads how many blocks each run has, and whether they are stored.
func (d *decoder) lengths() []Run {
	runs := make([]Run, d.count(1))
	first := uint64(0)
	for i := range runs {
		v := d.uvarint(1<<33 - 1)
		r := Run{First: first, Blocks: uint32(v >> 1), Zero: v&1 == 0}
		if d.err == nil && r.Blocks == 0 {
			d.err = errors.New("a run of no blocks")
		}
		first, runs[i] = r.End(), r
	}
	return runs
}

// places reads where the runs are that are stored.
func (d *decoder) places(m Map, packs [][]repo.Ref) {
	// Three lists, side by side.
	p, s := decoder{b: d.bytes(d.count(1))}, decoder{}
	s.b = d.bytes(d.count(1))
	last := make([]cursor, len(packs))
	for i := range m.Runs {
		r := &m.Runs[i]
		if r.Zero || d.err != nil {
			continue
		}
		if len(packs) == 0 {
			d.err = errors.New("a stored run, and no pack")
			return
		}
		n := p.uvarint(uint64(len(packs) - 1))
		refs, at := packs[n], &last[n]
		k := int64(at.chunk) + s.varint()
		if d.err = cmp.Or(p.err, s.err); d.err == nil && (k < 0 || k >= int64(len(refs))) {
			d.err = errors.New("a run of a chunk that is not listed")
		}
		if d.err != nil {
			return
		}
		slot := at.slot(int(k)) + d.varint()
		r.Ref = refs[k]
		if d.err == nil && (slot < 0 || slot > MaxPlain || (uint64(slot)+uint64(r.Blocks)-1)*uint64(m.Block) >= uint64(r.Ref.Plain)) {
			d.err = errors.New("a run ends outside of its chunk")
		}
		r.Slot = uint32(slot)
		*at = cursor{int(k), r.Slot + r.Blocks}
	}
	if d.err == nil && len(p.b)+len(s.b) > 0 {
		d.err = fmt.Errorf("%d bytes follow the end of its lists", len(p.b)+len(s.b))
	}
}

// decoder reads varints with bounds; after the first fault every read gives
// zero, and err tells it.
type decoder struct {
	b   []byte
	err error
}

var errShort = errors.New("it is cut short")

func (d *decoder) uvarint(limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.err = errShort
		return 0
	}
	if v > limit {
		d.err = fmt.Errorf("the number %d is above %d", v, limit)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.err = errShort
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads how many things of at least size bytes follow.
func (d *decoder) count(size int) int { return int(d.uvarint(uint64(len(d.b) / size))) }

func (d *decoder) bytes(n int) []byte {
	if d.err == nil && n > len(d.b) {
		d.err = errShort
	}
	if d.err != nil {
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}
