package catalog

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// A hold is there once, counts when it is damaged too, and goes when it is released.
func TestHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	one := Hold{BackupID: b1, Reason: "audit", Owner: "ann@db1", At: minute(1)}
	two := Hold{BackupID: b2, Reason: "the last of version 1", Owner: "bob@db2", At: minute(2)}
	for _, h := range []Hold{one, two} {
		w.must(WriteHold(ctx, w.objects, testPlace, h))
	}
	if err := WriteHold(ctx, w.objects, testPlace, one); !errors.Is(err, ErrHeld) {
		t.Errorf("held twice: %v", err)
	}
	const want = `{"reason":"audit","owner":"ann@db1","at":"2026-11-24T06:01:00Z"}`
	text, err := w.objects.Get(ctx, testPlace.Prefix()+"holds/"+b1, seal.Hold)
	w.must(err)
	if string(text) != want {
		t.Errorf("it is stored as %s, not %s", text, want)
	}
	w.put(testPlace.HoldsPrefix()+"letter", []byte("dear repository"))
	flip(w, testPlace.HoldsPrefix()+b2)
	held, err := ReadHolds(ctx, w.objects, testPlace)
	if d := cmp.Diff(map[string]Hold{b1: one, b2: {BackupID: b2}}, held); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	for _, id := range []string{b1, b2} {
		w.must(RemoveHold(ctx, w.objects, testPlace, id))
		if err := RemoveHold(ctx, w.objects, testPlace, id); !errors.Is(err, ErrNotHeld) {
			t.Errorf("released twice: %v", err)
		}
	}
	if held, err := ReadHolds(ctx, w.objects, testPlace); err != nil || len(held) != 0 {
		t.Errorf("%v, %v", held, err)
	}
}

// Who reads a backup is seen, by the name of the mark alone, with the store's time of
// it; and learns whether the backup is being removed.
func TestReadings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	id := w.backup("000001", 1, at(1, 0x28), at(1, 0x8000), minute(1))
	r, err := WriteReading(ctx, w.objects, testPlace, Reading{BackupID: id, For: "restore", Host: "did", PID: 7, Began: minute(3)})
	w.must(err)
	w.put(testPlace.readingsPrefix(false)+"letter", []byte("dear repository"))
	w.put(testPlace.readingsPrefix(false)+id+"-letter", []byte("dear repository"))
	flip(w, testPlace.readingName(r))
	all, err := ReadReadings(ctx, w.objects, testPlace)
	w.must(err)
	if len(all) != 1 || all[0].ID != r.ID || all[0].BackupID != id || all[0].Written.IsZero() {
		t.Errorf("%+v", all)
	}
	w.must(NotRemoved(ctx, w.objects, testPlace, id))
	stone, err := WriteTombstone(ctx, w.objects, testPlace, PartNames(testPlace, id))
	w.must(err)
	if err := NotRemoved(ctx, w.objects, testPlace, id); !errors.As(err, new(*BeingRemoved)) {
		t.Errorf("with a tombstone: %v", err)
	}
	w.must(RemoveTombstone(ctx, w.objects, testPlace, stone.ID))
	w.must(w.objects.Store().Delete(ctx, HeadName(testPlace, id), ""))
	if err := NotRemoved(ctx, w.objects, testPlace, id); !errors.Is(err, ErrNoBackup) {
		t.Errorf("without a head: %v", err)
	}
	replay, err := WriteReading(ctx, w.objects, testPlace, Reading{BackupID: id, Replaying: true})
	w.must(err)
	if all, err := ReadReadings(ctx, w.objects, testPlace); err != nil || len(all) != 2 || !all[1].Replaying || all[1].ID != replay.ID {
		t.Errorf("%v, %v", all, err)
	}
	w.must(RemoveReading(ctx, w.objects, testPlace, replay))
	w.must(RemoveReading(ctx, w.objects, testPlace, r))
	if all, err := ReadReadings(ctx, w.objects, testPlace); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// WAL that was removed because nothing needed it is not lost; what is missing after it is.
func TestPurged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.segments(1, 1, 12)
	w.remove(1, 3, 4, 7, 10)
	purge := func(before map[pg.Timeline]pg.LSN) {
		t.Helper()
		w.must(WritePurged(ctx, w.objects, testPlace, minute(9), before))
	}
	ranges := func() []Range {
		a := w.archive()
		return a.Ranges(a.Lines[0])
	}
	seg := func(n uint64) pg.LSN { return at(n, 0) }
	purge(map[pg.Timeline]pg.LSN{1: seg(4)})
	want := []Range{{seg(1), seg(3), false}, {seg(4), seg(5), true}, {seg(5), seg(7), false}, {seg(7), seg(8), true}, {seg(8), seg(10), false}, {seg(10), seg(11), true}, {seg(11), seg(13), false}}
	if d := cmp.Diff(want, ranges()); d != "" {
		t.Error(d)
	}
	purge(map[pg.Timeline]pg.LSN{1: seg(8), 2: seg(5)})
	purge(map[pg.Timeline]pg.LSN{1: seg(2)}) // it never goes back
	want = []Range{{seg(1), seg(3), false}, {seg(5), seg(7), false}, {seg(8), seg(10), false}, {seg(10), seg(11), true}, {seg(11), seg(13), false}}
	if d := cmp.Diff(want, ranges()); d != "" {
		t.Error(d)
	}
	n := 0
	for o, err := range w.objects.Store().List(ctx, testPlace.purgedPrefix(), store.ListOptions{}) {
		w.must(err)
		text, err := w.objects.Get(ctx, o.Key, seal.Purged)
		w.must(err)
		if want := `{"at":"2026-11-24T06:09:00Z","timelines":[{"timeline":1,"before_lsn":"0/800000"},{"timeline":2,"before_lsn":"0/500000"}]}`; string(text) != want {
			t.Errorf("%s, not %s", text, want)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d say where WAL begins", n)
	}
	if a := w.archive(); a.Lines[0].Newest.IsZero() {
		t.Error("nobody knows when the newest segment came")
	}
}
