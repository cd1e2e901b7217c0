package expire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	"github.com/salvor-dr/salvor/internal/repo/pack"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// fatal is what a test and a property have in common.
type fatal interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// depot is a repository of one cluster, whose process can be killed.
type depot struct {
	t     fatal
	st    *mem.Store
	o     Options
	left  atomic.Int64 // operations until the process is killed; negative: it lives
	packs []pack.Info
	made  map[string][]int // backups, and the packs that they name
	cut   map[int]bool     // packs that a backup adopts that was cut off
	shape func(*catalog.Head)
}

var errKilled = errors.New("killed")

func newDepot(t fatal) *depot {
	t.Helper()
	d := &depot{t: t, made: map[string][]int{}, cut: map[int]bool{}}
	d.left.Store(-1)
	d.st = mem.New(mem.Options{Now: clock.System().Now, Hook: func(context.Context, *mem.Call) error {
		for {
			n := d.left.Load()
			switch {
			case n == 0:
				return errKilled
			case n < 0 || d.left.CompareAndSwap(n, n-1):
				return nil
			}
		}
	}})
	locks, err := lock.New(d.st, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	d.o = Options{Objects: seal.New(d.st, nil), Locks: locks, Clock: clock.System(),
		Place: catalog.Place{Cluster: "main", SystemID: 7, Incarnation: "0123456789abcdef"}}
	return d
}

func (d *depot) addPack() {
	d.t.Helper()
	w, err := pack.NewWriter(d.o.Objects, d.o.Place.PackName, chunk.None, pack.DefaultSize)
	if err != nil {
		d.t.Fatal(err)
	}
	plain := []byte(fmt.Sprintf("the content of pack %d", len(d.packs)))
	if _, err := w.Add(context.Background(), plain, chunk.SliceSize, []uint64{chunk.BlockHash(plain)}); err != nil {
		d.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		d.t.Fatal(err)
	}
	d.packs = append(d.packs, w.Packs()...)
}

// addBackup makes a backup that names packs; without a head it was cut off.
func (d *depot) addBackup(head bool, names ...int) string {
	d.t.Helper()
	ctx := context.Background()
	id := catalog.NewBackupID(time.Date(2026, 11, 24, 6, len(d.made), 0, 0, time.UTC))
	h := catalog.Head{ID: id, Kind: catalog.Full, Cluster: d.o.Place.Cluster, SystemID: d.o.Place.SystemID, Incarnation: d.o.Place.Incarnation,
		StoppedAt: time.Date(2026, 11, 24, 6, len(d.made), 30, 0, time.UTC), Timeline: 1, Sizes: pg.Sizes{Block: 8192, WALBlock: 8192, SegmentBlocks: 131072, WALSegment: 16 << 20}}
	var infos []catalog.NamedPack
	for _, n := range names {
		infos = append(infos, catalog.NamedPack{Info: d.packs[n], Live: d.packs[n].Plain})
	}
	table, err := catalog.CreateFiles(ctx, d.o.Objects, d.o.Place, id)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := table.Add(catalog.File{Kind: catalog.Dir, Path: "base", Mode: 0o700}); err != nil {
		d.t.Fatal(err)
	}
	if h.FilesHeader, _, err = table.Commit(); err != nil {
		d.t.Fatal(err)
	}
	if h.PacksHeader, _, err = catalog.WritePacks(ctx, d.o.Objects, d.o.Place, id, infos); err != nil {
		d.t.Fatal(err)
	}
	if !head {
		mark := catalog.Running{ID: id}
		for _, n := range names {
			mark.Adopts, d.cut[n] = append(mark.Adopts, d.packs[n].ID), true
		}
		if err := catalog.WriteRunning(ctx, d.o.Objects, d.o.Place, mark); err != nil {
			d.t.Fatal(err)
		}
		return id
	}
	if d.shape != nil {
		d.shape(&h)
	}
	if err := catalog.WriteHead(ctx, d.o.Objects, h); err != nil {
		d.t.Fatal(err)
	}
	d.made[id] = names
	return id
}

// kill ends the process, as far as a test can: its lease stays behind, and is
// removed here, since the test's process lives on.
func (d *depot) kill() {
	d.t.Helper()
	d.left.Store(-1)
	for _, o := range d.list("locks/") {
		if err := d.st.Delete(context.Background(), o, ""); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *depot) list(prefix string) []string {
	d.t.Helper()
	var all []string
	for o, err := range d.st.List(context.Background(), prefix, store.ListOptions{}) {
		if err != nil {
			d.t.Fatal(err)
		}
		all = append(all, o.Key)
	}
	return all
}

// whole fails unless every backup that has a head has all that it names.
func (d *depot) whole() {
	d.t.Helper()
	ctx := context.Background()
	heads, err := catalog.Backups(ctx, d.o.Objects, d.o.Place)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, h := range heads {
		if err := catalog.ReadFiles(ctx, d.o.Objects, h, func(catalog.File) error { return nil }); err != nil {
			d.t.Fatalf("backup %s: %v", h.ID, err)
		}
		infos, err := catalog.ReadPacks(ctx, d.o.Objects, h)
		if err != nil {
			d.t.Fatalf("backup %s: %v", h.ID, err)
		}
		for _, i := range infos {
			if _, err := d.st.Stat(ctx, d.o.Place.PackName(i.ID)); err != nil {
				d.t.Fatalf("backup %s: %v", h.ID, err)
			}
		}
	}
}

// gone fails if there is anything left of a backup that was deleted, but for what
// others need or adopt.
func (d *depot) gone(id string) {
	d.t.Helper()
	needed := map[int]bool{}
	for other, names := range d.made {
		if _, err := d.st.Stat(context.Background(), catalog.HeadName(d.o.Place, other)); err != nil {
			continue
		}
		for _, n := range names {
			needed[n] = true
		}
	}
	keys := append(catalog.PartNames(d.o.Place, id), catalog.HeadName(d.o.Place, id))
	for _, n := range d.made[id] {
		if !needed[n] && !d.cut[n] {
			keys = append(keys, d.o.Place.PackName(d.packs[n].ID))
		}
	}
	for _, k := range keys {
		if _, err := d.st.Stat(context.Background(), k); !errors.Is(err, store.ErrNotFound) {
			d.t.Fatalf("after backup %s was deleted there is %s (%v)", id, k, err)
		}
	}
}

// exactly fails unless the place holds these backups and nothing else of backups.
func (d *depot) exactly(ids []string) {
	d.t.Helper()
	var want []string
	for _, id := range ids {
		want = append(want, catalog.HeadName(d.o.Place, id))
		want = append(want, catalog.PartNames(d.o.Place, id)...)
		for _, n := range d.made[id] {
			want = append(want, d.o.Place.PackName(d.packs[n].ID))
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	if got := d.list(d.o.Place.Prefix()); !slices.Equal(got, want) {
		d.t.Fatalf("there is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Whatever backups share, and wherever a removal is killed, those that are kept stay
// whole, and the next removal finishes.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := newDepot(t)
		packs := rapid.IntRange(1, 6).Draw(t, "packs")
		for range packs {
			d.addPack()
		}
		some := rapid.SliceOfNDistinct(rapid.IntRange(0, packs-1), 0, packs, rapid.ID[int])
		var ids []string
		for range rapid.IntRange(2, 5).Draw(t, "backups") {
			ids = append(ids, d.addBackup(true, some.Draw(t, "names")...))
		}
		for range rapid.IntRange(0, 2).Draw(t, "cut off") {
			d.addBackup(false, some.Draw(t, "names")...)
		}
		for len(ids) > 1 && rapid.IntRange(0, 3).Draw(t, "go on") > 0 {
			i := rapid.IntRange(0, len(ids)-1).Draw(t, "delete")
			d.left.Store(int64(rapid.IntRange(0, 60).Draw(t, "killed after")))
			_, err := Delete(context.Background(), d.o, ids[i])
			d.kill()
			d.whole()
			if err == nil {
				d.gone(ids[i])
				ids = slices.Delete(ids, i, i+1)
				continue
			}
			if _, err := d.st.Stat(context.Background(), catalog.HeadName(d.o.Place, ids[i])); errors.Is(err, store.ErrNotFound) {
				ids = slices.Delete(ids, i, i+1) // it is gone, with leftovers
			}
		}
		d.left.Store(int64(rapid.IntRange(0, 60).Draw(t, "sweep killed after")))
		if _, err := Sweep(context.Background(), d.o, 0); err == nil {
			d.left.Store(-1)
			d.exactly(ids)
		}
		d.kill()
		d.whole()
		if _, err := Sweep(context.Background(), d.o, 0); err != nil {
			t.Fatal(err)
		}
		d.exactly(ids)
		if left := d.list("locks/"); len(left) > 0 {
			t.Fatalf("locks are left: %q", left)
		}
	})
}

func TestDelete(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	d.addPack()
	d.addPack()
	first, second := d.addBackup(true, 0), d.addBackup(true, 0, 1)
	if _, err := Delete(t.Context(), d.o, "20260101T000000Z-000000"); !errors.Is(err, catalog.ErrNoBackup) {
		t.Errorf("a backup that is not there: %v", err)
	}
	gone, err := Delete(t.Context(), d.o, second)
	if err != nil || gone.Objects != 4 || gone.Bytes == 0 { // head, file table, pack list, a pack
		t.Errorf("removed %+v, %v", gone, err)
	}
	d.exactly([]string{first})
	var last *LastBackup
	if _, err := Delete(t.Context(), d.o, first); !errors.As(err, &last) || last.ID != first {
		t.Errorf("the last backup: %v", err)
	}
	d.exactly([]string{first})
	d.o.Last = true
	if _, err := Delete(t.Context(), d.o, first); err != nil {
		t.Error(err)
	}
	d.exactly(nil)
}

// While a backup runs, another can be deleted. What no backup names is not touched:
// it may be the running one's.
func TestBesideBackup(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	for range 4 {
		d.addPack()
	}
	first, second := d.addBackup(true, 0, 1), d.addBackup(true, 1, 2)
	d.addBackup(false, 3)
	lease, _, err := d.o.Locks.Acquire(t.Context(), d.o.Place.BackupLock(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Delete(t.Context(), d.o, first); err != nil {
		t.Errorf("Delete: %v", err)
	}
	d.gone(first)
	d.whole()
	before := d.list(d.o.Place.Prefix())
	var held *lock.Held
	if _, err := Sweep(t.Context(), d.o, 0); !errors.As(err, &held) {
		t.Errorf("Sweep: %v", err)
	}
	if _, err := SweepKilled(t.Context(), d.o, 0); !errors.As(err, &held) {
		t.Errorf("SweepKilled: %v", err)
	}
	if after := d.list(d.o.Place.Prefix()); !slices.Equal(before, after) {
		t.Errorf("of %q there is left %q", before, after)
	}
	if err := lease.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if gone, err := SweepKilled(t.Context(), d.o, time.Hour); err != nil || gone.Objects != 0 {
		t.Errorf("within the grace period %+v was removed: %v", gone, err)
	}
	if gone, err := SweepKilled(t.Context(), d.o, 0); err != nil || gone.Objects != 4 { // file table, pack list, pack, mark
		t.Errorf("of the killed one %+v was removed: %v", gone, err)
	}
	d.exactly([]string{second})
	if gone, err := SweepKilled(t.Context(), d.o, 0); err != nil || gone.Objects != 0 {
		t.Errorf("once more: %+v, %v", gone, err)
	}
}

// The parent of a backup that is being made stays; once that was cut off, it may go.
func TestParentInUse(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	d.addPack()
	parent, other := d.addBackup(true, 0), d.addBackup(true, 0)
	lease, _, err := d.o.Locks.Acquire(t.Context(), d.o.Place.BackupLock(), nil)
	if err != nil {
		t.Fatal(err)
	}
	mark := catalog.Running{ID: "20261124T070000Z-abcdef", Parent: parent}
	if err := catalog.WriteRunning(t.Context(), d.o.Objects, d.o.Place, mark); err != nil {
		t.Fatal(err)
	}
	before := d.list(d.o.Place.Prefix())
	var inUse *InUse
	if _, err := Delete(t.Context(), d.o, parent); !errors.As(err, &inUse) || inUse.By != mark.ID {
		t.Errorf("deleting the parent: %v", err)
	}
	if after := d.list(d.o.Place.Prefix()); !slices.Equal(before, after) {
		t.Errorf("of %q there is left %q", before, after)
	}
	if _, err := Delete(t.Context(), d.o, other); err != nil {
		t.Errorf("deleting another: %v", err)
	}
	if err := lease.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.o.Last = true
	if _, err := Delete(t.Context(), d.o, parent); err != nil {
		t.Errorf("deleting the parent of what was cut off: %v", err)
	}
	d.gone(parent)
}

// Of two removals one waits its turn: together they could remove the last backups.
func TestOneRemoval(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	d.addPack()
	first := d.addBackup(true, 0)
	d.addBackup(true, 0)
	lease, _, err := d.o.Locks.Acquire(t.Context(), d.o.Place.RemovalLock(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release(context.WithoutCancel(t.Context()))
	var held *lock.Held
	if _, err := Delete(t.Context(), d.o, first); !errors.As(err, &held) {
		t.Errorf("Delete: %v", err)
	}
	if _, err := Sweep(t.Context(), d.o, 0); !errors.As(err, &held) {
		t.Errorf("Sweep: %v", err)
	}
	if locks := d.list("locks/"); len(locks) != 1 {
		t.Errorf("locks left: %q", locks)
	}
}

// damage spoils an object of a backup.
func (d *depot) damage(id, part string) {
	d.t.Helper()
	name := strings.TrimSuffix(catalog.HeadName(d.o.Place, id), "head") + part
	b, err := store.Get(context.Background(), d.st, name, 1<<20)
	if err != nil {
		d.t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if _, err := store.Put(context.Background(), d.st, name, b, store.CreateOptions{}); err != nil {
		d.t.Fatal(err)
	}
}

// What a kept backup names is not known if its list cannot be read: nothing goes, of
// other backups neither.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	for _, spoilt := range [][]string{{"packs"}, {"head", "packs"}} {
		d := newDepot(t)
		d.addPack()
		d.addPack()
		first, second, third := d.addBackup(true, 0), d.addBackup(true, 1), d.addBackup(true, 1)
		for _, part := range spoilt {
			d.damage(first, part)
		}
		var unknown *catalog.NeedsUnknown
		if _, err := Delete(t.Context(), d.o, second); !errors.Is(err, repo.ErrDamaged) || !errors.As(err, &unknown) || unknown.ID != first {
			t.Errorf("%s: %v", spoilt, err)
		}
		for _, i := range d.packs {
			if _, err := d.st.Stat(t.Context(), d.o.Place.PackName(i.ID)); err != nil {
				t.Errorf("%s: %v", spoilt, err)
			}
		}
		// The way out: the backup that is of no use goes itself.
		if _, err := Delete(t.Context(), d.o, first); err != nil {
			t.Errorf("%s: deleting the damaged one: %v", spoilt, err)
		}
		if _, err := Sweep(t.Context(), d.o, 0); err != nil {
			t.Errorf("%s: %v", spoilt, err)
		}
		kept := []string{third}
		if _, err := d.st.Stat(t.Context(), catalog.HeadName(d.o.Place, second)); err == nil {
			kept = append(kept, second)
		}
		d.exactly(kept)
	}
}

// A backup whose head is damaged keeps what it names, and keeps nobody from deleting
// others. A head of a later release keeps everything, and stays.
func TestDamagedHead(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	for range 3 {
		d.addPack()
	}
	first, second, third := d.addBackup(true, 0, 1), d.addBackup(true, 1, 2), d.addBackup(true, 1)
	d.damage(first, "head")
	var last *LastBackup
	if _, err := Delete(t.Context(), d.o, second); err != nil {
		t.Errorf("deleting another: %v", err)
	}
	d.gone(second)
	d.exactly([]string{first, third})
	if _, err := Delete(t.Context(), d.o, third); !errors.As(err, &last) {
		t.Errorf("deleting the last that can be read: %v", err)
	}
	if gone, err := Sweep(t.Context(), d.o, 0); err != nil || gone.Objects != 0 {
		t.Errorf("a sweep removes %+v, %v", gone, err)
	}
	if _, err := Delete(t.Context(), d.o, first); err != nil {
		t.Errorf("deleting the damaged one: %v", err)
	}
	d.exactly([]string{third})

	later := d.addBackup(true, 1)
	name := catalog.HeadName(d.o.Place, later)
	b, err := store.Get(t.Context(), d.st, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b[8]++
	binary.LittleEndian.PutUint32(b[108:], crc32.Checksum(b[:108], crc32.MakeTable(crc32.Castagnoli)))
	if _, err := store.Put(t.Context(), d.st, name, b, store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	fourth := d.addBackup(true, 1)
	for _, id := range []string{later, fourth} {
		if _, err := Delete(t.Context(), d.o, id); !errors.Is(err, repo.ErrUnknownFormat) {
			t.Errorf("beside a head of a later release: %v", err)
		}
	}
	d.exactly([]string{third, later, fourth})
}

// Whatever is damaged and deleted: of each backup that has a head, damaged or not, all
// stays that it names; and when those that are damaged have been deleted, nothing is left
// over.
func TestDamagedProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := newDepot(t)
		packs := rapid.IntRange(1, 6).Draw(t, "packs")
		for range packs {
			d.addPack()
		}
		some := rapid.SliceOfNDistinct(rapid.IntRange(0, packs-1), 0, packs, rapid.ID[int])
		var ids, spoilt []string
		for range rapid.IntRange(2, 5).Draw(t, "backups") {
			id := d.addBackup(true, some.Draw(t, "names")...)
			ids = append(ids, id)
			for _, part := range []string{"head", "packs"} {
				if rapid.IntRange(0, 3).Draw(t, "damaged "+part) == 0 {
					d.damage(id, part)
					spoilt = append(spoilt, id)
				}
			}
		}
		remove := func(id string) {
			_, err := Delete(context.Background(), d.o, id)
			_, there := d.st.Stat(context.Background(), catalog.HeadName(d.o.Place, id))
			if err == nil && there == nil {
				t.Fatalf("backup %s is there after it was deleted", id)
			}
			if errors.Is(there, store.ErrNotFound) {
				ids = slices.DeleteFunc(ids, func(other string) bool { return other == id })
			}
			d.holds(ids)
		}
		for range rapid.IntRange(0, 3).Draw(t, "deletions") {
			if len(ids) > 0 {
				remove(rapid.SampledFrom(ids).Draw(t, "delete"))
			}
		}
		d.o.Last = true
		for _, id := range spoilt {
			if slices.Contains(ids, id) {
				remove(id)
			}
			if slices.Contains(ids, id) {
				t.Fatalf("damaged backup %s cannot be deleted", id)
			}
		}
		if _, err := Sweep(context.Background(), d.o, 0); err != nil {
			t.Fatal(err)
		}
		d.exactly(ids)
	})
}

// holds fails unless all that these backups name is there.
func (d *depot) holds(ids []string) {
	d.t.Helper()
	for _, id := range ids {
		keys := append(catalog.PartNames(d.o.Place, id), catalog.HeadName(d.o.Place, id))
		for _, n := range d.made[id] {
			keys = append(keys, d.o.Place.PackName(d.packs[n].ID))
		}
		for _, k := range keys {
			if _, err := d.st.Stat(context.Background(), k); err != nil {
				d.t.Fatalf("backup %s is kept, and lacks %s: %v", id, k, err)
			}
		}
	}
}

// Only names that this release gives are removed.
func TestForeignNames(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	d.addPack()
	id := d.addBackup(true, 0)
	prefix := d.o.Place.Prefix()
	foreign := []string{prefix + "backups/" + id + "/signature", prefix + "backups/letter", prefix + "packs/readme", prefix + "running/letter",
		prefix + "wal/00000001/000000010000000000000001", prefix + "origin"}
	for _, name := range foreign {
		if _, err := store.Put(t.Context(), d.st, name, []byte("x"), store.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if gone, err := Sweep(t.Context(), d.o, 0); err != nil || gone.Objects != 0 {
		t.Errorf("removed %+v, %v", gone, err)
	}
	d.o.Last = true
	if _, err := Delete(t.Context(), d.o, id); err != nil {
		t.Fatal(err)
	}
	slices.Sort(foreign)
	if got := d.list(prefix); !slices.Equal(got, foreign) {
		t.Errorf("there is %q, want %q", got, foreign)
	}
}
