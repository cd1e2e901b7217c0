package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/blake3"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/proof"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/keys"
	"github.com/salvor-dr/salvor/internal/repo/open"
	"github.com/salvor-dr/salvor/internal/repo/pack"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
	"github.com/salvor-dr/salvor/internal/wal/summary"
)

// The repositories in testdata were written by the first release of the format.
// Every later one must read them: they are never written again, but for a change of
// the format before its first release.
var update = flag.Bool("update", false, "write the repositories in testdata anew")

const (
	fixtureKeyFile    = "testdata/repository-v1.key" // of no use for anything else
	fixturePassphrase = "correct horse battery staple"
	fixtureSums       = "testdata/repository-v1.sums"
	fixturePublicKey  = "testdata/repository-v1.pub" // of the key that signed the proof
)

func fixtureDir(encryption string) string { return "testdata/repository-v1-" + encryption }

// fixtureFiles are the regular files of the fixture's data directory: pages that
// compress and that don't, zeros at the beginning, inside and at the end, a short
// last block, a file of one slice, an empty one.
func fixtureFiles() map[string][]byte {
	page := func(b byte, random int) []byte {
		p := bytes.Repeat([]byte{b, b + 1, b + 2, b + 3}, 2048)
		for i := range random {
			h := blake3.Sum256([]byte{b, byte(i)})
			copy(p[i*32:], h[:])
		}
		return p
	}
	zero := make([]byte, 8192)
	return map[string][]byte{
		"PG_VERSION":        []byte("15\n"),
		"base/1/1259":       slices.Concat(page(1, 3), zero, zero, page(2, 3), page(3, 3), zero),
		"base/1/1259_fsm":   slices.Concat(zero, zero),
		"base/1/2619":       slices.Concat(page(4, 0), page(5, 16), page(6, 0)[:100]),
		"base/1/empty":      nil,
		"global/odd =\\#\n": []byte("a name that breaks texts"),
		"pg_tblspc/16400/PG_15_202209061/5/16401": page(7, 0),
	}
}

func fixtureWAL() []byte {
	b := bytes.Repeat([]byte("log "), segSize/4)
	copy(b[300_000:], "somewhere in the second slice")
	return b
}

// fixtureChanges says that WAL of a relation created, and of blocks of another.
func fixtureChanges() summary.Summary {
	s := summary.Summary{Timeline: 1, From: at(1, 0), To: at(2, 0), Map: summary.NewMap()}
	s.Map.Limit(walrec.RelFileLocator{Tablespace: 1663, Database: 5, Number: 16384}, walrec.ForkMain, 0)
	for _, block := range []uint32{3, 4, 70_000} {
		s.Map.Block(walrec.RelFileLocator{Tablespace: 1663, Database: 5, Number: 16385}, walrec.ForkMain, block)
	}
	return s
}

// fixtureProof is of a verification that found something, so that every field is there.
func fixtureProof() Proof {
	v := proofOf(1)
	v.Kind, v.OK, v.Previous.Digest = VerifyProof, false, proof.Digest(nil)
	return v
}

// writeFixture stores the fixture's backup, WAL and proof.
func writeFixture(t *testing.T, objects *seal.Objects, signer *proof.Signer) {
	w := &world{t: t, objects: objects, heads: map[string]Head{}}
	w.origin = Origin{Cluster: testPlace.Cluster, SystemID: testPlace.SystemID, Incarnation: testPlace.Incarnation,
		CreatedAt: minute(0), Version: 150018, Sizes: testSizes}
	w.must(WriteOrigin(t.Context(), objects, w.origin))
	h := Head{ID: b1, Kind: Full, Cluster: testPlace.Cluster, SystemID: testPlace.SystemID, Incarnation: testPlace.Incarnation,
		Program: "1.0.0", StartedAt: minute(1), StoppedAt: minute(2), StartLSN: at(1, 0x28), StopLSN: at(1, 0x8000), Timeline: 1,
		Version: 150018, CatalogVersion: 202209061, Sizes: testSizes, Label: "START WAL LOCATION: 0/100028 (file 000000010000000000000001)\n",
		Tablespaces: []Tablespace{{16400, "fast", "/mnt/fast"}}, Owner: Owner{"postgres", "postgres"}}

	var named []NamedPack
	var entries []File
	for i, path := range slices.Sorted(maps.Keys(fixtureFiles())) {
		codec := []chunk.Codec{chunk.Zstd, chunk.S2, chunk.None}[i%3]
		packs, err := pack.NewWriter(objects, testPlace.PackName, codec, 20_000)
		w.must(err)
		entries = append(entries, storeFile(w, packs, path, fixtureFiles()[path]))
		w.must(packs.Close())
		for _, i := range packs.Packs() {
			named = append(named, NamedPack{i, i.Plain})
		}
	}
	for _, dir := range []string{".", "base", "base/1", "global", "pg_tblspc", "pg_tblspc/16400/PG_15_202209061", "pg_tblspc/16400/PG_15_202209061/5"} {
		entries = append(entries, File{Kind: Dir, Path: dir, Mode: 0o700, ModTime: minute(-5)})
	}
	entries = append(entries, File{Kind: TablespaceLink, Path: "pg_tblspc/16400", Mode: 0o700, ModTime: minute(-5), Location: "/mnt/fast"})
	slices.SortFunc(entries, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	table, err := CreateFiles(t.Context(), objects, testPlace, h.ID)
	w.must(err)
	for _, e := range entries {
		w.must(table.Add(e))
	}
	h.FilesHeader, _, err = table.Commit()
	w.must(err)
	h.PacksHeader, _, err = WritePacks(t.Context(), objects, testPlace, h.ID, named)
	w.must(err)
	w.must(WriteHead(t.Context(), objects, h))
	w.must(objects.Put(t.Context(), testPlace.RunningName(b2), seal.Running, []byte(`{"id": "`+b2+`"}`)))
	w.history(2, historyLine(1, at(1, 0x9000)))
	storeWAL(w, fixtureWAL())
	digest, err := HeadDigest(t.Context(), objects, testPlace, b1)
	w.must(err)
	w.must(putProof(t.Context(), objects, testPlace, fixtureProof(), digest, signer))
}

// storeFile stores a file in chunks of two blocks; where it is, it takes a map in
// pieces for 2619.
func storeFile(w *world, packs *pack.Writer, path string, data []byte) File {
	f := File{Kind: Regular, Path: path, Mode: 0o600, ModTime: minute(-5), Size: uint64(len(data)), Block: chunk.SliceSize}
	if f.Relation = len(data) > 8000; f.Relation {
		f.Block = 8192
	}
	f.Digest.AddData(0, data, int(f.Block))
	m := chunk.Map{Block: f.Block}
	add := func(plain []byte, block int) repo.Ref {
		var hashes []uint64
		for b := range slices.Chunk(plain, block) {
			hashes = append(hashes, chunk.BlockHash(b))
		}
		ref, err := packs.Add(w.t.Context(), plain, block, hashes)
		w.must(err)
		return ref
	}
	first := uint64(0)
	for piece := range slices.Chunk(data, 2*int(f.Block)) {
		ref := repo.Ref{}
		for slot, b := range slices.Collect(slices.Chunk(piece, int(f.Block))) {
			run := chunk.Run{First: first, Blocks: 1, Zero: bytes.Count(b, []byte{0}) == len(b)}
			if !run.Zero {
				if ref == (repo.Ref{}) {
					ref = add(piece, int(f.Block))
				}
				run.Ref, run.Slot = ref, uint32(slot)
			}
			m.Runs = append(m.Runs, run)
			first++
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

func storeWAL(w *world, data []byte) {
	out, err := w.objects.Create(w.t.Context(), repo.NewID(), w.segmentName(1, 1), seal.WALSegment)
	w.must(err)
	enc, err := chunk.NewEncoder(chunk.Zstd)
	w.must(err)
	for c := range slices.Chunk(data, chunk.MaxPlain) {
		codec, b := enc.Encode(c)
		_, err := out.Frame(codec, b, len(c))
		w.must(err)
	}
	footer, err := WALFooter{Size: int64(len(data)), Digest: blake3Of(data), SystemID: testPlace.SystemID, Major: 15,
		Index: index(1, 1, commit(at(1, 0x8800), 700, minute(3))), Changes: summary.Encode(fixtureChanges())}.Encode()
	w.must(err)
	w.must(out.Commit(chunk.None, footer, len(footer)))
}

// makeFixture writes the files in testdata.
func makeFixture(t *testing.T, secrets map[string][]keys.Secret) {
	signer, err := proof.NewSigner()
	if err = errors.Join(err, os.WriteFile(fixturePublicKey, signer.Public().PEM(), 0o644)); err != nil {
		t.Fatal(err)
	}
	for encryption, s := range secrets {
		m := mem.New(mem.Options{})
		r, err := open.Init(t.Context(), m, s, minute(0))
		if err != nil {
			t.Fatal(err)
		}
		writeFixture(t, r.Objects, signer)
		if err := os.RemoveAll(fixtureDir(encryption)); err != nil {
			t.Fatal(err)
		}
		for o, err := range m.List(t.Context(), "", store.ListOptions{}) {
			var data []byte
			if err == nil {
				data, err = store.Get(t.Context(), m, o.Key, 1<<20)
			}
			path := filepath.Join(fixtureDir(encryption), o.Key)
			err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755))
			if err = errors.Join(err, os.WriteFile(path, data, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var sums []byte
	files := fixtureFiles()
	files["pg_wal/000000010000000000000001"] = fixtureWAL()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		line, err := json.Marshal([2]string{path, fmt.Sprintf("%x", blake3.Sum256(files[path]))})
		if err != nil {
			t.Fatal(err)
		}
		sums = append(append(sums, line...), '\n')
	}
	if err := os.WriteFile(fixtureSums, sums, 0o644); err != nil {
		t.Fatal(err)
	}
}

// load reads a repository in testdata into a store.
func load(t *testing.T, dir string) store.Store {
	m := mem.New(mem.Options{})
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		key, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		_, err = store.Put(t.Context(), m, filepath.ToSlash(key), data, store.CreateOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The example of the format's page is what this release writes.
func TestWorkedExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/format/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var id repo.ID
	for i := range id {
		id[i] = byte(i)
	}
	m := mem.New(mem.Options{})
	out, err := sealed(m).Create(t.Context(), id, "example", seal.Head)
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Commit(chunk.None, []byte("hello"), 5); err != nil {
		t.Fatal(err)
	}
	raw, err := store.Get(t.Context(), m, "example", 1000)
	_, example, _ := strings.Cut(string(page), "```hex\n")
	example, _, _ = strings.Cut(example, "```")
	if got := fmt.Sprintf("%x", raw); err != nil || got != strings.Join(strings.Fields(example), "") {
		t.Errorf("%s, %v", got, err)
	}
}

// This release reads what the first one wrote, to the last byte.
func TestFixture(t *testing.T) {
	text, err := os.ReadFile(fixtureKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	identity, err1 := keys.ParseSecret(text)
	passphrase, err2 := keys.ParseSecret([]byte(fixturePassphrase))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if *update {
		makeFixture(t, map[string][]keys.Secret{"encrypted": {identity, passphrase}, "plain": nil})
	}
	for name, c := range map[string]struct {
		dir    string
		secret *keys.Secret
	}{
		"identity":   {"encrypted", &identity},
		"passphrase": {"encrypted", &passphrase},
		"plain":      {"plain", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := open.Open(t.Context(), load(t, fixtureDir(c.dir)), c.secret)
			if err != nil {
				t.Fatal(err)
			}
			checkFixture(t, r.Objects)
		})
	}
}

func checkFixture(t *testing.T, objects *seal.Objects) {
	ctx := t.Context()
	places, err := Places(ctx, objects, testPlace.Cluster)
	if err != nil || len(places) != 1 || places[0].Place() != testPlace {
		t.Fatalf("%+v, %v", places, err)
	}
	life, err := ReadLife(ctx, objects, places[0])
	if err != nil || len(life.Backups) != 1 || len(life.Unreadable) != 0 {
		t.Fatalf("%+v, %v", life, err)
	}
	checkFixtureProof(t, objects)
	h := life.Backups[0]
	if h.ID != b1 || h.Sizes != testSizes || h.Owner.User != "postgres" || h.StopLSN != at(1, 0x8000) {
		t.Errorf("%+v", h)
	}
	infos, err := ReadPacks(ctx, objects, h)
	if err != nil {
		t.Fatal(err)
	}
	packs := pack.NewReader(objects, testPlace.PackName, PackInfos(infos))
	for _, i := range infos {
		if err := packs.Verify(ctx, i.ID, nil); err != nil {
			t.Error(err)
		}
	}
	got := map[string][]byte{}
	err = ReadFiles(ctx, objects, h, func(f File) error {
		if f.Kind == Regular {
			data, err := readFile(ctx, packs, f)
			got[f.Path] = data
			return err
		}
		return nil
	})
	if d := cmp.Diff(slices.Sorted(maps.Keys(fixtureFiles())), slices.Sorted(maps.Keys(got))); err != nil || d != "" {
		t.Fatalf("%v\n%s", err, d)
	}
	for path, want := range fixtureFiles() {
		if !bytes.Equal(got[path], want) {
			t.Errorf("%q has other content", path)
		}
	}
	wal, err := readWAL(ctx, objects, testPlace.WALName(1, "000000010000000000000001"))
	if err != nil || !bytes.Equal(wal, fixtureWAL()) {
		t.Errorf("the WAL has other content: %v", err)
	}
	choice, err := life.Resolve(ctx, objects, Target{Kind: ToXID, XID: 700, Timeline: Current})
	if err != nil || choice.StopLSN != at(1, 0x8800) {
		t.Errorf("%+v, %v", choice, err)
	}
	if line, ok := life.Archive.Find(2); !ok || line.History == nil || line.History.Forks[0] != (pg.Fork{Timeline: 1, At: at(1, 0x9000), Reason: "no recovery target specified"}) {
		t.Errorf("the history has other content: %+v", line)
	}
	footer, err := ReadWALFooter(ctx, objects, testPlace.WALName(1, "000000010000000000000001"))
	if err != nil || footer.Index.Ending != walrec.EndsFull {
		t.Errorf("%+v, %v", footer, err)
	}
	changes, err := summary.Decode(footer.Changes)
	if err != nil || !bytes.Equal(summary.Encode(changes), summary.Encode(fixtureChanges())) {
		t.Errorf("the summary has other content: %+v, %v", changes, err)
	}
}

// checkFixtureProof reads the proof of a fixture's backup, and checks it.
func checkFixtureProof(t *testing.T, objects *seal.Objects) {
	want := fixtureProof()
	want.FormatVersion = repo.FormatVersion
	got, err := FindProof(t.Context(), objects, testPlace.Cluster, want.ID)
	if d := cmp.Diff(want, got.Proof); err != nil || d != "" {
		t.Fatalf("the proof has other content: %v\n%s", err, d)
	}
	text, err := os.ReadFile(fixturePublicKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := proof.ParsePublicKey(text)
	if err == nil {
		_, err = got.Envelope.Check(key)
	}
	if err != nil {
		t.Errorf("the proof's signature: %v", err)
	}
	if digest, err := HeadDigest(t.Context(), objects, testPlace, b1); err != nil || got.HeadDigest != digest {
		t.Errorf("the proof is of a head with digest %s, and not %s: %v", got.HeadDigest, digest, err)
	}
}

// readFile gives a file's content, checked against its digest.
func readFile(ctx context.Context, packs *pack.Reader, f File) ([]byte, error) {
	var s pack.Scratch
	encoded := f.Map
	for _, ref := range f.MapRefs {
		err := packs.Read(ctx, []repo.Ref{ref}, &s, func(_ int, plain []byte) error {
			encoded = append(encoded, plain...)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	data := make([]byte, f.Size)
	if f.Size == 0 {
		return data, nil
	}
	m, err := chunk.ParseMap(encoded)
	if err != nil {
		return nil, err
	}
	for _, r := range m.Runs {
		if r.Zero {
			continue
		}
		err := packs.Read(ctx, []repo.Ref{r.Ref}, &s, func(_ int, plain []byte) error {
			from := uint64(r.Slot) * uint64(m.Block)
			copy(data[r.First*uint64(m.Block):], plain[from:min(from+uint64(r.Blocks)*uint64(m.Block), uint64(len(plain)))])
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var d chunk.Digest
	if d.AddData(0, data, int(f.Block)); d != f.Digest {
		return nil, fmt.Errorf("%q has digest %s, not %s", f.Path, d, f.Digest)
	}
	return data, nil
}
