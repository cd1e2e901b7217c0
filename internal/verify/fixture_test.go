package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/page"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/keys"
	"github.com/salvor-dr/salvor/internal/repo/open"
	"github.com/salvor-dr/salvor/internal/repo/pack"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

const (
	pageSize = 8192

	first, second, third = "20261124T060000Z-000001", "20261124T070000Z-000002", "20261124T080000Z-000003"
)

var (
	place = catalog.Place{Cluster: "orders", SystemID: 7301234567890123456, Incarnation: "0123456789abcdef"}
	sizes = pg.Sizes{Block: pageSize, SegmentBlocks: 4, WALBlock: walPage, WALSegment: segmentSize}
)

// world is a sound repository in memory: two timelines, a full backup, one that shares
// packs with it, and one that brings its WAL along.
type world struct {
	t       testing.TB
	store   *mem.Store
	objects *seal.Objects
	sound   map[string][]byte
	wal     map[string][]byte // by name of the segment
	fork    pg.LSN
	// hook, if not nil, is asked before each operation of the store.
	hook func(c *mem.Call) error

	badPage uint32 // of base/1/1259, if not 0: its checksum is wrong
	edit    func(*catalog.Head)
}

type (
	chunkMap  = chunk.Map
	packInfos = map[repo.ID]pack.Info
)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// newWorld makes one; spoil, if not nil, changes what is stored after it was hashed.
func newWorld(t testing.TB, secrets []keys.Secret, spoil spoiler) *world {
	t.Helper()
	w := &world{t: t, wal: map[string][]byte{}}
	w.store = mem.New(mem.Options{Hook: func(_ context.Context, c *mem.Call) error {
		if w.hook == nil {
			return nil
		}
		return w.hook(c)
	}})
	w.objects = must[*open.Repository](t)(open.Init(t.Context(), w.store, secrets, hour(5))).Objects
	w.must(catalog.WriteOrigin(t.Context(), w.objects, catalog.Origin{Cluster: place.Cluster, SystemID: place.SystemID, Incarnation: place.Incarnation, CreatedAt: hour(5), Version: 150018, Sizes: sizes}))
	stops := w.archive()

	shared := w.pack(spoil, "base/1/1259", "base/1/1259.1", "base/1/2619")
	w.backup(first, 1, 1, stops[0], false, shared, w.pack(spoil, "PG_VERSION", "base/1/empty"))
	changed := w.pack(spoil, "PG_VERSION", "base/1/16384")
	other := w.again(spoil, shared, "base/1/1259")
	w.backup(second, 1, 4, stops[1], false, other, changed)
	w.backup(third, 2, 6, stops[2], true, w.pack(spoil, "base/1/1259", "PG_VERSION", "pg_wal/000000020000000000000006"))
	w.sound = w.snapshot()
	return w
}

func hour(h float64) time.Time {
	return time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC).Add(time.Duration(h * float64(time.Hour)))
}

// archive makes the WAL, and gives where the three backups stop.
func (w *world) archive() (stops [3]pg.LSN) {
	one := newWAL(place.SystemID, 1, 1)
	one.noop(100, 'a')
	stops[0] = one.at()
	one.switchSegment()
	one.noop(900_000, 'b')
	one.noop(300_000, 'c') // into segment 3
	one.noop(50, 'd')
	one.switchSegment()
	one.noop(100, 'e')
	stops[1] = one.at()
	one.switchSegment()
	one.noop(100, 'f')
	w.fork = one.at()
	two := one.fork(2)
	one.noop(60, 'g')
	two.noop(60, 'h')
	two.switchSegment()
	two.noop(100, 'i')
	stops[2] = two.at()
	two.switchSegment()
	two.noop(100, 'j')
	two.switchSegment()
	for n := uint64(1); n <= 4; n++ {
		w.segment(pg.Segment{Timeline: 1, Number: n}, "", one.segment(n))
	}
	w.segment(pg.Segment{Timeline: 1, Number: 5}, ".partial", one.segment(5))
	for n := uint64(5); n <= 7; n++ {
		w.segment(pg.Segment{Timeline: 2, Number: n}, "", two.segment(n))
	}
	w.small(2, "00000002.history", fmt.Sprintf("1\t%s\tno recovery target specified\n", w.fork))
	w.small(1, "000000010000000000000001.00000028.backup", "START WAL LOCATION: 0/100028 (file 000000010000000000000001)\n")
	return stops
}

func (w *world) segment(s pg.Segment, suffix string, data []byte) {
	name := s.Name(segmentSize) + suffix
	w.wal[name] = data
	scan := must[*walrec.Scanner](w.t)(walrec.NewScanner(walrec.Options{}))
	_, _ = scan.Write(data)
	index, err := scan.Finish()
	w.must(err)
	out := must[*seal.Writer](w.t)(w.objects.Create(w.t.Context(), repo.NewID(), place.WALName(s.Timeline, name), seal.WALSegment))
	enc := must[*chunk.Encoder](w.t)(chunk.NewEncoder(chunk.Zstd))
	for c := range slices.Chunk(data, chunk.MaxPlain) {
		codec, b := enc.Encode(c)
		_, err := out.Frame(codec, b, len(c))
		w.must(err)
	}
	footer := must[[]byte](w.t)(catalog.WALFooter{Size: int64(len(data)), Digest: blake3.Sum256(data), SystemID: place.SystemID, Major: 15, Index: index}.Encode())
	w.must(out.Commit(chunk.None, footer, len(footer)))
}

func (w *world) small(tli pg.Timeline, name, text string) {
	w.must(w.objects.Put(w.t.Context(), place.WALName(tli, name), seal.WALSmall, []byte(text)))
}

// content is that of the data directory's files: a relation of two segment files, with
// zeros between, one whose last page is cut, and others.
func (w *world) content(path string) []byte {
	pages := func(seed byte, first uint32, n int) []byte {
		var all []byte
		for i := range n {
			p := bytes.Repeat([]byte{seed + byte(i), seed, 3, seed}, pageSize/4)
			h := blake3.Sum256([]byte{seed, byte(i)})
			copy(p[4000:], h[:])
			le := binary.LittleEndian
			for at, v := range map[int]uint16{8: 0, 10: 0, 12: 40, 14: 4000, 16: pageSize, 18: pageSize | 4} {
				le.PutUint16(p[at:], v)
			}
			le.PutUint16(p[8:], page.Checksum(p, first+uint32(i)))
			if w.badPage > 0 && first+uint32(i) == w.badPage {
				p[8]++
			}
			all = append(all, p...)
		}
		return all
	}
	zero := make([]byte, pageSize)
	switch path {
	case "PG_VERSION":
		return []byte("15\n")
	case "base/1/1259":
		return slices.Concat(pages(1, 0, 2), zero, pages(7, 3, 1))
	case "base/1/1259.1":
		return slices.Concat(pages(11, 4, 3), zero)
	case "base/1/2619":
		return slices.Concat(pages(21, 0, 3), pages(31, 3, 1)[:100])
	case "base/1/16384":
		return pages(41, 0, 2)
	case "base/1/empty":
		return nil
	}
	return w.wal[strings.TrimPrefix(path, "pg_wal/")]
}

// stored is a pack with the files whose blocks are in it.
type stored struct {
	infos []pack.Info
	files []catalog.File
}

// spoiler changes chunk n of a file after it was hashed.
type spoiler func(path string, n int, plain []byte) []byte

func (w *world) pack(spoil spoiler, paths ...string) (s stored) {
	p := must[*pack.Writer](w.t)(pack.NewWriter(w.objects, place.PackName, chunk.Zstd, 1<<30))
	for _, path := range paths {
		s.files = append(s.files, w.file(p, spoil, path, nil))
	}
	w.must(p.Close())
	s.infos = p.Packs()
	return s
}

// again is what an incremental backup does: the file's first page is stored anew, the
// rest is as before.
func (w *world) again(spoil spoiler, before stored, path string) stored {
	p := must[*pack.Writer](w.t)(pack.NewWriter(w.objects, place.PackName, chunk.S2, 1<<30))
	s := stored{infos: slices.Clone(before.infos), files: slices.Clone(before.files)}
	i := slices.IndexFunc(s.files, func(f catalog.File) bool { return f.Path == path })
	s.files[i] = w.file(p, spoil, path, &s.files[i])
	w.must(p.Close())
	s.infos = append(s.infos, p.Packs()...)
	return s
}

// file stores a file in chunks of two blocks, or if there was one before, only its first
// block. The map of one has chunks of its own.
func (w *world) file(p *pack.Writer, spoil spoiler, path string, before *catalog.File) catalog.File {
	data := w.content(path)
	f := catalog.File{Kind: catalog.Regular, Path: path, Mode: 0o600, ModTime: hour(1), Size: uint64(len(data)), Block: chunk.SliceSize}
	if f.Relation = strings.HasPrefix(path, "base/") && len(data) > 0; f.Relation {
		f.Block = pageSize
	}
	f.Digest.AddData(0, data, int(f.Block))
	n := 0
	add := func(plain []byte, block int) repo.Ref {
		var hashes []uint64
		for b := range slices.Chunk(plain, block) {
			hashes = append(hashes, chunk.BlockHash(b))
		}
		if spoil != nil {
			plain = spoil(path, n, plain)
		}
		n++
		return must[repo.Ref](w.t)(p.Add(w.t.Context(), plain, block, hashes))
	}
	m := chunk.Map{Block: f.Block}
	perChunk := 1
	if f.Relation {
		perChunk = 2
	}
	for k, piece := range slices.Collect(slices.Chunk(data, perChunk*int(f.Block))) {
		var ref repo.Ref
		for slot, b := range slices.Collect(slices.Chunk(piece, int(f.Block))) {
			run := chunk.Run{First: uint64(perChunk*k + slot), Blocks: 1, Zero: bytes.Count(b, []byte{0}) == len(b)}
			if !run.Zero && ref == (repo.Ref{}) {
				ref = add(piece, int(f.Block))
			}
			if !run.Zero {
				run.Ref, run.Slot = ref, uint32(slot)
			}
			m.Runs = append(m.Runs, run)
		}
	}
	if before != nil {
		old := must[chunk.Map](w.t)(chunk.ParseMap(before.Map))
		m.Runs = append(m.Runs[:1:1], old.Runs[1:]...)
	}
	switch b := m.AppendTo(nil); {
	case len(data) == 0:
	case path == "base/1/2619":
		f.MapRefs = []repo.Ref{add(b[:30], chunk.SliceSize), add(b[30:], chunk.SliceSize)}
	default:
		f.Map = b
	}
	return f
}

func (w *world) backup(id string, tli pg.Timeline, segment uint64, stop pg.LSN, withWAL bool, packs ...stored) {
	ctx := w.t.Context()
	var named []catalog.NamedPack
	var entries []catalog.File
	for _, s := range packs {
		for _, i := range s.infos {
			named = append(named, catalog.NamedPack{Info: i, Live: i.Plain})
		}
		entries = append(entries, s.files...)
	}
	for _, dir := range []string{"base", "base/1", "pg_wal"} {
		entries = append(entries, catalog.File{Kind: catalog.Dir, Path: dir, Mode: 0o700, ModTime: hour(1)})
	}
	slices.SortFunc(entries, func(a, b catalog.File) int { return strings.Compare(a.Path, b.Path) })
	h := catalog.Head{FormatVersion: repo.FormatVersion, ID: id, Kind: catalog.Full, Cluster: place.Cluster, SystemID: place.SystemID, Incarnation: place.Incarnation,
		Program: "1.0.0", StartedAt: hour(6), StoppedAt: must[time.Time](w.t)(time.Parse("20060102T150405Z", id[:16])), StartLSN: pg.LSN(segment)*segmentSize + 0x28, StopLSN: stop, Timeline: tli,
		Version: 150018, CatalogVersion: 202209061, Sizes: sizes, Checksums: true, WALIncluded: withWAL}
	table := must[*catalog.FileTable](w.t)(catalog.CreateFiles(ctx, w.objects, place, id))
	for _, e := range entries {
		w.must(table.Add(e))
	}
	var err error
	h.FilesHeader, _, err = table.Commit()
	w.must(err)
	h.PacksHeader, _, err = catalog.WritePacks(ctx, w.objects, place, id, named)
	w.must(err)
	if w.edit != nil {
		w.edit(&h)
	}
	w.must(catalog.WriteHead(ctx, w.objects, h))
}

func (w *world) snapshot() map[string][]byte {
	w.t.Helper()
	all := map[string][]byte{}
	for o, err := range w.store.List(w.t.Context(), "clusters/", store.ListOptions{}) {
		w.must(err)
		all[o.Key] = must[[]byte](w.t)(store.Get(w.t.Context(), w.store, o.Key, 1<<30))
	}
	return all
}

// set puts objects in place, or removes those that are nil.
func (w *world) set(objects map[string][]byte) {
	w.t.Helper()
	for key, data := range objects {
		if data == nil {
			w.must(w.store.Delete(w.t.Context(), key, ""))
			continue
		}
		_, err := store.Put(w.t.Context(), w.store, key, data, store.CreateOptions{})
		w.must(err)
	}
}

// heal undoes what was done to objects.
func (w *world) heal(objects map[string][]byte) {
	w.t.Helper()
	back := map[string][]byte{}
	for key := range objects {
		back[key] = w.sound[key]
	}
	w.set(back)
}

func (w *world) keys() []string { return slices.Sorted(maps.Keys(w.sound)) }

func (w *world) verify(level catalog.VerifyLevel, ids ...string) (Report, error) {
	return Run(w.t.Context(), Options{Objects: w.objects, Place: place, IDs: ids, Level: level, Workers: 2, Clock: clock.System()})
}
