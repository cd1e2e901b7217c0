package catalog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
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
}
