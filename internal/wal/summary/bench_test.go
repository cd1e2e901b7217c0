package summary

import (
	"runtime"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
)

// A terabyte of relations with random changes everywhere: about one block in thirty,
// in tables of 10 GB and of 1 MB. More of them would take no more memory.
const (
	largeRelations, largeBlocks = 80, 10 << 30 / page
	smallRelations, smallBlocks = 200000, 1 << 20 / page
)

func changeTerabyte(b *Builder) {
	random := uint32(1)
	next := func(n uint32) uint32 {
		random = random*1664525 + 1013904223
		return uint32(uint64(random) * uint64(n) >> 32)
	}
	var r walrec.Record
	change := func(number, block uint32) {
		r.Blocks = append(r.Blocks[:0], walrec.BlockRef{
			RelFileLocator: walrec.RelFileLocator{Tablespace: 1663, Database: 5, Number: number}, Block: block})
		b.Record(&r)
	}
	for range largeRelations * largeBlocks / 30 {
		change(next(largeRelations), next(largeBlocks))
	}
	for range smallRelations * smallBlocks / 30 {
		change(1000+next(smallRelations), next(smallBlocks))
	}
}

// TestTerabyteInLittleMemory: the Map of it takes less than 300 MB, and so does the
// Map that is read back while the first is there no more.
func TestTerabyteInLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const most = 300 << 20
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	b := NewBuilder()
	changeTerabyte(b)
	took := used() - before
	enc := Encode(Summary{Timeline: 1, To: pg.LSN(1), Map: b.m})
	forks, blocks := b.m.Forks(), b.m.Listed()
	b = nil
	s, err := Decode(enc)
	if err != nil {
		t.Fatal(err)
	}
	again := used() - before - uint64(cap(enc))
	t.Logf("%d forks, %d blocks: %d MB, encoded %d MB, read back %d MB", forks, blocks, took>>20, len(enc)>>20, again>>20)
	if took > most || again > most {
		t.Errorf("more than %d MB", most>>20)
	}
	if s.Map.Forks() != forks || s.Map.Listed() != blocks || blocks < 4<<20 {
		t.Errorf("%d forks and %d blocks were read back", s.Map.Forks(), s.Map.Listed())
	}
}

// BenchmarkBuilder is of records as they come from pgbench: one or two blocks, of
// few relations.
func BenchmarkBuilder(b *testing.B) {
	records := make([]walrec.Record, 1<<14)
	random := uint32(1)
	for i := range records {
		random = random*1664525 + 1013904223
		l := walrec.RelFileLocator{Tablespace: 1663, Database: 5, Number: 16384 + uint32(i%4)*5}
		records[i].Blocks = []walrec.BlockRef{{RelFileLocator: l, Block: random >> 8 % 160000}}
		if i%4 == 0 {
			records[i].Blocks = append(records[i].Blocks, walrec.BlockRef{RelFileLocator: l, Block: uint32(i)})
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		s := NewBuilder()
		for i := range records {
			s.Record(&records[i])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(records)), "ns/record")
}

// BenchmarkSegment is the whole way of a segment that a server wrote.
func BenchmarkSegment(b *testing.B) {
	a := loadArchive(b, 17)
	b.SetBytes(segmentSize)
	for b.Loop() {
		s := NewBuilder()
		scan, err := walrec.NewScanner(walrec.Options{Records: s.Record})
		if err != nil {
			b.Fatal(err)
		}
		_, _ = scan.Write(a.data[0])
		index, err := scan.Finish()
		if err != nil {
			b.Fatal(err)
		}
		Encode(s.Finish(1, scan, index))
	}
}

func BenchmarkMerge(b *testing.B) {
	s := NewBuilder()
	changeTerabyte(s)
	enc := Encode(Summary{Map: s.m})
	b.SetBytes(int64(len(enc)))
	for b.Loop() {
		m := NewMap()
		for range 2 {
			s, err := Decode(enc)
			if err != nil {
				b.Fatal(err)
			}
			m.Merge(s.Map)
		}
	}
}
