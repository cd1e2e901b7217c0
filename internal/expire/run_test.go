package expire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	"github.com/salvor-dr/salvor/internal/retention"
	"github.com/salvor-dr/salvor/internal/store"
)

const segSize = 16 << 20

// history makes a depot with one backup a minute, each from segment 3n+1 to 3n+2, and all
// WAL from segment 1 to 3 after the last one.
func history(t fatal, packs int, names func(n int) []int, backups int) (d *depot, ids []string) {
	t.Helper()
	d = newDepot(t)
	ctx := context.Background()
	origin := catalog.Origin{Cluster: d.o.Place.Cluster, SystemID: d.o.Place.SystemID, Incarnation: d.o.Place.Incarnation,
		Sizes: pg.Sizes{Block: 8192, WALBlock: 8192, SegmentBlocks: 131072, WALSegment: segSize}}
	if err := catalog.WriteOrigin(ctx, d.o.Objects, origin); err != nil {
		t.Fatal(err)
	}
	for range packs {
		d.addPack()
	}
	d.shape = func(h *catalog.Head) {
		n := uint64(3*len(d.made) + 1)
		h.StartLSN, h.StopLSN = pg.LSN(n*segSize+40), pg.LSN((n+1)*segSize+80)
	}
	for n := range backups {
		ids = append(ids, d.addBackup(true, names(n)...))
	}
	for n := range 3*backups + 1 {
		d.addWAL(uint64(n + 1))
	}
	if _, err := store.Put(ctx, d.st, d.o.Place.WALName(2, "00000002.history"), []byte("not opened"), store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return d, ids
}

func (d *depot) addWAL(n uint64) {
	d.t.Helper()
	name := pg.Segment{Timeline: 1, Number: n}.Name(segSize)
	if _, err := store.Put(context.Background(), d.st, d.o.Place.WALName(1, name), make([]byte, 10), store.CreateOptions{}); err != nil {
		d.t.Fatal(err)
	}
}

// segments lists the WAL that is there.
func (d *depot) segments() (all []uint64) {
	d.t.Helper()
	for _, key := range d.list(d.o.Place.Prefix() + "wal/00000001/") {
		f, err := pg.ParseWALFile(key[strings.LastIndexByte(key, '/')+1:], segSize)
		if err != nil {
			d.t.Fatal(err)
		}
		all = append(all, f.Segment.Number)
	}
	return all
}

// by is what a policy decides, in the way of the program. meanwhile happens after it was
// decided, before anything goes.
func (d *depot) by(p retention.Policy, meanwhile func()) func(context.Context) ([]Plan, error) {
	return func(ctx context.Context) ([]Plan, error) {
		s, err := Look(ctx, SurveyOptions{Objects: d.o.Objects, Locks: d.o.Locks, Cluster: d.o.Place.Cluster, Clock: d.o.Clock})
		if err != nil {
			return nil, err
		}
		plans := s.Plans(retention.Decide(p, s.History, d.o.Clock.Now()))
		meanwhile()
		return plans, nil
	}
}

func (d *depot) run(p retention.Policy, meanwhile func()) (Removed, error) {
	return Run(context.Background(), RunOptions{d.o.Objects, d.o.Locks, []catalog.Place{d.o.Place}, d.o.Clock}, d.by(p, meanwhile))
}

func nothing() {}

// What a policy does not keep goes, with all that only it needs, and what it keeps stays
// whole: wherever it is killed, and then finished by the next run. WAL goes from its
// beginning on.
func TestRunKilledAnywhere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		packs := rapid.IntRange(1, 6).Draw(t, "packs")
		some := rapid.SliceOfNDistinct(rapid.IntRange(0, packs-1), 0, packs, rapid.ID[int])
		d, ids := history(t, packs, func(int) []int { return some.Draw(t, "names") }, rapid.IntRange(1, 7).Draw(t, "backups"))
		held := rapid.IntRange(0, len(ids)-1).Draw(t, "held")
		if err := catalog.WriteHold(context.Background(), d.o.Objects, d.o.Place, catalog.Hold{BackupID: ids[held], Reason: "audit"}); err != nil {
			t.Fatal(err)
		}
		policy := retention.Policy{Minimum: rapid.IntRange(1, 3).Draw(t, "minimum")}
		var want []string
		var wal []uint64
		for n, id := range ids {
			if n == held || n >= len(ids)-policy.Minimum {
				want = append(want, id)
				wal = append(wal, uint64(3*n+1), uint64(3*n+2))
			}
		}
		wal = append(wal, uint64(3*len(ids)), uint64(3*len(ids)+1))
		for range rapid.IntRange(0, 4).Draw(t, "kills") {
			before := d.segments()
			d.left.Store(int64(rapid.IntRange(0, 120).Draw(t, "killed after")))
			_, err := d.run(policy, nothing)
			d.kill()
			d.whole()
			left := d.segments()
			for _, n := range wal {
				if !slices.Contains(left, n) {
					t.Fatalf("segment %d is gone", n)
				}
			}
			if err == nil {
				break
			}
			for i, n := range before { // what is gone lies before what is not, but for those that went together
				if at := slices.Index(left, n); at < 0 && !slices.Contains(wal, n) {
					for _, older := range before[:max(0, i-segmentsAtOnce-len(wal))] {
						if slices.Contains(left, older) && !slices.Contains(wal, older) {
							t.Fatalf("segment %d is gone, and %d is not", n, older)
						}
					}
				}
			}
		}
		if _, err := d.run(policy, nothing); err != nil {
			t.Fatal(err)
		}
		d.whole()
		heads, err := catalog.Backups(context.Background(), d.o.Objects, d.o.Place)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range heads {
			got = append(got, h.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("backups\n%s", diff)
		}
		if diff := cmp.Diff(wal, d.segments()); diff != "" {
			t.Fatalf("WAL\n%s", diff)
		}
		for id := range d.made {
			if !slices.Contains(want, id) {
				d.gone(id)
			}
		}
		if left := append(d.list("locks/"), d.list(d.o.Place.TombstonesPrefix())...); len(left) > 0 {
			t.Fatalf("there is left %q", left)
		}
		if _, err := d.st.Stat(context.Background(), d.o.Place.WALName(2, "00000002.history")); err != nil {
			t.Fatal(err)
		}
		a, err := catalog.ReadPurged(context.Background(), d.o.Objects, d.o.Place)
		if want := pg.LSN((3*uint64(len(ids)-1) + 1) * segSize); err != nil || len(wal) < 3*len(ids)+1 && a[1] != want {
			t.Fatalf("WAL is purged up to %v, not %s, %v", a, want, err)
		}
	})
}

// Who begins to need a backup after it was decided that it goes keeps it, and a restore
// keeps the WAL too.
func TestMeanwhile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		begin func(ctx context.Context, d *depot, id string) error
		is    func(error) bool
	}{
		"a hold": {func(ctx context.Context, d *depot, id string) error {
			return catalog.WriteHold(ctx, d.o.Objects, d.o.Place, catalog.Hold{BackupID: id})
		}, func(err error) bool { return errors.As(err, new(*Held)) }},
		"a restore": {func(ctx context.Context, d *depot, id string) error {
			_, err := catalog.WriteReading(ctx, d.o.Objects, d.o.Place, catalog.Reading{BackupID: id})
			return err
		}, func(err error) bool { return errors.As(err, new(*BeingRead)) }},
		"a backup": {func(ctx context.Context, d *depot, id string) error {
			if _, _, err := d.o.Locks.Acquire(ctx, d.o.Place.BackupLock(), nil); err != nil {
				return err
			}
			return catalog.WriteRunning(ctx, d.o.Objects, d.o.Place, catalog.Running{ID: "20261124T070000Z-abcdef", Parent: id})
		}, func(err error) bool { return errors.As(err, new(*InUse)) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, ids := history(t, 2, func(n int) []int { return []int{n % 2} }, 4)
			before := d.segments()
			gone, err := d.run(retention.Policy{Minimum: 1}, func() {
				if err := c.begin(t.Context(), d, ids[1]); err != nil {
					t.Fatal(err)
				}
			})
			if err != nil || !slices.Equal(gone.Backups, []string{ids[0], ids[2]}) {
				t.Errorf("%+v, %v", gone, err)
			}
			if len(gone.Kept) != 1 || !c.is(gone.Kept[0]) {
				t.Errorf("kept: %v", gone.Kept)
			}
			if !slices.Equal(before, d.segments()) { // the plan did not know what this backup needs
				t.Errorf("of WAL %v there is %v", before, d.segments())
			}
			if _, err := d.st.Stat(t.Context(), catalog.HeadName(d.o.Place, ids[1])); err != nil {
				t.Error(err)
			}
			d.whole()
			// The same holds for a single removal, but for a restore.
			if _, err := Delete(t.Context(), d.o, ids[1]); !c.is(err) && !(name == "a restore" && err == nil) {
				t.Errorf("deleting it: %v", err)
			}
		})
	}
}

// A removal that was cut off takes nothing more from those who say afterwards that a backup
// must stay; one that runs is waited for.
func TestStays(t *testing.T) {
	t.Parallel()
	d, ids := history(t, 2, func(n int) []int { return []int{n % 2} }, 4)
	named := 0
	for n := 0; ; n++ {
		d.left.Store(int64(n))
		_, err := d.run(retention.Policy{Minimum: 1}, nothing)
		d.kill()
		for _, id := range ids {
			there, failed := catalog.HeadExists(t.Context(), d.o.Objects, d.o.Place, id)
			if failed != nil {
				t.Fatal(failed)
			}
			if errors.As(catalog.NotRemoved(t.Context(), d.o.Objects, d.o.Place, id), new(*catalog.BeingRemoved)) {
				named++
			}
			if err := Stays(t.Context(), d.o, id); there != (err == nil) || !there && !errors.Is(err, catalog.ErrNoBackup) {
				t.Fatalf("killed after %d, backup %s: there %t, %v", n, id, there, err)
			}
		}
		if err == nil {
			break
		}
		d.whole()
	}
	if named == 0 {
		t.Error("no removal was cut off between its tombstone and the heads")
	}
	stone, err := catalog.WriteTombstone(t.Context(), d.o.Objects, d.o.Place, catalog.PartNames(d.o.Place, ids[3]))
	if err != nil {
		t.Fatal(err)
	}
	lease, _, err := d.o.Locks.Acquire(t.Context(), d.o.Place.RemovalLock(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := Stays(t.Context(), d.o, ids[3]); !errors.As(err, new(*catalog.BeingRemoved)) {
		t.Errorf("while a removal runs: %v", err)
	}
	if err := lease.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := Stays(t.Context(), d.o, ids[3]); err != nil {
		t.Errorf("after tombstone %s: %v", stone.ID, err)
	}
}

// A restore that ended, or died, keeps its backup for a day.
func TestReadingAges(t *testing.T) {
	t.Parallel()
	d, ids := history(t, 1, func(int) []int { return []int{0} }, 3)
	if _, err := catalog.WriteReading(t.Context(), d.o.Objects, d.o.Place, catalog.Reading{BackupID: ids[0]}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ahead time.Duration
		want  []string
	}{{catalog.ReadingLasts - time.Minute, []string{ids[1]}}, {catalog.ReadingLasts + time.Minute, []string{ids[0]}}} {
		d.o.Clock = ahead{d.o.Clock, c.ahead}
		gone, err := d.run(retention.Policy{Minimum: 1}, nothing)
		if err != nil || !slices.Equal(gone.Backups, c.want) {
			t.Errorf("%s later: %+v, %v", c.ahead, gone, err)
		}
		d.o.Clock = d.o.Clock.(ahead).Clock
	}
}

// Of two runs the second has to wait, and one that needs what it cannot know removes nothing.
func TestRunRefused(t *testing.T) {
	t.Parallel()
	d, _ := history(t, 2, func(n int) []int { return []int{n % 2} }, 4)
	_, err := d.run(retention.Policy{Minimum: 1}, func() {
		if _, err := d.run(retention.Policy{Minimum: 1}, nothing); !errors.As(err, new(*lock.Held)) {
			t.Errorf("beside another: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	d, ids := history(t, 2, func(n int) []int { return []int{n % 2} }, 4)
	d.damage(ids[1], "head")
	d.damage(ids[1], "packs")
	before := d.list(d.o.Place.Prefix())
	var unknown *catalog.NeedsUnknown
	if _, err := d.run(retention.Policy{Minimum: 1}, nothing); !errors.As(err, &unknown) || unknown.ID != ids[1] {
		t.Errorf("%v", err)
	}
	if after := d.list(d.o.Place.Prefix()); !slices.Equal(before, after) {
		t.Errorf("of %q there is left %q", before, after)
	}
	if _, err := d.st.Stat(t.Context(), fmt.Sprint(d.o.Place.Prefix(), "origin")); err != nil {
		t.Fatal(err)
	}
}

// ahead is a clock that goes ahead.
type ahead struct {
	clock.Clock
	by time.Duration
}

func (a ahead) Now() time.Time { return a.Clock.Now().Add(a.by) }
