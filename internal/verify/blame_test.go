package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// packOf gives the object that holds a chunk of a file of a backup, and where it begins.
func (w *world) packOf(id, path string, block uint64) (key string, ref repo.Ref) {
	w.t.Helper()
	h := must[catalog.Head](w.t)(catalog.ReadHead(w.t.Context(), w.objects, place, id))
	v := &verification{Options: Options{Objects: w.objects, Place: place}}
	w.must(v.walk(w.t.Context(), newBackup(h), func(f catalog.File, m chunkMap, _ packInfos) error {
		if r, ok := m.Find(block); f.Path == path && ok {
			key, ref = place.PackName(r.Ref.Pack), r.Ref
		}
		return nil
	}))
	if key == "" {
		w.t.Fatalf("%s has no block %d of %s", id, block, path)
	}
	return key, ref
}

func flipped(data []byte, at int) []byte {
	bad := bytes.Clone(data)
	bad[at] ^= 4
	return bad
}

// Damage belongs to the backups that need what is damaged, and to the files in it.
func TestBlame(t *testing.T) {
	t.Parallel()
	w := newWorld(t, secretsOf(t), nil)
	wal := func(n int) string { return place.WALName(1, fmt.Sprintf("00000001%016X", n)) }
	chunk := func(id, path string, block uint64) (string, []byte) {
		key, ref := w.packOf(id, path, block)
		return key, flipped(w.sound[key], int(ref.Offset)+20)
	}
	shared, sharedBad := chunk(first, "base/1/1259", 0)
	own, ownBad := chunk(first, "PG_VERSION", 0)
	anew, anewBad := chunk(second, "base/1/1259", 0)
	maps, _ := w.packOf(first, "base/1/2619", 0)
	for _, c := range []struct {
		what  string
		key   string
		data  []byte
		kind  string
		ids   string // of the backups that have the problem; "" the archive
		files string
	}{
		{"a chunk that two backups share", shared, sharedBad, Damaged, first + " " + second, "base/1/1259"},
		{"a chunk of one backup", own, ownBad, Damaged, first, "PG_VERSION"},
		{"the page that an incremental backup stored", anew, anewBad, Damaged, second, "base/1/1259"},
		{"a pack of two backups", maps, nil, Missing, first + " " + second, "base/1/1259 base/1/1259.1 base/1/2619"},
		{"a pack's end", own, w.sound[own][:len(w.sound[own])-1], WrongSize, first, "PG_VERSION"},
		{"a file table", catalog.FilesName(place, third), nil, Missing, third, ""},
		{"a head", catalog.HeadName(place, second), flipped(w.sound[catalog.HeadName(place, second)], 300), Damaged, second, ""},
		{"WAL of the first backup", wal(1), nil, WALHole, first, ""},
		{"WAL of the second backup", wal(4), flipped(w.sound[wal(4)], 200), WALDamaged, second, ""},
		{"WAL between backups", wal(3), flipped(w.sound[wal(3)], 200), WALDamaged, "", ""},
		{"WAL between backups that is gone", wal(2), nil, WALHole, "", ""},
	} {
		w.set(map[string][]byte{c.key: c.data})
		report := must[Report](t)(w.verify(catalog.VerifyData))
		w.heal(map[string][]byte{c.key: nil})
		ids, files := map[string]bool{}, map[string]bool{}
		for p, who := range report.all() {
			if p.Object != c.key || p.Kind != c.kind {
				t.Errorf("%s: problem %+v of %v", c.what, p, who)
			}
			for _, id := range who {
				ids[id] = true
			}
			if files[p.File] = true; p.Detail == "" {
				t.Errorf("%s: nothing is said of it: %+v", c.what, p)
			}
		}
		if got := words(ids); got != c.ids {
			t.Errorf("%s: it belongs to %q, not %q", c.what, got, c.ids)
		}
		if got := words(files); got != c.files {
			t.Errorf("%s: the files are %q, not %q", c.what, got, c.files)
		}
	}
}

func words(set map[string]bool) string {
	var all []string
	for w := range set {
		all = append(all, w)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// What was spoiled after it was hashed, as by a codec that is wrong, has right seals, and
// not the hashes in the pack's footer.
func TestSpoiled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, func(path string, n int, plain []byte) []byte {
		if path == "base/1/1259.1" && n == 0 {
			return slices.Concat(plain[pageSize:], plain[:pageSize]) // blocks 0 and 1 of the segment in each other's place
		}
		return plain
	})
	key, _ := w.packOf(first, "base/1/1259.1", 0)
	report := must[Report](t)(w.verify(catalog.VerifyData, first))
	if len(report.Backups[0].Problems) != 1 || report.Backups[0].Problems[0].Object != key || report.Backups[0].Problems[0].Kind != Damaged {
		t.Errorf("%+v", report.all())
	}
}

// A page that did not check when it was stored is a problem, unless the backup said so.
func TestKnownPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	w.badPage = 5 // of the relation's fork: block 1 of its second segment
	w.backup("20261124T090000Z-000004", 1, 4, pg.LSN(4)*segmentSize+0x100, false, w.pack(nil, "base/1/1259.1", "PG_VERSION"))
	report := must[Report](t)(w.verify(catalog.VerifyData, "20261124T090000Z-000004"))
	want := catalog.Problem{Kind: BadPage, File: "base/1/1259.1"}
	got := slices.Clone(report.Backups[0].Problems)
	for i := range got {
		if !strings.HasPrefix(got[i].Detail, "page 1 does not check: bad checksum") || got[i].Object == "" {
			t.Errorf("it says %+v", got[i])
		}
		got[i].Detail, got[i].Object = "", ""
	}
	if d := cmp.Diff([]catalog.Problem{want}, got); d != "" {
		t.Error(d)
	}
	for n, known := range []func(*catalog.Head){
		func(h *catalog.Head) {
			h.Damaged = []catalog.BadPage{{Path: "base/1/1259.1", Block: 1, Why: "bad checksum"}}
		},
		func(h *catalog.Head) { h.InFlight = []catalog.BadPage{{Path: "base/1/1259.1", Block: 1}} },
	} {
		w.edit = known
		id := fmt.Sprintf("20261124T10000%dZ-000005", n)
		w.backup(id, 1, 4, pg.LSN(4)*segmentSize+0x100, false, w.pack(nil, "base/1/1259.1", "PG_VERSION"))
		report := must[Report](t)(w.verify(catalog.VerifyData, id))
		if !report.OK() || report.Backups[0].Known != 1 {
			t.Errorf("known: %+v", report)
		}
	}
}

// Segments that are sound each for itself, and not of one log.
func TestJoins(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		make func(one *walMaker)
		says string
	}{
		"the rest of another record": {func(one *walMaker) {
			one.noop(900_000, 'x')
			one.noop(300_000, 'y')
		}, "checksum"},
		"the rest of a record of another length": {func(one *walMaker) {
			one.noop(900_000, 'b')
			one.noop(290_000, 'c')
		}, "pieces of different"},
		"another record": {func(one *walMaker) {
			one.noop(900_000, 'b')
			one.switchSegment()
			one.noop(100, 'c')
		}, "goes on in this segment"},
	} {
		w := newWorld(t, nil, nil)
		one := newWAL(place.SystemID, 1, 2)
		c.make(one)
		one.switchSegment()
		s := pg.Segment{Timeline: 1, Number: 3}
		key := place.WALName(1, s.Name(segmentSize))
		w.set(map[string][]byte{key: nil})
		w.segment(s, "", one.segment(3))
		report := must[Report](t)(w.verify(catalog.VerifyData))
		if len(report.Problems) != 1 || report.Problems[0].Kind != WALDamaged || report.Problems[0].Object != key || !strings.Contains(report.Problems[0].Detail, c.says) {
			t.Errorf("%s: %+v", what, report.all())
		}
	}
}

// A store that does not answer proves nothing.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	for _, part := range []string{"/packs/", "/head", "/files", "/wal/", "/origin"} {
		w.hook = func(c *mem.Call) error {
			if c.Op == mem.OpOpen && strings.Contains(c.Key, part) {
				return store.ErrUnavailable
			}
			return nil
		}
		if r, err := w.verify(catalog.VerifyData); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v, %+v", part, err, r)
		}
	}
}

// Of a backup that goes while it is verified, nothing is reported; WAL that comes is no
// hole before it.
func TestMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	var gone []string
	key, _ := w.packOf(first, "PG_VERSION", 0)
	gone = append(gone, catalog.HeadName(place, first), key)
	done := false
	w.hook = func(c *mem.Call) error {
		if c.Op == mem.OpOpen && strings.Contains(c.Key, "/packs/") && !done {
			done = true
			for _, k := range gone {
				if err := w.store.Delete(context.Background(), k, ""); err != nil {
					return err
				}
			}
		}
		return nil
	}
	r := must[Report](t)(w.verify(catalog.VerifyData))
	if !r.OK() || len(r.Backups) != 2 {
		t.Errorf("one was removed: %+v", r)
	}

	late := place.WALName(1, "000000010000000000000002")
	w.hook = nil
	w.set(map[string][]byte{late: nil})
	lists := 0
	w.hook = func(c *mem.Call) error {
		if c.Op == mem.OpStat && c.Key == late && lists == 0 {
			lists++
			w.set(map[string][]byte{late: w.sound[late]})
		}
		return nil
	}
	r = must[Report](t)(w.verify(catalog.VerifyData, second, third))
	if !r.OK() {
		t.Errorf("a segment came: %+v", r)
	}
}
