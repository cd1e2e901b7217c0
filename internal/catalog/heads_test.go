package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/cache"
	"github.com/salvor-dr/salvor/internal/store/file"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// ordinaryHead is a head as long as most are.
func ordinaryHead(n int) Head {
	stopped := minute(0).Add(time.Duration(n) * time.Hour)
	return Head{
		ID: stopped.UTC().Format("20060102T150405Z") + fmt.Sprintf("-%06x", n), Kind: Incremental,
		Cluster: testPlace.Cluster, SystemID: testPlace.SystemID, Incarnation: testPlace.Incarnation,
		ParentID: "20261124T060000Z-000000", Program: "1.0.0", StartedAt: stopped.Add(-time.Minute), StoppedAt: stopped,
		StartLSN: at(uint64(n)+1, 0x28), StopLSN: at(uint64(n)+1, 0x8000), Timeline: 1, Seconds: 60.125,
		Version: 150018, CatalogVersion: 202209061, Sizes: testSizes, Checksums: true,
		Label: "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n" +
			"BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-11-24 06:00:00 UTC\nLABEL: salvor\nSTART TIMELINE: 1\n",
		Owner:      Owner{"postgres", "postgres"},
		Needs:      Needs{MaxConnections: 100, MaxWorkers: 8, MaxWALSenders: 10, MaxLocksPerXact: 64, PreloadLibraries: "pg_stat_statements"},
		Slots:      []Slot{{Name: "standby_b", Kind: "physical"}, {Name: "salvor", Kind: "physical"}},
		Collations: []Collation{{"orders", "libc", "default", "2.36"}, {"orders", "icu", "de-x-icu", "153.120"}, {"postgres", "libc", "default", "2.36"}},
		Size:       4 << 40, Read: 1 << 38, Stored: 1 << 36, PagesRead: 1 << 25, PagesStored: 1 << 23, FileCount: 300_000,
		FilesHeader: Hash{1, byte(n)}, PacksHeader: Hash{2, byte(n)},
	}
}

func writeHeads(t testing.TB, objects *seal.Objects, n int) {
	t.Helper()
	for i := range n {
		if err := WriteHead(t.Context(), objects, ordinaryHead(i)); err != nil {
			t.Fatal(err)
		}
	}
}

// delayed is a store in memory whose reads take a time, and count how many are under
// way at most.
func delayed(d *time.Duration, most *atomic.Int32) *mem.Store {
	var now atomic.Int32
	return mem.New(mem.Options{Hook: func(ctx context.Context, c *mem.Call) error {
		if c.Op != mem.OpOpen || *d == 0 {
			return nil
		}
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		select {
		case <-time.After(*d):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		return nil
	}})
}

// Heads wait for the store together, but not all at once, and come in their order.
func TestHeadsAreReadTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 5 * headsAtOnce
		var delay time.Duration
		var most atomic.Int32
		m := delayed(&delay, &most)
		writeHeads(t, sealed(m), n)
		delay = 20 * time.Millisecond
		began := time.Now()
		heads, unreadable, err := ReadHeads(t.Context(), sealed(m), testPlace)
		if err != nil || len(unreadable) > 0 || len(heads) != n {
			t.Fatal(len(heads), unreadable, err)
		}
		for i, h := range heads {
			if h.ID != ordinaryHead(i).ID {
				t.Fatalf("head %d is %s", i, h.ID)
			}
		}
		if took := time.Since(began); took != n/headsAtOnce*delay || most.Load() != headsAtOnce {
			t.Errorf("%d heads took %v, with %d reads at once", n, took, most.Load())
		}
	})
}

// One head that cannot be read is told apart; a store that fails fails it all.
func TestHeadsUnreadable(t *testing.T) {
	w := newWorld(t)
	writeHeads(t, w.objects, 40)
	for _, i := range []int{3, 17} {
		name := HeadName(testPlace, ordinaryHead(i).ID)
		b := w.raw(name)
		b[len(b)/2] ^= 1
		w.put(name, b)
	}
	heads, unreadable, err := ReadHeads(t.Context(), w.objects, testPlace)
	if err != nil || len(heads) != 38 || len(unreadable) != 2 {
		t.Fatal(len(heads), unreadable, err)
	}
	for i, n := range []int{3, 17} {
		if want := "backup " + ordinaryHead(n).ID; !errors.Is(unreadable[i], repo.ErrDamaged) || unreadable[i].Error()[:len(want)] != want {
			t.Errorf("%v", unreadable[i])
		}
		if slices.ContainsFunc(heads, func(h Head) bool { return h.ID == ordinaryHead(n).ID }) {
			t.Errorf("head %d is damaged, and listed", n)
		}
	}

	broken := mem.New(mem.Options{Hook: func(_ context.Context, c *mem.Call) error {
		if c.Op == mem.OpOpen && c.Key == HeadName(testPlace, ordinaryHead(30).ID) {
			return store.ErrUnavailable
		}
		return nil
	}})
	writeHeads(t, sealed(broken), 40)
	if heads, _, err := ReadHeads(t.Context(), sealed(broken), testPlace); !errors.Is(err, store.ErrUnavailable) || heads != nil {
		t.Errorf("a store that fails: %d heads, %v", len(heads), err)
	}
}

// A list has the same backups, in the same order, with all that is shown of them.
func TestListHeads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	writeHeads(t, w.objects, 40)
	flip(w, HeadName(testPlace, ordinaryHead(3).ID))
	heads, bad, err := ReadHeads(t.Context(), w.objects, testPlace)
	w.must(err)
	listed, alsoBad, err := ListHeads(t.Context(), w.objects, testPlace)
	w.must(err)
	if len(heads) != 39 || len(bad) != 1 || len(listed) != len(heads) || len(alsoBad) != 1 {
		t.Fatalf("%d heads and %v, %d listed and %v", len(heads), bad, len(listed), alsoBad)
	}
	for i, h := range heads {
		if heads[i].Label == "" || listed[i].Label != "" || listed[i].Needs != (Needs{}) {
			t.Errorf("read %+v, listed %+v", heads[i], listed[i])
		}
		h.Label, h.TablespaceMap, h.Tablespaces, h.Slots, h.Collations, h.Databases = "", "", nil, nil, nil, nil
		h.Owner, h.Needs = Owner{}, Needs{}
		if d := cmp.Diff(h, *listed[i]); d != "" {
			t.Error(d)
		}
	}
}

// keptIn gives access to a store with copies of heads in a directory, for one run of a
// program. A cache that fails fails the test.
func keptIn(t testing.TB, st store.Store, dir string) (objects *seal.Objects, end func()) {
	c := cache.New(st, cache.Options{Dir: dir, Name: "repository", Group: KeptUnder, Failed: func(err error) { t.Error(err) }})
	return seal.New(c, oneKey{}), func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A listing takes heads from the cache, and never the word of a damaged copy.
func TestHeadsAreKept(t *testing.T) {
	const n = 40
	var opens atomic.Int32
	m := mem.New(mem.Options{Hook: func(_ context.Context, c *mem.Call) error {
		if c.Op == mem.OpOpen {
			opens.Add(1)
		}
		return nil
	}})
	writeHeads(t, seal.New(m, oneKey{}), n)
	dir := t.TempDir()
	read := func(wantOpens, wantHeads, wantBad int) {
		t.Helper()
		opens.Store(0)
		objects, end := keptIn(t, m, dir)
		defer end()
		heads, bad, err := ReadHeads(t.Context(), objects, testPlace)
		if err != nil || len(heads) != wantHeads || len(bad) != wantBad || int(opens.Load()) != wantOpens {
			t.Fatalf("%d heads, %v, %v, %d opened", len(heads), bad, err, opens.Load())
		}
		for _, h := range heads {
			if n, err := strconv.ParseInt(h.ID[len(h.ID)-6:], 16, 0); err != nil || h.Stored != ordinaryHead(int(n)).Stored || h.StopLSN != ordinaryHead(int(n)).StopLSN {
				t.Errorf("head %s: %v", h.ID, err)
			}
		}
	}
	read(n, n, 0)
	read(0, n, 0)

	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil || bytes.Contains(data, []byte("START WAL")) {
		t.Fatalf("the copies are not sealed: %v", err)
	}
	raw, err := store.Get(t.Context(), m, HeadName(testPlace, ordinaryHead(7).ID), 1<<20)
	at := bytes.Index(data, raw)
	if err != nil || at < 0 {
		t.Fatalf("no copy of head 7: %v", err)
	}
	for _, i := range []int{0, 8, 10, 16, 108, 112, len(raw) / 2, len(raw) - 20, len(raw) - 1} {
		data[at+i] ^= 1
		if err := os.WriteFile(files[0], data, 0o600); err != nil {
			t.Fatal(err)
		}
		data[at+i] ^= 1
		read(1, n, 0)
		read(0, n, 0)
	}

	// Damage of the repository is told: by the list when the object is another one, and
	// by who reads the head again in any case.
	name := HeadName(testPlace, ordinaryHead(3).ID)
	raw, err = store.Get(t.Context(), m, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	objects, end := keptIn(t, m, dir)
	defer end()
	heads, _, err := ReadHeads(t.Context(), objects, testPlace)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-40] ^= 1
	if _, err := store.Put(t.Context(), m, name, raw, store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Reread(t.Context(), objects, heads[3]); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("read again: %v", err)
	}
	if h, err := Reread(t.Context(), objects, heads[4]); err != nil || h.ID != heads[4].ID {
		t.Errorf("read again: %v", err)
	}
	read(1, n-1, 1)
}

func TestKeptUnder(t *testing.T) {
	id := ordinaryHead(1).ID
	for key, want := range map[string]string{
		HeadName(testPlace, id):               testPlace.BackupsPrefix(),
		testPlace.backupName(id, "files"):     "",
		testPlace.backupName("notes", "head"): "",
		testPlace.RunningName(id):             "",
		testPlace.proofName(id):               testPlace.proofsPrefix(),
		testPlace.proofName("notes"):          "",
		"head":                                "",
		"":                                    "",
		id + "/head":                          "",
	} {
		if got := KeptUnder(key); got != want {
			t.Errorf("%q: %q", key, got)
		}
	}
}

// oneKey is a ring of one key, so that a benchmark pays for the seals.
type oneKey [32]byte

func (k oneKey) Current() (repo.ID, [32]byte)              { return repo.ID{1}, k }
func (k oneKey) Lookup(id repo.ID) (key [32]byte, ok bool) { return k, id == repo.ID{1} }

// spread writes the objects of a store as files.
func spread(b *testing.B, from store.Store, dir string) {
	b.Helper()
	for o, err := range from.List(b.Context(), "", store.ListOptions{}) {
		var data []byte
		if err == nil {
			data, err = store.Get(b.Context(), from, o.Key, 1<<20)
		}
		path := filepath.Join(dir, o.Key)
		if err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o750)); err == nil {
			err = os.WriteFile(path, data, 0o640)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHeads10000 lists ten thousand backups: of a store in memory, of a
// directory, and of an object store 20 ms away.
func BenchmarkHeads10000(b *testing.B) {
	const n = 10_000
	list := func(b *testing.B, objects *seal.Objects) {
		b.Helper()
		b.ReportAllocs()
		for b.Loop() {
			heads, unreadable, err := ReadHeads(b.Context(), objects, testPlace)
			if err != nil || len(heads) != n || len(unreadable) > 0 {
				b.Fatal(len(heads), unreadable, err)
			}
		}
	}
	var delay time.Duration
	var most atomic.Int32
	far := delayed(&delay, &most)
	writeHeads(b, seal.New(far, oneKey{}), n)
	b.Run("memory", func(b *testing.B) { list(b, seal.New(far, oneKey{})) })
	b.Run("directory", func(b *testing.B) {
		dir := b.TempDir()
		spread(b, far, dir)
		st, err := file.Open(dir, file.Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer st.Close()
		list(b, seal.New(st, oneKey{}))
	})
	b.Run("20ms away", func(b *testing.B) {
		delay = 20 * time.Millisecond
		list(b, seal.New(far, oneKey{}))
	})
	b.Run("20ms away, kept", func(b *testing.B) {
		dir := b.TempDir()
		process := func() {
			objects, end := keptIn(b, far, dir)
			defer end()
			if heads, _, err := ReadHeads(b.Context(), objects, testPlace); err != nil || len(heads) != n {
				b.Fatal(len(heads), err)
			}
		}
		delay = 0
		process() // fills the cache
		delay = 20 * time.Millisecond
		b.ReportAllocs()
		for b.Loop() {
			process()
		}
	})
}
