package verify

import (
	"context"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// when calls do once, before an object is opened whose key is one that at wants.
func (w *world) when(at func(key string) bool, do func()) {
	var once sync.Once
	w.hook = func(c *mem.Call) error {
		if c.Op == mem.OpOpen && at(c.Key) {
			once.Do(do)
		}
		return nil
	}
}

func (w *world) remove(keys ...string) {
	for _, k := range keys {
		if err := w.store.Delete(context.Background(), k, ""); err != nil {
			w.t.Error(err)
		}
	}
}

// A backup that goes with its lists and packs, as an expiry removes it, leaves no problem
// behind, whether its packs are found missing before the lists or after. Nor does it hide
// what is damaged of others.
func TestRemovedWhole(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"packs/", "wal/"} {
		for _, level := range []catalog.VerifyLevel{catalog.VerifyObjects, catalog.VerifyData} {
			w := newWorld(t, nil, nil)
			own, _ := w.packOf(first, "PG_VERSION", 0)
			gone := append([]string{catalog.HeadName(place, first), own}, catalog.PartNames(place, first)...)
			w.when(func(key string) bool { return strings.HasPrefix(key, place.Prefix()+at) }, func() { w.remove(gone...) })
			r := must[Report](t)(w.verify(level))
			if !r.OK() || at == "packs/" && len(r.Backups) != 2 {
				t.Errorf("before %s, level %s: of %d backups: %+v", at, level, len(r.Backups), r.all())
			}
		}
	}
	w := newWorld(t, nil, nil)
	own, _ := w.packOf(first, "PG_VERSION", 0)
	w.set(map[string][]byte{own: nil, catalog.FilesName(place, first): nil})
	if r := must[Report](t)(w.verify(catalog.VerifyData)); !r.named(own) {
		t.Errorf("a pack of a backup that is there, without its file table: %+v", r.all())
	}
}

// Segments that are purged after they were listed are not lost, and others are.
func TestPurgedMeanwhile(t *testing.T) {
	t.Parallel()
	for _, purged := range []pg.LSN{6 * segmentSize, 3 * segmentSize} {
		w := newWorld(t, nil, nil)
		gone := []string{catalog.HeadName(place, first)}
		for k := range w.sound {
			if strings.Contains(k, "/wal/00000001/") {
				gone = append(gone, k)
			}
		}
		w.when(func(key string) bool { return strings.Contains(key, "/wal/00000001/") }, func() {
			if err := catalog.WritePurged(context.Background(), w.objects, place, hour(9), map[pg.Timeline]pg.LSN{1: purged}); err != nil {
				t.Error(err)
			}
			w.remove(gone...)
		})
		r := must[Report](t)(w.verify(catalog.VerifyData, first, third))
		want := 0
		if purged < 6*segmentSize {
			want = 3 // segments 3 and 4, and 5 up to the fork
		}
		if len(r.Problems) != want || len(r.Backups) != 1 || !r.Backups[0].OK() {
			t.Errorf("purged to %s: %+v", purged, r.all())
		}
		for _, p := range r.Problems {
			if p.Kind != Missing {
				t.Errorf("purged to %s: %+v", purged, p)
			}
		}
	}
	w := newWorld(t, nil, nil)
	marker := func(key string) bool { return strings.HasSuffix(key, ".backup") }
	for k := range w.sound {
		if marker(k) {
			w.when(marker, func() { w.remove(k) })
		}
	}
	if r := must[Report](t)(w.verify(catalog.VerifyData)); !r.OK() {
		t.Errorf("a backup history file went: %+v", r.all())
	}
}

// What cannot be read of a pack, and not of one chunk, is told also if pages in it do not
// check: those that the backup knew are no problem.
func TestBetweenChunks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.badPage = 5
	w.edit = func(h *catalog.Head) {
		h.Damaged = []catalog.BadPage{{Path: "base/1/1259.1", Block: 1, Why: "bad checksum"}}
	}
	const id = "20261124T090000Z-000004"
	w.backup(id, 1, 4, pg.LSN(4)*segmentSize+0x100, false, w.pack(nil, "base/1/1259.1", "PG_VERSION"))
	key, _ := w.packOf(id, "PG_VERSION", 0)
	told := 0
	for at := range 40 { // each read of the pack fails once
		n := 0
		w.hook = func(c *mem.Call) error {
			if c.Op != mem.OpRead || c.Key != key {
				return nil
			}
			if n++; n == at+1 {
				return syscall.EIO
			}
			return nil
		}
		r, err := w.verify(catalog.VerifyData, id)
		if err != nil {
			t.Fatal(err)
		}
		if n <= at {
			break
		}
		if told++; r.OK() {
			t.Errorf("read %d failed, and nothing is told", at)
		}
	}
	if told == 0 {
		t.Error("the pack was not read")
	}
}
