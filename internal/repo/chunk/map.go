package chunk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"

	"github.com/salvor-dr/salvor/internal/repo"
)

// Run is neighbouring blocks of a file that lie side by side in one chunk, or
// that are all zero and stored nowhere.
type Run struct {
	First  uint64   // number of the first block
	Blocks uint32   // how many, at least 1
	Zero   bool     // no chunk: Ref and Slot are zero
	Ref    repo.Ref // the chunk
	Slot   uint32   // place of the first block in the chunk, in blocks
}

// End is the number of the block after the run.
func (r Run) End() uint64 { return r.First + uint64(r.Blocks) }

// Map says where every block of a file is. Runs are in block order and leave
// nothing out.
type Map struct {
	Block uint32 // bytes
	Runs  []Run
}

const (
	mapVersion = 1
	maxBlock   = MaxPlain
)

// AppendTo appends the map's encoding, which names packs only by itself, so
// that the same bytes can serve another backup of the same unchanged file.
func (m Map) AppendTo(b []byte) []byte {
	packs, index := m.packs()
	b = append(b, mapVersion)
	b = binary.AppendUvarint(b, uint64(m.Block))
	b = binary.AppendUvarint(b, uint64(len(packs)))
	for _, id := range packs {
		b = append(b, id[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Runs)))
	var last repo.Ref
	for _, r := range m.Runs {
		b = binary.AppendUvarint(b, uint64(r.Blocks)<<1|stored(r))
		if r.Zero {
			continue
		}
		want := following(last, r.Ref.Pack)
		b = binary.AppendUvarint(b, uint64(index[r.Ref.Pack]))
		b = binary.AppendVarint(b, int64(r.Ref.Ordinal)-int64(want.Ordinal))
		b = binary.AppendVarint(b, int64(r.Ref.Offset)-int64(want.Offset))
		b = binary.AppendUvarint(b, uint64(r.Ref.Stored))
		b = binary.AppendUvarint(b, uint64(r.Ref.Plain))
		b = binary.AppendUvarint(b, uint64(r.Slot))
		last = r.Ref
	}
	return b
}

func stored(r Run) uint64 {
	if r.Zero {
		return 0
	}
	return 1
}

// following is the place right after last, where the next chunk of a file
// mostly is; in another pack, the first place.
func following(last repo.Ref, pack repo.ID) repo.Ref {
	if last.Pack != pack || last.Stored == 0 {
		return repo.Ref{}
	}
	return repo.Ref{Ordinal: last.Ordinal + 1, Offset: last.End()}
}

func (m Map) packs() ([]repo.ID, map[repo.ID]int) {
	var ids []repo.ID
	index := map[repo.ID]int{}
	for _, r := range m.Runs {
		if _, ok := index[r.Ref.Pack]; !ok && !r.Zero {
			index[r.Ref.Pack] = len(ids)
			ids = append(ids, r.Ref.Pack)
		}
	}
	return ids, index
}

// ParseMap reads what AppendTo wrote. What it returns is consistent: blocks
// lie inside their chunks, and the runs follow one another from block 0.
func ParseMap(b []byte) (Map, error) {
	d := decoder{b: b}
	if v := d.byte(); v != mapVersion && d.err == nil {
		return Map{}, fmt.Errorf("file map has version %d, this release reads %d", v, mapVersion)
	}
	m := Map{Block: uint32(d.uvarint(maxBlock))}
	packs := make([]repo.ID, d.count(len(repo.ID{})))
	for i := range packs {
		copy(packs[i][:], d.bytes(len(packs[i])))
	}
	runs := d.count(1)
	if d.err == nil && m.Block == 0 {
		d.err = errors.New("its block size is zero")
	}
	m.Runs = make([]Run, 0, runs)
	var last repo.Ref
	first := uint64(0)
	for range runs {
		r := d.run(packs, last, m.Block)
		if d.err != nil {
			break
		}
		r.First = first
		first = r.End()
		m.Runs = append(m.Runs, r)
		if !r.Zero {
			last = r.Ref
		}
	}
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes follow its end", len(d.b))
	}
	if d.err != nil {
		return Map{}, fmt.Errorf("file map: %w", d.err)
	}
	return m, nil
}

// Blocks is the number of blocks of the file.
func (m Map) Blocks() uint64 {
	if len(m.Runs) == 0 {
		return 0
	}
	return m.Runs[len(m.Runs)-1].End()
}

// Find gives the run that holds the block, and false past the end.
func (m Map) Find(block uint64) (Run, bool) {
	i := sort.Search(len(m.Runs), func(i int) bool { return m.Runs[i].End() > block })
	if i == len(m.Runs) {
		return Run{}, false
	}
	return m.Runs[i], true
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

// MaxFrame bounds the stored length of a chunk with its header and seal.
const MaxFrame = MaxPlain + 4<<10

func (d *decoder) run(packs []repo.ID, last repo.Ref, block uint32) Run {
	v := d.uvarint(1<<33 - 1)
	r := Run{Blocks: uint32(v >> 1), Zero: v&1 == 0}
	if d.err == nil && r.Blocks == 0 {
		d.err = errors.New("a run of no blocks")
	}
	if r.Zero || d.err != nil {
		return r
	}
	if len(packs) == 0 {
		d.err = errors.New("a stored run, and no pack")
		return r
	}
	r.Ref.Pack = packs[d.uvarint(uint64(len(packs)-1))]
	want := following(last, r.Ref.Pack)
	ordinal := int64(want.Ordinal) + d.varint()
	offset := int64(want.Offset) + d.varint()
	r.Ref.Stored = uint32(d.uvarint(MaxFrame))
	r.Ref.Plain = uint32(d.uvarint(MaxPlain))
	r.Slot = uint32(d.uvarint(MaxPlain))
	if d.err != nil {
		return r
	}
	switch {
	case ordinal < 0 || ordinal > 1<<32-1 || offset < 0 || offset > 1<<62:
		d.err = errors.New("a chunk lies outside of any pack")
	case r.Ref.Stored == 0 || r.Ref.Plain == 0:
		d.err = errors.New("a chunk is empty")
	case (uint64(r.Slot)+uint64(r.Blocks)-1)*uint64(block) >= uint64(r.Ref.Plain):
		d.err = errors.New("a run ends outside of its chunk")
	}
	r.Ref.Ordinal, r.Ref.Offset = uint32(ordinal), uint64(offset)
	return r
}
