package restore

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/pack"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// simulated is a backup of which only the lists exist, not the data.
type simulated struct {
	tb   testing.TB
	run  *run
	base uint64 // live heap before anything is read
	peak uint64 // live heap at most, as sampled
}

var noTime = time.Unix(1_700_000_000, 0)

// simulate writes a file table, and a list of packs of which stored is stored.
func simulate(tb testing.TB, files int, file func(i int) catalog.File, packs []pack.Info, objects *seal.Objects) *simulated {
	tb.Helper()
	h := catalog.Head{ID: "20261124T060000Z-abcdef", Cluster: "main", SystemID: 7, Incarnation: "0123456789abcdef"}
	table, err := catalog.CreateFiles(tb.Context(), objects, h.Place(), h.ID)
	must(tb, err)
	for i := range files {
		must(tb, table.Add(file(i)))
	}
	h.FilesHeader, _, err = table.Commit()
	must(tb, err)
	named := make([]catalog.NamedPack, len(packs))
	for i, p := range packs {
		named[i].Info = p
	}
	h.PacksHeader, _, err = catalog.WritePacks(tb.Context(), objects, h.Place(), h.ID, named)
	must(tb, err)
	return &simulated{tb: tb, run: &run{Options: Options{To: tb.TempDir(), Objects: objects}, head: h}}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func live() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// feed reads all that a restore reads but the data, as a restore does, and samples the
// memory that is in use every so many pieces. It gives how many files came.
func (s *simulated) feed(every int) (files int, bytes uint64) {
	s.tb.Helper()
	ctx := s.tb.Context()
	s.base, s.peak = live(), 0
	infos, err := catalog.ReadPacks(ctx, s.run.Objects, s.run.head)
	must(s.tb, err)
	s.run.packs = pack.NewReader(s.run.Objects, s.run.head.Place().PackName, catalog.PackInfos(infos))
	parts, err := catalog.IndexFiles(ctx, s.run.Objects, s.run.head, func(catalog.File) error { return nil })
	must(s.tb, err)
	pieces := 0
	must(s.tb, s.run.feed(ctx, parts, func(batch []piece) error {
		for _, p := range batch {
			if pieces++; pieces%every == 0 {
				s.peak = max(s.peak, live())
			}
			for _, r := range p.runs {
				bytes += uint64(r.Blocks) * uint64(p.target.Block)
			}
			if p.target.left.Add(-1) > 0 {
				continue
			}
			files++
			if p.target.out != nil {
				must(s.tb, p.target.out.Close())
				must(s.tb, os.Remove(p.target.path))
			}
		}
		return nil
	}))
	runtime.KeepAlive(infos)
	return files, bytes
}

// used is the memory in use at most, over what was before, in bytes.
func (s *simulated) used() uint64 { return s.peak - min(s.base, s.peak) }

// relations are tables of one page, each with a free space and a visibility map.
func relations(tb testing.TB, n int) *simulated {
	packs := make([]pack.Info, 1+n/2000)
	for i := range packs {
		packs[i] = pack.Info{ID: repo.NewID(), Size: 32 << 20, Chunks: 2000}
	}
	digest := uint64(1)
	return simulate(tb, 3*n, func(i int) catalog.File {
		rel, fork := i/3, []string{"", "_fsm", "_vm"}[i%3]
		digest *= 0x9e3779b97f4a7c15
		m := chunk.Map{Block: 8192, Runs: []chunk.Run{{Blocks: 1, Ref: repo.Ref{Pack: packs[rel/2000].ID, Ordinal: uint32(i % 6000),
			Offset: uint64(i%6000) * 700, Stored: 700, Plain: 8192}}}}
		return catalog.File{Kind: catalog.Regular, Path: fmt.Sprintf("base/16384/%08d%s", rel, fork), Mode: 0o600, ModTime: noTime,
			Size: 8192, Block: 8192, Relation: true, Digest: chunk.Digest{Hi: digest, Lo: ^digest}, Map: m.AppendTo(nil)}
	}, packs, seal.New(mem.New(mem.Options{}), nil))
}

// terabytes are segments of relations of 1 GB each, of pages that compress badly and
// each chunk by another length. All of them have the same map, which is stored.
func terabytes(tb testing.TB, n int) *simulated {
	objects := seal.New(mem.New(mem.Options{}), nil)
	place := catalog.Place{Cluster: "main", SystemID: 7, Incarnation: "0123456789abcdef"}
	const chunks = 4096
	packs := make([]pack.Info, n*32) // of 32 MiB
	for i := range packs {
		packs[i] = pack.Info{ID: repo.NewID(), Size: 32 << 20, Chunks: 128}
	}
	m := chunk.Map{Block: 8192}
	for i := range uint64(chunks) {
		m.Runs = append(m.Runs, chunk.Run{First: i * 32, Blocks: 32, Ref: repo.Ref{Pack: packs[i/128].ID, Ordinal: uint32(i % 128),
			Offset: i % 128 * 262_000, Stored: uint32(250_000 + i*7919%12_000), Plain: chunk.MaxPlain}})
	}
	w, err := pack.NewWriter(objects, place.PackName, chunk.Zstd, pack.DefaultSize)
	must(tb, err)
	encoded := m.AppendTo(nil)
	ref, err := w.Add(tb.Context(), encoded, chunk.SliceSize, []uint64{chunk.BlockHash(encoded)})
	must(tb, err)
	must(tb, w.Close())
	return simulate(tb, n, func(i int) catalog.File {
		return catalog.File{Kind: catalog.Regular, Path: fmt.Sprintf("segment.%08d", i), Mode: 0o600, ModTime: noTime, Size: 1 << 30, Block: 8192,
			Relation: true, MapRefs: []repo.Ref{ref}}
	}, append(packs, w.Packs()...), objects)
}

// What a restore holds of its lists does not grow with the number of files.
func TestMemoryOfManyFiles(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 20_000
	}
	s := relations(t, n)
	files, bytes := s.feed(n / 4)
	if files != 3*n || bytes != uint64(3*n)*8192 {
		t.Fatalf("%d files of %d bytes", files, bytes)
	}
	t.Logf("%d files: %d KiB", files, s.used()>>10)
	if most := uint64(12 << 20); s.used() > most {
		t.Errorf("%d files take %d bytes of memory, want at most %d", files, s.used(), most)
	}
}

// Nor with the size of the database, but for 64 bytes and their index for each pack.
func TestMemoryOf4TB(t *testing.T) {
	n := 4096
	if testing.Short() {
		n = 256
	}
	s := terabytes(t, n)
	files, bytes := s.feed(n * 4)
	if files != n || bytes != uint64(n)<<30 {
		t.Fatalf("%d files of %d bytes", files, bytes)
	}
	t.Logf("%d GB: %d KiB", n, s.used()>>10)
	if most := uint64(48 << 20); s.used() > most {
		t.Errorf("%d GB take %d bytes of memory, want at most %d", n, s.used(), most)
	}
}

// BenchmarkFileTable100000 reads the lists of a backup of 100,000 relations, as a
// restore does.
func BenchmarkFileTable100000(b *testing.B) { benchmarkFeed(b, relations(b, 100_000), 100_000) }

// BenchmarkMaps4TB reads the lists and maps of a backup of 4 TB, as a restore does.
func BenchmarkMaps4TB(b *testing.B) { benchmarkFeed(b, terabytes(b, 4096), 16_384) }

func benchmarkFeed(b *testing.B, s *simulated, every int) {
	b.ReportAllocs()
	var most uint64
	for b.Loop() {
		s.feed(every)
		most = max(most, s.used())
	}
	b.ReportMetric(float64(most)/(1<<20), "peak-MiB")
}
