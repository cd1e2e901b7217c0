package catalog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/pack"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

var sameFile = cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })}

// drawPath makes names as file systems allow them: any bytes but zero and slash.
func drawPath(t *rapid.T) string {
	odd := rapid.SampledFrom([]string{"base", "16384", "pg tblspc", "a\\b", "x=#[]", "\n\t", "\xff\xfe", "ü", "...", "..a", " ", "pg_xact", "a'b\"c"})
	parts := rapid.SliceOfN(odd, 1, 4).Draw(t, "parts")
	return strings.Join(parts, "/")
}

func drawFile(t *rapid.T, path string) File {
	f := File{Kind: rapid.SampledFrom([]EntryKind{Dir, Regular, TablespaceLink}).Draw(t, "kind"), Path: path,
		Mode:    rapid.Uint32Range(0, 0o7777).Draw(t, "mode"),
		ModTime: time.Unix(rapid.Int64Range(-1<<30, 1<<33).Draw(t, "seconds"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns"))}
	switch f.Kind {
	case Regular:
		f.Size = rapid.Uint64Range(0, 1<<62).Draw(t, "size")
		f.Block = rapid.Uint32Range(1, chunk.SliceSize).Draw(t, "block")
		f.Relation = rapid.Bool().Draw(t, "relation")
		f.Digest = chunk.Digest{Hi: rapid.Uint64().Draw(t, "hi"), Lo: rapid.Uint64().Draw(t, "lo")}
		f.Map = rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "map")
		for range rapid.IntRange(0, 3).Draw(t, "refs") {
			f.MapRefs = append(f.MapRefs, repo.Ref{Pack: repo.ID{rapid.Byte().Draw(t, "pack")}, Ordinal: rapid.Uint32().Draw(t, "ordinal"),
				Offset: rapid.Uint64Range(0, 1<<62).Draw(t, "offset"), Stored: rapid.Uint32Range(0, chunk.MaxFrame).Draw(t, "stored"),
				Plain: rapid.Uint32Range(0, chunk.MaxPlain).Draw(t, "plain")})
		}
	case TablespaceLink:
		f.Location = "/" + drawPath(t)
	}
	return f
}

// table writes a file table, and gives the head that names it.
func (w *world) table(files []File) Head {
	w.t.Helper()
	h := Head{ID: NewBackupID(minute(0)), Cluster: testPlace.Cluster, SystemID: testPlace.SystemID, Incarnation: testPlace.Incarnation}
	table, err := CreateFiles(w.t.Context(), w.objects, testPlace, h.ID)
	w.must(err)
	for _, f := range files {
		w.must(table.Add(f))
	}
	var size uint64
	h.FilesHeader, size, err = table.Commit()
	w.must(err)
	obj, err := w.mem.Stat(w.t.Context(), testPlace.backupName(h.ID, "files"))
	w.must(err)
	if uint64(obj.Size) != size {
		w.t.Errorf("Commit says %d bytes, the store %d", size, obj.Size)
	}
	return h
}

func (w *world) files(h Head) ([]File, error) {
	var got []File
	err := ReadFiles(w.t.Context(), w.objects, h, func(f File) error {
		got = append(got, f)
		return nil
	})
	return got, err
}

func TestFileTable(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		paths := map[string]bool{".": true}
		for range rapid.IntRange(0, 30).Draw(rt, "files") {
			paths[drawPath(rt)] = true
		}
		var want []File
		for p := range paths {
			want = append(want, File{Path: p})
		}
		slices.SortFunc(want, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
		for i := range want {
			want[i] = drawFile(rt, want[i].Path)
		}
		got, err := w.files(w.table(want))
		if d := cmp.Diff(want, got, sameFile); err != nil || d != "" {
			rt.Fatalf("%v\n%s", err, d)
		}
	})
}

// A table that needs many frames comes back whole and in order.
func TestLongFileTable(t *testing.T) {
	w := newWorld(t)
	var want []File
	for i := range 500 {
		want = append(want, File{Kind: Regular, Path: fmt.Sprintf("base/%06d", i), Mode: 0o600, ModTime: minute(0),
			Size: 1, Block: 8192, Map: bytes.Repeat([]byte{byte(i)}, MaxInlineMap)})
	}
	got, err := w.files(w.table(want))
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d entries of %d: %v", len(got), len(want), err)
	}
	for i, f := range got {
		if f.Path != want[i].Path || !bytes.Equal(f.Map, want[i].Map) {
			t.Fatalf("entry %d is %q instead of %q, or has another map", i, f.Path, want[i].Path)
		}
	}
	if n := len(w.raw(testPlace.backupName(w.table(nil).ID, "files"))); n > 1024 {
		t.Errorf("an empty table takes %d bytes", n)
	}
}

func TestFileTableRefuses(t *testing.T) {
	w := newWorld(t)
	table, err := CreateFiles(t.Context(), w.objects, testPlace, NewBackupID(minute(0)))
	w.must(err)
	defer table.Abort()
	w.must(table.Add(File{Kind: Dir, Path: "m"}))
	regular := func(change func(*File)) File {
		f := File{Kind: Regular, Path: "n", Block: 8192, ModTime: minute(0)}
		change(&f)
		return f
	}
	for name, f := range map[string]File{
		"the same path":      {Kind: Dir, Path: "m"},
		"a lower path":       {Kind: Dir, Path: "lost"},
		"no path":            {Kind: Dir},
		"no kind":            {Path: "n"},
		"an absolute path":   {Kind: Dir, Path: "n//etc"},
		"a way out":          {Kind: Dir, Path: "n/../../etc"},
		"a dot":              {Kind: Dir, Path: "n/./o"},
		"a slash at the end": {Kind: Dir, Path: "n/"},
		"a zero byte":        {Kind: Dir, Path: "n\x00"},
		"a long path":        {Kind: Dir, Path: strings.Repeat("n", maxPath+1)},
		"a mode":             {Kind: Dir, Path: "n", Mode: 0o10000},
		"a long location":    {Kind: TablespaceLink, Path: "n", Location: strings.Repeat("n", maxPath+1)},
		"no block size":      regular(func(f *File) { f.Block = 0 }),
		"a large block":      regular(func(f *File) { f.Block = chunk.SliceSize + 1 }),
		"a large map":        regular(func(f *File) { f.Map = make([]byte, MaxInlineMap+1) }),
		"a large reference":  regular(func(f *File) { f.MapRefs = []repo.Ref{{Stored: chunk.MaxFrame + 1}} }),
		"many references":    regular(func(f *File) { f.MapRefs = make([]repo.Ref, 10_000) }),
	} {
		if err := table.Add(f); err == nil {
			t.Errorf("%s was taken", name)
		} else if f.Path != "" && !strings.Contains(err.Error(), "file table") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for path, want := range map[string]bool{".": true, "a/b": true, "/a": false, "..": false, "../a": false, "./a": false, "a..": true, "": false} {
		if validPath(path) != want {
			t.Errorf("%q: %v", path, !want)
		}
	}
}

func TestFileTableDamaged(t *testing.T) {
	w := newWorld(t)
	h := w.table([]File{{Kind: Dir, Path: "."}, {Kind: Dir, Path: "base"}, {Kind: Regular, Path: "base/1", Block: 8192}})
	name := testPlace.backupName(h.ID, "files")
	raw := w.raw(name)
	wantDamage := func(what string, err error) {
		t.Helper()
		var d *repo.Damage
		if !errors.As(err, &d) || d.Object != name {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 8
		w.put(name, bad)
		_, err := w.files(h)
		wantDamage(fmt.Sprintf("byte %d", i), err)
	}
	w.put(name, raw)
	other := h
	other.FilesHeader[0]++
	_, err := w.files(other)
	wantDamage("another table", err)
	stop := errors.New("enough")
	if err := ReadFiles(t.Context(), w.objects, h, func(File) error { return stop }); err != stop {
		t.Errorf("an error of the user: %v", err)
	}
	w.must(w.mem.Delete(t.Context(), name, ""))
	_, err = w.files(h)
	wantDamage("missing", err)

	// Well sealed, and wrong all the same.
	entry := func(path string) []byte { return File{Kind: Dir, Path: path}.appendTo(nil) }
	for what, frames := range map[string][][]byte{
		"a wrong count":      {entry("a"), {7}},
		"no count":           {entry("a"), {}},
		"out of order":       {slices.Concat(entry("b"), entry("a")), {2}},
		"over two frames":    {entry("b"), entry("a"), {2}},
		"a way out":          {entry("../a"), {1}},
		"a length too large": {binary.AppendUvarint(nil, 1<<40), {1}},
		"nothing of a kind":  {{1, 9}, {1}},
	} {
		out, err := w.objects.Create(t.Context(), repo.NewID(), name, seal.Files)
		w.must(err)
		for _, f := range frames[:len(frames)-1] {
			_, err := out.Frame(chunk.None, f, len(f))
			w.must(err)
		}
		last := frames[len(frames)-1]
		w.must(out.Commit(chunk.None, last, len(last)))
		h.FilesHeader = out.HeaderDigest()
		_, err = w.files(h)
		wantDamage(what, err)
		w.must(w.mem.Delete(t.Context(), name, ""))
	}
}

func TestPacks(t *testing.T) {
	w := newWorld(t)
	h := Head{ID: NewBackupID(minute(0)), Cluster: testPlace.Cluster, SystemID: testPlace.SystemID, Incarnation: testPlace.Incarnation}
	want := []NamedPack{{pack.Info{ID: repo.ID{1}, Size: 1 << 40, Header: [32]byte{2}, Chunks: 77, Plain: 1 << 50}, 5}, {pack.Info{ID: repo.ID{3}, Size: 4, Chunks: 1<<32 - 1}, 1<<64 - 1}}
	var err error
	h.PacksHeader, _, err = WritePacks(t.Context(), w.objects, testPlace, h.ID, want)
	w.must(err)
	got, err := ReadPacks(t.Context(), w.objects, h)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	if _, _, err := WritePacks(t.Context(), w.objects, testPlace, h.ID, want); !errors.Is(err, store.ErrExists) {
		t.Errorf("a second list: %v", err)
	}
	name := testPlace.backupName(h.ID, "packs")
	raw := w.raw(name)
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 8
		w.put(name, bad)
		if _, err := ReadPacks(t.Context(), w.objects, h); !errors.Is(err, repo.ErrDamaged) || !strings.Contains(err.Error(), name) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	w.must(w.mem.Delete(t.Context(), name, ""))
	if _, err := ReadPacks(t.Context(), w.objects, h); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("missing: %v", err)
	}
	if _, err := parsePacks("x", make([]byte, packEntry+1)); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("an odd length: %v", err)
	}
}

func FuzzParseFile(f *testing.F) {
	for _, x := range []File{
		{Kind: Dir, Path: "base", Mode: 0o700, ModTime: minute(0)},
		{Kind: TablespaceLink, Path: "pg_tblspc/1", Location: "/mnt"},
		{Kind: Regular, Path: "base/1", Size: 8192, Block: 8192, Relation: true, Map: []byte{1}, MapRefs: []repo.Ref{{Pack: repo.ID{1}, Offset: 112, Stored: 50, Plain: 20}}},
	} {
		b := x.appendTo(nil)
		_, n := binary.Uvarint(b)
		f.Add(b[n:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseFile(b)
		if err != nil {
			return
		}
		again := got.appendTo(nil)
		_, n := binary.Uvarint(again)
		same, err := parseFile(again[n:])
		if d := cmp.Diff(got, same, sameFile); err != nil || d != "" {
			t.Fatalf("%v\n%s", err, d)
		}
	})
}

func FuzzParsePacks(f *testing.F) {
	f.Add(make([]byte, packEntry))
	f.Fuzz(func(t *testing.T, b []byte) {
		packs, err := parsePacks("x", b)
		if (err == nil) != (len(b)%packEntry == 0) || err == nil && len(packs) != len(b)/packEntry {
			t.Fatalf("%d packs of %d bytes: %v", len(packs), len(b), err)
		}
	})
}

func FuzzParseWALFooter(f *testing.F) {
	b, err := WALFooter{Size: segSize, SystemID: 7, Major: 15, Index: index(1, 3, commit(at(3, 0x100), 700, minute(1)))}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	b, err = WALFooter{Size: segSize, SystemID: 7, Major: 15, Index: index(1, 3), Changes: []byte("changes")}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ParseWALFooter(b)
		if err != nil || got.SystemID == 0 {
			return
		}
		again, err := got.Encode()
		if err != nil {
			t.Fatal(err)
		}
		same, err := ParseWALFooter(again)
		if err != nil || same.Size != got.Size || same.Digest != got.Digest || len(same.Index.Events) != len(got.Index.Events) || !bytes.Equal(same.Changes, got.Changes) {
			t.Fatalf("%+v became %+v, %v", got, same, err)
		}
	})
}

func TestWALFooter(t *testing.T) {
	w := newWorld(t)
	name := w.segmentName(1, 3)
	want := index(1, 3, commit(at(3, 0x100), 700, minute(1)), point(at(3, 0x200), "here", minute(2)))
	want.Header.Major = 15
	w.store(name, want)
	got, err := ReadWALFooter(t.Context(), w.objects, name)
	if d := cmp.Diff(want, got.Index); err != nil || d != "" || got.Size != segSize || got.Major != 15 || got.SystemID != testPlace.SystemID {
		t.Errorf("%+v, %v\n%s", got, err, d)
	}
	if _, err := ReadWALFooter(t.Context(), w.objects, w.segmentName(1, 4)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	for _, changes := range []string{"", "c", strings.Repeat("changes", 1000)} {
		got.Changes = []byte(changes)
		good, err := got.Encode()
		w.must(err)
		again, err := ParseWALFooter(good)
		if d := cmp.Diff(want, again.Index); err != nil || d != "" || string(again.Changes) != changes {
			t.Errorf("with %d bytes of changes: %d bytes, %v\n%s", len(changes), len(again.Changes), err, d)
		}
		for n := range good {
			if _, err := ParseWALFooter(good[:n]); err == nil {
				t.Errorf("cut to %d bytes it was read", n)
			}
		}
		if _, err := ParseWALFooter(append(good, 0)); err == nil {
			t.Error("with a byte too many it was read")
		}
	}
}

// A footer is refused whose document promises other changes than there are; one
// without a word of them has none, as the first ones had not.
func TestWALFooterChanges(t *testing.T) {
	rest := append(walrec.EncodeIndex(index(1, 3)), "changes"...)
	for doc, want := range map[string]string{
		`{"size_bytes": 1, "changes_bytes": 7}`:                   "changes",
		`{"size_bytes": 1, "changes_bytes": 6}`:                   "",
		`{"size_bytes": 1, "changes_bytes": 8}`:                   "",
		`{"size_bytes": 1}`:                                       "",
		`{"size_bytes": 1, "changes_bytes": -1}`:                  "",
		`{"size_bytes": 1, "changes_bytes": 9223372036854775807}`: "",
	} {
		b := binary.LittleEndian.AppendUint32(nil, uint32(len(doc)))
		f, err := ParseWALFooter(slices.Concat(b, []byte(doc), rest))
		if (err == nil) != (want != "") || string(f.Changes) != want {
			t.Errorf("%s: %q, %v", doc, f.Changes, err)
		}
	}
	doc := `{"size_bytes": 1}`
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(doc)))
	f, err := ParseWALFooter(slices.Concat(b, []byte(doc), walrec.EncodeIndex(index(1, 3))))
	if err != nil || f.Size != 1 || f.Changes != nil {
		t.Errorf("%+v, %v", f, err)
	}
}

// A stored segment comes back as it was, and is refused if it is not.
func TestWAL(t *testing.T) {
	w := newWorld(t)
	data := bytes.Repeat([]byte("WAL "), segSize/4)
	name := w.segmentName(1, 3)
	write := func(footer WALFooter) error {
		_ = w.mem.Delete(t.Context(), name, "")
		out, err := w.objects.Create(t.Context(), repo.NewID(), name, seal.WALSegment)
		w.must(err)
		enc, err := chunk.NewEncoder(chunk.Zstd)
		w.must(err)
		for c := range slices.Chunk(data, chunk.MaxPlain) {
			codec, b := enc.Encode(c)
			_, err := out.Frame(codec, b, len(c))
			w.must(err)
		}
		b, err := footer.Encode()
		w.must(err)
		w.must(out.Commit(chunk.None, b, len(b)))
		got, err := readWAL(t.Context(), w.objects, name)
		if err == nil && !bytes.Equal(got, data) {
			t.Error("other bytes came back")
		}
		return err
	}
	good := WALFooter{Size: segSize, Digest: blake3Of(data), SystemID: 7, Major: 15, Index: index(1, 3)}
	if err := write(good); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*WALFooter){
		"another size":   func(f *WALFooter) { f.Size-- },
		"another digest": func(f *WALFooter) { f.Digest[0]++ },
	} {
		bad := good
		change(&bad)
		if err := write(bad); !errors.Is(err, repo.ErrDamaged) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func readWAL(ctx context.Context, objects *seal.Objects, name string) ([]byte, error) {
	r, err := OpenWAL(ctx, objects, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(r)
	return b.Bytes(), err
}
