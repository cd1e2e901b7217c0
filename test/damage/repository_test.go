package damage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"os/user"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
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
	segmentSize = 1 << 20
	pageSize    = 8192
	// walSize is shorter than a segment is, so that fetching one takes no time.
	walSize = 16 << 10

	first, second, third = "20261124T060000Z-000001", "20261124T070000Z-000002", "20261124T080000Z-000003"
)

// The original's place, and that of a takeover, which continues its life.
var (
	original = catalog.Place{Cluster: "orders", SystemID: 7301234567890123456, Incarnation: "0123456789abcdef"}
	takeover = catalog.Place{Cluster: "orders", SystemID: 7301234567890123456, Incarnation: "fedcba9876543210"}
	sizes    = pg.Sizes{Block: pageSize, SegmentBlocks: 131072, WALBlock: 8192, WALSegment: segmentSize}
)

func at(segment uint64, offset pg.LSN) pg.LSN { return pg.LSN(segment)*segmentSize + offset }

func hour(h float64) time.Time {
	return time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC).Add(time.Duration(h * float64(time.Hour)))
}

// originOf gives as much of a place's origin as fetching WAL takes.
func originOf(p catalog.Place) catalog.Origin {
	return catalog.Origin{Cluster: p.Cluster, SystemID: p.SystemID, Incarnation: p.Incarnation, Sizes: sizes}
}

// repository is a sound one, with what is in it.
type repository struct {
	t       testing.TB
	store   *mem.Store
	secret  *keys.Secret
	objects *seal.Objects
	places  []catalog.Place
	targets []catalog.Target // that can be recovered to, in every place
	heads   []catalog.Head
	files   map[string]map[string][]byte // of each backup, by path
	wal     []walFile

	// spoil, if not nil, changes what is stored after it was hashed, as a codec or a
	// machine at fault does.
	spoil func(path string, plain []byte) []byte
}

type walFile struct {
	origin  catalog.Origin
	line    pg.Timeline
	name    string
	segment bool   // and no history
	data    []byte // nil if it is not known
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// build stores a repository with every kind of object. secrets are those of its
// slots, none for one that is not encrypted.
func build(t testing.TB, m *mem.Store, secrets []keys.Secret, spoil func(path string, plain []byte) []byte) *repository {
	t.Helper()
	r := &repository{t: t, store: m, places: []catalog.Place{original, takeover}, files: map[string]map[string][]byte{}, spoil: spoil}
	r.targets = []catalog.Target{
		{}, {Kind: catalog.ToImmediate}, {Kind: catalog.ToTime, Time: hour(6.9)}, {Kind: catalog.ToXID, XID: 42},
		{Kind: catalog.ToLSN, LSN: at(4, 0x100)}, {BackupID: first, Kind: catalog.ToImmediate},
	}
	if len(secrets) > 0 {
		r.secret = &secrets[0]
	}
	r.objects = must[*open.Repository](t)(open.Init(t.Context(), m, secrets, hour(5))).Objects
	o := catalog.Origin{Cluster: original.Cluster, SystemID: original.SystemID, Incarnation: original.Incarnation, CreatedAt: hour(5), Version: 150018, Sizes: sizes}
	r.must(catalog.WriteOrigin(t.Context(), r.objects, o))
	o.Parent, o.ParentTimeline, o.BackupID = original.Incarnation, 1, second
	o.Incarnation, o.CreatedAt = takeover.Incarnation, hour(7.5)
	r.must(catalog.WriteOrigin(t.Context(), r.objects, o))

	shared := r.pack(original, chunk.Zstd, "base/1/1259", "base/1/2619", "global/pg_control")
	r.backup(original, first, 1, at(1, 0x28), hour(6), shared, r.pack(original, chunk.S2, "PG_VERSION", "base/1/empty", "global/odd =\\#\n", "base/1/1259_fsm", "pg_wal/deep"))
	r.backup(original, second, 1, at(3, 0x28), hour(7), shared, r.pack(original, chunk.None, "PG_VERSION", "base/1/small"))
	r.backup(takeover, third, 2, at(5, 0x8028), hour(8), r.pack(takeover, chunk.Zstd, "PG_VERSION", "base/1/1259", "global/pg_control"))

	for n := uint64(1); n <= 4; n++ {
		r.segment(original, 1, n, false)
	}
	r.segment(original, 1, 5, true)
	r.segment(takeover, 2, 5, false)
	r.segment(takeover, 2, 6, false)
	r.small(takeover, 2, "00000002.history", fmt.Sprintf("1\t%s\tno recovery target specified\n", at(5, 0x4000)))
	r.small(original, 1, "000000010000000000000001.00000028.backup", "START WAL LOCATION: 0/100028 (file 000000010000000000000001)\n")
	_, err := catalog.WriteProof(t.Context(), r.objects, original, catalog.Proof{Kind: catalog.RestoreProof, Program: "1.0.0", Host: "db1", CPUs: 2,
		StartedAt: hour(9), Repository: "near", BackupID: second, Size: 1 << 20, CopySeconds: 1, Target: "latest", StartLSN: at(3, 0x28), RecoveredTo: at(5, 0), Replayed: 2 << 20, ReplaySeconds: 1}, hour(9), nil)
	r.must(err)
	r.must(r.objects.Put(t.Context(), original.RunningName("20261124T090000Z-000004"), seal.Running, []byte(`{"id": "20261124T090000Z-000004"}`)))
	return r
}

func (r *repository) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// content is that of the data directory's files: pages that compress and that don't,
// zeros, a short last block, a file of one slice, an empty one.
func content(path string) []byte {
	page := func(b byte, random int) []byte {
		p := bytes.Repeat([]byte{b, b + 1, b + 2, b + 3}, pageSize/4)
		for i := range random {
			h := blake3.Sum256([]byte{b, byte(i)})
			copy(p[i*32:], h[:])
		}
		return p
	}
	zero := make([]byte, pageSize)
	switch path {
	case "PG_VERSION":
		return []byte("15\n")
	case "base/1/1259":
		return slices.Concat(page(1, 2), zero, zero, page(2, 2), page(3, 2), zero)
	case "base/1/1259_fsm":
		return slices.Concat(zero, zero)
	case "base/1/2619":
		return slices.Concat(page(4, 0), page(5, 4), page(6, 0)[:100])
	case "base/1/small":
		return bytes.Repeat([]byte("stored as it is "), 12)
	case "global/odd =\\#\n":
		return []byte("a name that breaks texts")
	case "global/pg_control":
		return control()
	case "base/1/empty", "pg_wal/deep":
		return nil
	}
	panic(path)
}

// control is a pg_control of PostgreSQL 15 (ControlFileData, pg_control.h), as far as
// a restore looks at it.
func control() []byte {
	le := binary.LittleEndian
	b := make([]byte, 8192)
	le.PutUint64(b, uint64(original.SystemID))
	le.PutUint32(b[8:], 1300)
	le.PutUint32(b[12:], 202209061)
	le.PutUint32(b[204:], 8)
	le.PutUint64(b[208:], math.Float64bits(1234567))
	for i, n := range []uint32{sizes.Block, sizes.SegmentBlocks, sizes.WALBlock, sizes.WALSegment} {
		le.PutUint32(b[216+4*i:], n)
	}
	le.PutUint32(b[288:], crc32.Checksum(b[:288], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// stored is a pack with the files whose blocks are in it.
type stored struct {
	infos []pack.Info
	files []catalog.File
}

func (r *repository) pack(p catalog.Place, codec chunk.Codec, paths ...string) stored {
	w := must[*pack.Writer](r.t)(pack.NewWriter(r.objects, p.PackName, codec, 1<<20))
	var s stored
	for _, path := range paths {
		s.files = append(s.files, r.file(w, path))
	}
	r.must(w.Close())
	s.infos = w.Packs()
	return s
}

// file stores a file in chunks of two blocks. The map of one has chunks of its own.
func (r *repository) file(w *pack.Writer, path string) catalog.File {
	data := content(path)
	f := catalog.File{Kind: catalog.Regular, Path: path, Mode: 0o600, ModTime: hour(1), Size: uint64(len(data)), Block: chunk.SliceSize}
	if f.Relation = strings.HasPrefix(path, "base/") && len(data) > pageSize; f.Relation {
		f.Block = pageSize
	}
	f.Digest.AddData(0, data, int(f.Block))
	add := func(plain []byte, block int) repo.Ref {
		var hashes []uint64
		for b := range slices.Chunk(plain, block) {
			hashes = append(hashes, chunk.BlockHash(b))
		}
		if r.spoil != nil {
			plain = r.spoil(path, plain)
		}
		return must[repo.Ref](r.t)(w.Add(r.t.Context(), plain, block, hashes))
	}
	m := chunk.Map{Block: f.Block}
	for n, piece := range slices.Collect(slices.Chunk(data, 2*int(f.Block))) {
		var ref repo.Ref
		for slot, b := range slices.Collect(slices.Chunk(piece, int(f.Block))) {
			run := chunk.Run{First: uint64(2*n + slot), Blocks: 1, Zero: bytes.Count(b, []byte{0}) == len(b)}
			if !run.Zero {
				if ref == (repo.Ref{}) {
					ref = add(piece, int(f.Block))
				}
				run.Ref, run.Slot = ref, uint32(slot)
			}
			m.Runs = append(m.Runs, run)
		}
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

// backup completes a backup of what is in the packs.
func (r *repository) backup(p catalog.Place, id string, tli pg.Timeline, start pg.LSN, stopped time.Time, packs ...stored) {
	ctx := r.t.Context()
	var infos []pack.Info
	var entries []catalog.File
	own := map[string][]byte{}
	for _, s := range packs {
		infos, entries = append(infos, s.infos...), append(entries, s.files...)
		for _, f := range s.files {
			own[f.Path] = content(f.Path)
		}
	}
	for _, dir := range []string{"base", "base/1", "global", "pg_wal"} {
		entries = append(entries, catalog.File{Kind: catalog.Dir, Path: dir, Mode: 0o700, ModTime: hour(1)})
	}
	slices.SortFunc(entries, func(a, b catalog.File) int { return strings.Compare(a.Path, b.Path) })
	me := must[*user.User](r.t)(user.Current())
	h := catalog.Head{FormatVersion: repo.FormatVersion, ID: id, Kind: catalog.Full, Cluster: p.Cluster, SystemID: p.SystemID, Incarnation: p.Incarnation,
		Program: "1.0.0", StartedAt: stopped.Add(-time.Minute), StoppedAt: stopped, StartLSN: start, StopLSN: start + 0x1000, Timeline: tli,
		Version: 150018, CatalogVersion: 202209061, Sizes: sizes, Label: "START WAL LOCATION: " + start.String() + "\n", Owner: catalog.Owner{User: me.Username}}
	table := must[*catalog.FileTable](r.t)(catalog.CreateFiles(ctx, r.objects, p, id))
	for _, e := range entries {
		r.must(table.Add(e))
	}
	var err error
	h.FilesHeader, _, err = table.Commit()
	r.must(err)
	var named []catalog.NamedPack
	for _, i := range infos {
		named = append(named, catalog.NamedPack{Info: i, Live: i.Plain})
	}
	h.PacksHeader, _, err = catalog.WritePacks(ctx, r.objects, p, id, named)
	r.must(err)
	r.must(catalog.WriteHead(ctx, r.objects, h))
	r.heads, r.files[id] = append(r.heads, h), own
}

// segment archives a segment with a commit in it, at a third and at a half.
func (r *repository) segment(p catalog.Place, tli pg.Timeline, n uint64, partial bool) {
	seg := pg.Segment{Timeline: tli, Number: n}
	data := bytes.Repeat([]byte("log "), walSize/4)
	le := binary.LittleEndian
	le.PutUint16(data, 0xD110)
	le.PutUint16(data[2:], 2)
	le.PutUint32(data[4:], uint32(tli))
	le.PutUint64(data[8:], uint64(seg.Start(segmentSize)))
	le.PutUint64(data[24:], uint64(p.SystemID))
	le.PutUint32(data[32:], segmentSize)
	le.PutUint32(data[36:], 8192)
	header := must[walrec.SegmentHeader](r.t)(walrec.ParseSegmentHeader(data))
	commit := func(offset pg.LSN, xid uint32) walrec.Event {
		return walrec.Event{Kind: walrec.Commit, LSN: at(n, offset), EndLSN: at(n, offset+40), XID: xid, Time: hour(6 + float64(n)/4 + float64(xid%10)/100)}
	}
	x := walrec.Index{Header: header, Timeline: tli, From: at(n, 0), To: at(n+1, 0), Ending: walrec.EndsFull,
		Events: []walrec.Event{commit(0x3000, uint32(n*10+1)), commit(0x9000, uint32(n*10+2))}}
	f := walFile{originOf(p), tli, seg.Name(segmentSize), true, data}
	if partial {
		f.name += ".partial"
	}
	ctx := r.t.Context()
	out := must[*seal.Writer](r.t)(r.objects.Create(ctx, repo.NewID(), p.WALName(tli, f.name), seal.WALSegment))
	enc := must[*chunk.Encoder](r.t)(chunk.NewEncoder(chunk.Zstd))
	for c := range slices.Chunk(data, 8<<10) {
		codec, b := enc.Encode(c)
		_, err := out.Frame(codec, b, len(c))
		r.must(err)
	}
	footer := must[[]byte](r.t)(catalog.WALFooter{Size: walSize, Digest: blake3.Sum256(data), SystemID: p.SystemID, Major: 15, Index: x}.Encode())
	r.must(out.Commit(chunk.None, footer, len(footer)))
	r.wal = append(r.wal, f)
}

func (r *repository) small(p catalog.Place, tli pg.Timeline, name, text string) {
	r.must(r.objects.Put(r.t.Context(), p.WALName(tli, name), seal.WALSmall, []byte(text)))
	r.wal = append(r.wal, walFile{originOf(p), tli, name, false, []byte(text)})
}

// snapshot gives every object's bytes.
func (r *repository) snapshot() map[string][]byte {
	r.t.Helper()
	all := map[string][]byte{}
	for o, err := range r.store.List(r.t.Context(), "", store.ListOptions{}) {
		r.must(err)
		all[o.Key] = must[[]byte](r.t)(store.Get(r.t.Context(), r.store, o.Key, 1<<30))
	}
	return all
}

func (r *repository) put(key string, data []byte) {
	r.t.Helper()
	_, err := store.Put(r.t.Context(), r.store, key, data, store.CreateOptions{})
	r.must(err)
}

func (r *repository) remove(key string) {
	r.t.Helper()
	r.must(r.store.Delete(r.t.Context(), key, ""))
}
