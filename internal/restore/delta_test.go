package restore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/pack"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

const (
	testSpace   = pg.OID(16390)
	testVersion = "PG_15_202209061"
)

// madeBackup is a backup of made-up files, in memory, as several backups one after the
// other would leave it: the blocks of a file lie in chunks of several packs, between
// blocks that nobody needs any more.
type madeBackup struct {
	tb      testing.TB
	rng     *rand.Rand
	objects *seal.Objects
	head    catalog.Head
	packs   []*pack.Writer
	files   map[string]catalog.File
	spoilt  bool // its file table is not the one that it wrote
}

func makeBackup(tb testing.TB, rng *rand.Rand, generations int) *madeBackup {
	tb.Helper()
	image, err := os.ReadFile("../pg/datadir/testdata/pg15-production.control")
	must(tb, err)
	control, err := datadir.ParseControl(image)
	must(tb, err)
	m := &madeBackup{tb: tb, rng: rng, objects: seal.New(mem.New(mem.Options{}), nil), files: map[string]catalog.File{}}
	m.head = catalog.Head{ID: "20261124T060000Z-abcdef", Cluster: "main", SystemID: control.SystemID, Incarnation: "0123456789abcdef",
		Timeline: 1, Version: 150000, CatalogVersion: control.CatalogVersion, Label: "a label", Owner: catalog.Owner{User: "0"},
		Tablespaces: []catalog.Tablespace{{OID: testSpace, Name: "space", Location: "/nowhere"}}}
	for range generations {
		w, err := pack.NewWriter(m.objects, m.head.Place().PackName, chunk.S2, 256<<10)
		must(tb, err)
		m.packs = append(m.packs, w)
	}
	link := fmt.Sprintf("pg_tblspc/%d", testSpace)
	for _, dir := range []string{"base", "base/1", "base/1-odd", "base/5", "global", "pg_tblspc", "pg_wal", "pg_wal/archive_status", "pg_replslot", link + "/" + testVersion, link + "/" + testVersion + "/5"} {
		m.files[dir] = catalog.File{Kind: catalog.Dir, Path: dir, Mode: 0o700, ModTime: noTime}
	}
	m.files[link] = catalog.File{Kind: catalog.TablespaceLink, Path: link, Mode: 0o700, ModTime: noTime, Location: "/nowhere"}
	m.add("global/pg_control", chunk.SliceSize, image)
	m.add("PG_VERSION", chunk.SliceSize, []byte("15\n"))
	return m
}

// add stores a file.
func (m *madeBackup) add(path string, block int, data []byte) {
	m.tb.Helper()
	f := catalog.File{Kind: catalog.Regular, Path: path, Mode: 0o600, ModTime: noTime, Size: uint64(len(data)), Block: uint32(block), Relation: block != chunk.SliceSize}
	f.Digest.AddData(0, data, block)
	n := (len(data) + block - 1) / block
	runs := make([]chunk.Run, n)
	for g, w := range m.packs {
		var gathered []byte
		var hashes []uint64
		var mine []int
		flush := func() {
			if len(gathered) == 0 {
				return
			}
			ref, err := w.Add(m.tb.Context(), gathered, block, hashes)
			must(m.tb, err)
			for _, i := range mine {
				runs[i].Ref = ref
			}
			gathered, hashes, mine = nil, nil, nil
		}
		for i := range n {
			b := data[i*block : min((i+1)*block, len(data))]
			if runs[i].Blocks != 0 {
				continue
			}
			if chunk.BlockHash(b) == chunk.ZeroHash(len(b)) {
				runs[i] = chunk.Run{First: uint64(i), Blocks: 1, Zero: true}
				continue
			}
			if g < len(m.packs)-1 && m.rng.IntN(len(m.packs)) != 0 {
				continue
			}
			if len(gathered) > 0 && len(gathered)+block > chunk.MaxPlain {
				flush()
			}
			if len(b) == block && block < chunk.SliceSize && m.rng.IntN(3) == 0 { // one that was overwritten since
				old := noiseOf(m.rng, block)
				gathered, hashes = append(gathered, old...), append(hashes, chunk.BlockHash(old))
				if len(gathered)+block > chunk.MaxPlain {
					flush()
				}
			}
			runs[i] = chunk.Run{First: uint64(i), Blocks: 1, Slot: uint32(len(hashes))}
			gathered, hashes, mine = append(gathered, b...), append(hashes, chunk.BlockHash(b)), append(mine, i)
		}
		flush()
	}
	encoded := chunk.Map{Block: uint32(block), Runs: joined(runs)}.AppendTo(nil)
	if f.Map = encoded; len(encoded) > catalog.MaxInlineMap || n > 1 && m.rng.IntN(2) == 0 { // as that of a large file
		f.Map = nil
		for part := range slices.Chunk(encoded, chunk.MaxPlain) {
			ref, err := m.packs[0].Add(m.tb.Context(), part, chunk.SliceSize, []uint64{chunk.BlockHash(part)})
			must(m.tb, err)
			f.MapRefs = append(f.MapRefs, ref)
		}
	}
	m.files[path] = f
}

// joined makes one run of neighbours.
func joined(runs []chunk.Run) (out []chunk.Run) {
	for _, r := range runs {
		if n := len(out); n > 0 && out[n-1].Zero == r.Zero && out[n-1].Ref == r.Ref && (r.Zero || out[n-1].Slot+out[n-1].Blocks == r.Slot) {
			out[n-1].Blocks++
			continue
		}
		out = append(out, r)
	}
	return out
}

func noiseOf(rng *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
	}
	return b[:n]
}

// complete writes the lists.
func (m *madeBackup) complete() {
	m.tb.Helper()
	var named []catalog.NamedPack
	for _, w := range m.packs {
		must(m.tb, w.Close())
		for _, i := range w.Packs() {
			named = append(named, catalog.NamedPack{Info: i})
		}
	}
	table, err := catalog.CreateFiles(m.tb.Context(), m.objects, m.head.Place(), m.head.ID)
	must(m.tb, err)
	for _, path := range slices.Sorted(maps.Keys(m.files)) {
		must(m.tb, table.Add(m.files[path]))
	}
	m.head.FilesHeader, _, err = table.Commit()
	must(m.tb, err)
	m.head.PacksHeader, _, err = catalog.WritePacks(m.tb.Context(), m.objects, m.head.Place(), m.head.ID, named)
	must(m.tb, err)
	if m.spoilt {
		m.head.FilesHeader[0] ^= 1
	}
	must(m.tb, catalog.WriteHead(m.tb.Context(), m.objects, m.head))
}

// options restore it to root/data, with its tablespace in root/space.
func (m *madeBackup) options(root string, delta bool) Options {
	return Options{Choice: catalog.Choice{Backup: m.head}, Objects: m.objects, To: filepath.Join(root, "data"), Action: Promote,
		Tablespaces: map[pg.OID]string{testSpace: filepath.Join(root, "space")}, Incarnation: "fedcba9876543210", Workers: 2, Clock: clock.System(), Delta: delta}
}

// look tells everything below a directory.
func look(tb testing.TB, root string) map[string]string {
	tb.Helper()
	all := map[string]string{}
	must(tb, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, root)
		all[name] = info.Mode().String()
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			all[name] += " " + strings.TrimPrefix(to, root)
			return err
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			all[name] += fmt.Sprintf(" %d %x", len(data), chunk.BlockHash(data))
			return err
		}
		return nil
	}))
	return all
}

// damages are what may have happened to a directory since it was the backup's, with
// some file or directory in it.
var damages = map[string]func(tb testing.TB, rng *rand.Rand, path, outside string){
	"flip": func(tb testing.TB, rng *rand.Rand, path, _ string) {
		data, err := os.ReadFile(path)
		if err != nil || len(data) == 0 {
			return
		}
		data[rng.IntN(len(data))] ^= 1
		must(tb, os.WriteFile(path, data, 0o600))
	},
	"cut": func(tb testing.TB, rng *rand.Rand, path, _ string) {
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			must(tb, os.Truncate(path, rng.Int64N(info.Size()+1)))
		}
	},
	"grow": func(tb testing.TB, rng *rand.Rand, path, _ string) {
		if f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0); err == nil {
			_, err = f.Write(noiseOf(rng, rng.IntN(30000)))
			must(tb, errors.Join(err, f.Close()))
		}
	},
	"remove": func(tb testing.TB, _ *rand.Rand, path, _ string) { must(tb, os.RemoveAll(path)) },
	"directory": func(tb testing.TB, _ *rand.Rand, path, _ string) {
		must(tb, os.RemoveAll(path))
		must(tb, os.MkdirAll(filepath.Join(path, "deep", "er"), 0o755))
	},
	"file": func(tb testing.TB, _ *rand.Rand, path, _ string) {
		must(tb, os.RemoveAll(path))
		must(tb, os.WriteFile(path, []byte("a file"), 0o644))
	},
	"link": func(tb testing.TB, _ *rand.Rand, path, outside string) {
		must(tb, os.RemoveAll(path))
		must(tb, os.Symlink(outside, path))
	},
	"link to a file": func(tb testing.TB, _ *rand.Rand, path, outside string) {
		must(tb, os.RemoveAll(path))
		must(tb, os.Symlink(filepath.Join(outside, "letter"), path))
	},
	"hard link": func(tb testing.TB, _ *rand.Rand, path, outside string) {
		must(tb, os.RemoveAll(path))
		must(tb, os.Link(filepath.Join(outside, "letter"), path))
	},
	"mode": func(tb testing.TB, rng *rand.Rand, path, _ string) {
		if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink == 0 {
			must(tb, os.Chmod(path, []fs.FileMode{0o400, 0o755, 0o700, 0o644}[rng.IntN(4)]))
		}
	},
	"extra": func(tb testing.TB, rng *rand.Rand, path, _ string) {
		extra := path + []string{"-x", ".x", "0", "/x", "_fsm"}[rng.IntN(5)]
		if _, err := os.Lstat(filepath.Dir(extra)); err == nil {
			_ = os.WriteFile(extra, []byte("extra"), 0o600) // below a file it is not possible
		}
	},
	"extra directory": func(_ testing.TB, _ *rand.Rand, path, _ string) { _ = os.MkdirAll(path+"-y/z", 0o755) },
	"old": func(tb testing.TB, rng *rand.Rand, path, _ string) {
		for _, name := range []string{"postmaster.pid", "backup_label", "tablespace_map", "standby.signal", "pg_wal/000000010000000000000003",
			"pg_wal/archive_status/000000010000000000000003.ready", "base/5/pg_internal.init", "base/pgsql_tmp", "pg_replslot/slot", "pg_stat_tmp/x",
			hiddenControl, replacedControl, NoteName + ".new"} {
			root, _, _ := strings.Cut(path, "/delta/")
			p := filepath.Join(root, "delta", "data", name)
			if _, err := os.Lstat(filepath.Dir(p)); err == nil && rng.IntN(2) == 0 {
				_ = os.WriteFile(p, []byte("999999999\n"), 0o600) // there may be a file above it
			}
		}
	},
}

// drawBackup draws some files.
func drawBackup(t *rapid.T, tb testing.TB, rng *rand.Rand) *madeBackup {
	m := makeBackup(tb, rng, rapid.IntRange(1, 4).Draw(t, "generations"))
	for _, path := range []string{"base/1/1259", "base/1/1259_fsm", "base/1-odd/2", "base/5/16384", "base/5/16384.1", "postgresql.conf",
		"postgresql.auto.conf", fmt.Sprintf("pg_tblspc/%d/%s/5/16400", testSpace, testVersion)} {
		block := 8192
		if strings.HasSuffix(path, ".conf") {
			block = chunk.SliceSize
		}
		size := rapid.SampledFrom([]int{0, 1, 8191, 8192, 5 * 8192, 40 * 8192, 100*8192 + 77, 3 * chunk.SliceSize}).Draw(t, "size of "+path)
		if block == chunk.SliceSize {
			size %= 70_000
		}
		data := noiseOf(rng, size)
		for i := 0; i+8192 <= size && block == 8192; i += 8192 {
			if rng.IntN(4) == 0 {
				clear(data[i : i+8192])
			}
		}
		if block == chunk.SliceSize {
			data = []byte(strings.Repeat("# a line\n", size/9))
		}
		m.add(path, block, data)
	}
	m.complete()
	return m
}

// memoryDir makes a directory, in memory where the system has a place for that: a restore
// waits for its disk.
func memoryDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "salvor-delta-")
	if err != nil {
		dir, err = os.MkdirTemp(tb.TempDir(), "")
	}
	must(tb, err)
	return dir
}

// A delta restore onto anything is a restore into nothing, also if it was cut off and
// done again; what lies outside of the directory is never touched.
func TestDeltaIsARestore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		m := drawBackup(rt, t, rng)
		root := memoryDir(t)
		defer os.RemoveAll(root)
		plain, delta, outside := filepath.Join(root, "plain"), filepath.Join(root, "delta"), filepath.Join(root, "outside")
		whole, err := Run(t.Context(), m.options(plain, false))
		must(t, err)
		want := look(t, plain)
		first, err := Run(t.Context(), m.options(delta, true))
		must(t, err)
		if d := cmp.Diff(want, look(t, delta)); d != "" {
			rt.Fatalf("into an empty directory (-plain +delta)\n%s", d)
		}
		if first.Written != whole.Written || first.Fetched != whole.Fetched || first.Restored != whole.Restored {
			rt.Fatalf("into an empty directory %+v, plain %+v", first, whole)
		}

		must(t, os.Mkdir(outside, 0o755))
		must(t, os.WriteFile(filepath.Join(outside, "letter"), []byte("dear"), 0o600))
		damage(rt, t, rng, delta, outside)
		untouched := look(t, outside)
		cutOff(rt, m, delta)
		res, err := Run(t.Context(), m.options(delta, true))
		if err != nil {
			rt.Fatal(err)
		}
		if d := cmp.Diff(want, look(t, delta)); d != "" {
			rt.Fatalf("(-plain +delta)\n%s", d)
		}
		if d := cmp.Diff(untouched, look(t, outside)); d != "" {
			rt.Fatalf("what is outside changed:\n%s", d)
		}
		if res.Restored != whole.Restored || res.Files != whole.Files || res.Kept > res.Compared {
			rt.Fatalf("%+v, plain %+v", res, whole)
		}
	})
}

// damage does some of the damages to the directory.
func damage(rt *rapid.T, tb testing.TB, rng *rand.Rand, root, outside string) {
	names := slices.Sorted(maps.Keys(damages))
	for range rapid.IntRange(0, 8).Draw(rt, "damages") {
		var all []string
		data, space := filepath.Join(root, "data"), filepath.Join(root, "space", testVersion)
		for _, below := range []string{data, space} {
			must(tb, filepath.WalkDir(below, func(path string, _ fs.DirEntry, err error) error {
				switch name := strings.TrimPrefix(path, data); {
				case name == "", name == "/PG_VERSION", name == "/global", name == "/global/pg_control": // without these it is no cluster
				case strings.HasPrefix(name, "/pg_tblspc"), path == space: // and without the link the tablespace is not its own
				case name == "/postmaster.pid": // one that holds no pid is refused: who knows what runs
				default:
					all = append(all, path)
				}
				return err
			}))
		}
		what := rapid.SampledFrom(names).Draw(rt, "damage")
		path := rapid.SampledFrom(all).Draw(rt, "of")
		if strings.HasSuffix(path, "/pg_wal") && strings.HasPrefix(what, "link") {
			continue // a link to a directory stays one
		}
		damages[what](tb, rng, path, outside)
	}
}

// cutOff ends a restore somewhere, or not at all.
func cutOff(rt *rapid.T, m *madeBackup, root string) {
	ctx, cancel := context.WithCancel(m.tb.Context())
	defer cancel()
	o := m.options(root, true)
	after := rapid.Uint64Range(1, 2_000_000).Draw(rt, "cut off after")
	o.Events.Progress = func(done, _ uint64) {
		if done >= after {
			cancel()
		}
	}
	if _, err := Run(ctx, o); err == nil {
		return // it was over before
	} else if !errors.Is(err, context.Canceled) {
		rt.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(o.To, datadir.ControlPath)); err == nil {
		rt.Fatal("cut off, it has a pg_control")
	}
	var refusal *Refusal
	if _, err := Run(m.tb.Context(), m.options(root, false)); !errors.As(err, &refusal) || !strings.Contains(refusal.Hint, "--delta") {
		rt.Fatalf("a plain restore onto it: %v", err)
	}
}

// The exact copy costs the lists and the footers of packs, and one changed page the
// chunk that it is in.
func TestDeltaCost(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	m := makeBackup(t, rng, 1)
	m.add("base/5/16384", 8192, noiseOf(rng, 8<<20))
	m.add("base/5/16385", chunk.SliceSize, noiseOf(rng, 300_000))
	m.complete()
	root := t.TempDir()
	whole, err := Run(t.Context(), m.options(root, false))
	must(t, err)
	again := func() Result {
		t.Helper()
		res, err := Run(t.Context(), m.options(root, true))
		must(t, err)
		return res
	}
	same := again()
	control := uint64(datadir.ControlFileSize)
	if same.Written != control || same.Fetched > whole.Fetched/100 || same.Compared != whole.Restored-control || same.Kept != same.Compared {
		t.Errorf("onto the same %+v, whole %+v", same, whole)
	}
	f, err := os.OpenFile(filepath.Join(root, "data", "base/5/16384"), os.O_WRONLY, 0)
	must(t, err)
	for _, page := range []int64{100, 101, 102, 900} {
		_, err := f.WriteAt([]byte{1, 2, 3}, page*8192+77)
		must(t, err)
	}
	must(t, f.Close())
	few := again()
	if few.Written-same.Written != 4*8192 || few.Fetched-same.Fetched > 3*300_000 {
		t.Errorf("with four other pages %+v, same %+v", few, same)
	}
}

// A map that goes to and fro between chunks does not have them fetched for each run.
func TestFragmentedMap(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(2, 2))
	m := makeBackup(t, rng, 12)
	want := noiseOf(rng, 8<<20+77)
	m.add("base/5/16384", 8192, want)
	m.complete()
	var stored uint64
	for _, w := range m.packs {
		for _, i := range w.Packs() {
			stored += i.Size
		}
	}
	for _, delta := range []bool{false, true} {
		root := t.TempDir()
		res, err := Run(t.Context(), m.options(root, delta))
		must(t, err)
		if got, err := os.ReadFile(filepath.Join(root, "data", "base/5/16384")); err != nil || !bytes.Equal(got, want) {
			t.Errorf("it is not what was stored: %v", err)
		}
		if res.Fetched > stored {
			t.Errorf("%d bytes were fetched of %d that are stored", res.Fetched, stored)
		}
	}
}

// What is not this cluster, nor an unfinished restore, is refused, and nothing happens.
func TestDeltaRefusals(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 3))
	m := makeBackup(t, rng, 1)
	m.complete()
	for name, try := range map[string]struct {
		change func(dir string, o *Options)
		words  []string
	}{
		"a home":     {func(dir string, _ *Options) { must(t, os.RemoveAll(dir)); must(t, os.MkdirAll(dir+"/letters", 0o700)) }, []string{"no data directory", "letters"}},
		"no control": {func(dir string, _ *Options) { must(t, os.Remove(dir+"/global/pg_control")) }, []string{"cannot be told"}},
		"a file":     {func(dir string, _ *Options) { must(t, os.RemoveAll(dir)); must(t, os.WriteFile(dir, nil, 0o600)) }, []string{"not a directory"}},
		"other": {func(_ string, o *Options) {
			o.Choice.Backup.SystemID, o.Choice.Backup.ID = 77, "20261124T060001Z-abcdef"
		}, []string{"another cluster", "77", fmt.Sprint(m.head.SystemID)}},
		"a tablespace of others": {func(dir string, o *Options) {
			o.Tablespaces[testSpace] = filepath.Dir(dir)
		}, []string{"is not empty"}},
		"a tablespace inside": {func(dir string, o *Options) { o.Tablespaces[testSpace] = dir + "/space" }, []string{"inside of the data directory"}},
		"not confirmed": {func(_ string, o *Options) {
			o.Confirm = func(datadir.Control) error { return refuse("", "nobody is there") }
		}, []string{"nobody is there"}},
	} {
		root := t.TempDir()
		_, err := Run(t.Context(), m.options(root, false))
		must(t, err)
		o := m.options(root, true)
		try.change(o.To, &o)
		if o.Choice.Backup.SystemID != m.head.SystemID { // a backup of another cluster, with the same lists
			other := makeBackup(t, rng, 1)
			other.head.SystemID, other.head.ID = o.Choice.Backup.SystemID, o.Choice.Backup.ID
			other.complete()
			o.Choice.Backup, o.Objects = other.head, other.objects
		}
		before := look(t, root)
		var refusal *Refusal
		_, err = Run(t.Context(), o)
		if !errors.As(err, &refusal) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range try.words {
			if !strings.Contains(refusal.Reason, w) {
				t.Errorf("%s: the refusal does not say %q: %s", name, w, refusal.Reason)
			}
		}
		if d := cmp.Diff(before, look(t, root)); d != "" {
			t.Errorf("%s: refused, and yet\n%s", name, d)
		}
	}
}

// With damaged lists the directory stays the database that it is.
func TestDeltaOfDamagedLists(t *testing.T) {
	t.Parallel()
	m := makeBackup(t, rand.New(rand.NewPCG(4, 4)), 1)
	m.complete()
	root := t.TempDir()
	_, err := Run(t.Context(), m.options(root, false))
	must(t, err)
	before := look(t, root)
	bad := makeBackup(t, rand.New(rand.NewPCG(4, 4)), 1)
	bad.spoilt = true
	bad.complete()
	if _, err := Run(t.Context(), bad.options(root, true)); !errors.Is(err, repo.ErrDamaged) {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, look(t, root)); d != "" {
		t.Error(d)
	}
}

// pg_wal may be a link, which stays; of what it leads to the old WAL goes.
func TestDeltaOfLinkedWAL(t *testing.T) {
	t.Parallel()
	m := makeBackup(t, rand.New(rand.NewPCG(5, 5)), 1)
	m.complete()
	root := t.TempDir()
	_, err := Run(t.Context(), m.options(root, false))
	must(t, err)
	wal, to := filepath.Join(root, "data", "pg_wal"), filepath.Join(root, "wal")
	must(t, os.Rename(wal, to))
	must(t, os.Symlink(to, wal))
	must(t, os.WriteFile(filepath.Join(to, "000000010000000000000003"), nil, 0o600))
	must(t, os.RemoveAll(filepath.Join(to, "archive_status")))
	o := m.options(root, true)
	var said string
	o.Events.Warn = func(m string) { said += m }
	plan, err := Check(t.Context(), o)
	must(t, err)
	if plan.Removed < 2 || !slices.Contains(plan.Some, "pg_wal/000000010000000000000003") {
		t.Errorf("%+v", plan)
	}
	_, err = Run(t.Context(), o)
	must(t, err)
	got := look(t, to)
	if len(got) != 2 || got["/archive_status"] == "" {
		t.Errorf("it has %v", got)
	}
	if link, err := os.Readlink(wal); err != nil || link != to || !strings.Contains(said, to) {
		t.Errorf("%s, %v; said: %s", link, err, said)
	}
}
