package retention

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/catalog"
)

// shape of a cluster for one test.
func shape(t *testing.T, build func(w *world)) *world {
	t.Helper()
	w := newWorld()
	build(w)
	return w
}

// kept gives the rules by which each backup is kept, oldest first.
func kept(d Decisions) (all [][]Rule) {
	for _, b := range d.Backups {
		all = append(all, b.KeptBy)
	}
	return all
}

func wants(t *testing.T, d Decisions, want ...[]Rule) {
	t.Helper()
	if diff := cmp.Diff(want, kept(d)); diff != "" {
		t.Error(diff)
	}
}

type rules = []Rule

func days(n float64) time.Duration { return time.Duration(n * 24 * float64(time.Hour)) }

// The window reaches back from the newest thing there is: nothing slides out of it while
// backups and archiving have stopped, or because this host's clock runs ahead.
func TestNothingNew(t *testing.T) {
	t.Parallel()
	w := shape(t, func(w *world) {
		for range 5 {
			w.now = w.now.Add(days(1))
			w.backup(Unverified, "", 0, false)
		}
	})
	d := Decide(Policy{Window: days(2)}, w.history(newRepository()), w.now.Add(days(1000)))
	wants(t, d, nil, nil, rules{ByWindow}, rules{ByWindow}, rules{ByWindow, Last})
	if !d.Since.Equal(w.now.Add(-days(2))) {
		t.Errorf("the window begins at %s", d.Since)
	}
	// What is newer than now is kept, and stands for nothing.
	d = Decide(Policy{Daily: 1}, w.history(newRepository()), w.now.Add(-days(1.5)))
	wants(t, d, nil, nil, rules{ByWindow, ByDay, Last}, rules{InFuture}, rules{InFuture})
}

// A week of damaged backups does not displace the sound ones before it.
func TestDamagedWeek(t *testing.T) {
	t.Parallel()
	w := shape(t, func(w *world) {
		for i := range 6 {
			w.now = w.now.Add(days(1))
			spots := 0
			if i > 2 {
				spots = 1
			}
			w.backup(Unverified, "", spots, false)
		}
	})
	d := Decide(Policy{Daily: 2}, w.history(newRepository()), w.now)
	wants(t, d, nil, rules{ByDay}, rules{ByWindow, ByDay, Last}, nil, rules{ByDay}, rules{ByDay, Last})
}

// In one day a backup that was verified stands for it, then one that was not, then one
// with damaged pages, then one that was found damaged; a restore proves more than reading.
func TestBest(t *testing.T) {
	t.Parallel()
	w := shape(t, func(w *world) {
		w.now = w.now.Add(time.Hour)
		w.backup(Sound, catalog.VerifyRestore, 0, false)
		w.backup(Sound, catalog.VerifyData, 0, false)
		w.backup(Sound, catalog.VerifyObjects, 0, false)
		w.backup(Unverified, "", 0, false)
		w.backup(Sound, catalog.VerifyRestore, 1, false)
		w.backup(Damaged, "", 0, false)
	})
	for best := range 6 {
		r := newRepository()
		for i := range best {
			r.gone[w.made[i].ID] = true
		}
		for i, d := range Decide(Policy{Daily: 1}, w.history(r), w.now).Backups {
			if slices.Contains(d.KeptBy, ByDay) != (i == 0) {
				t.Errorf("without the best %d, backup %d is kept by %v", best, i, d.KeptBy)
			}
		}
	}
}

// The hour that comes twice when clocks are set back is two, a day has 23, 24 or 25.
func TestDaylightSaving(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	w := shape(t, func(w *world) {
		for _, at := range []string{"2026-10-24T21:59:00Z", "2026-10-24T22:01:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T22:59:00Z", "2026-10-25T23:01:00Z"} {
			if w.now, err = time.Parse(time.RFC3339, at); err != nil {
				t.Fatal(err)
			}
			w.backup(Unverified, "", 0, false)
		}
	})
	h := w.history(newRepository())
	wants(t, Decide(Policy{Hourly: 4, Zone: berlin}, h, w.now),
		nil, nil, rules{ByHour}, rules{ByHour}, rules{ByHour}, rules{ByWindow, ByHour, Last})
	wants(t, Decide(Policy{Daily: 3, Zone: berlin}, h, w.now),
		rules{ByDay}, nil, nil, nil, rules{ByDay}, rules{ByWindow, ByDay, Last})
	wants(t, Decide(Policy{Daily: 3}, h, w.now),
		nil, rules{ByDay}, nil, nil, nil, rules{ByWindow, ByDay, Last})
}

// Each of two places keeps its own, and old places age out but for their last.
func TestPlaces(t *testing.T) {
	t.Parallel()
	w := shape(t, func(w *world) {
		for range 3 {
			w.now = w.now.Add(days(1))
			w.backup(Unverified, "", 0, false)
		}
		w.upgrade()
		w.backup(Unverified, "", 0, false)
		for range 2 {
			w.now = w.now.Add(days(1))
			w.backup(Unverified, "", 0, false)
		}
	})
	h := w.history(newRepository())
	wants(t, Decide(Policy{Daily: 3}, h, w.now),
		nil, nil, rules{ByDay, Last}, rules{ByDay}, rules{ByDay}, rules{ByWindow, ByDay, Last})
	wants(t, Decide(Policy{Daily: 2}, h, w.now),
		nil, nil, rules{Last}, nil, rules{ByDay}, rules{ByWindow, ByDay, Last})
	wants(t, Decide(Policy{Minimum: 2}, h, w.now),
		nil, rules{ByMinimum}, rules{ByMinimum, Last}, nil, rules{ByMinimum}, rules{ByWindow, ByMinimum, Last})
}

// What is in use stays: a backup under way widens the window, its parent stays, and a
// restore keeps all WAL from its backup on.
func TestInUse(t *testing.T) {
	t.Parallel()
	w := shape(t, func(w *world) {
		for range 5 {
			w.now = w.now.Add(days(1))
			w.backup(Unverified, "", 0, false)
			w.write(2)
		}
	})
	policy := Policy{Window: days(1.5)}
	from := func(h History) uint64 { return Decide(policy, h, w.now).WAL[0].From }
	h := w.history(newRepository())
	wants(t, Decide(policy, h, w.now), nil, nil, rules{ByWindow}, rules{ByWindow}, rules{ByWindow, Last})
	if got := from(h); got != 7 {
		t.Errorf("WAL is kept from segment %d on", got)
	}
	h.Backups[1].InUse, h.Backups[0].Parent = true, true
	wants(t, Decide(policy, h, w.now), rules{ParentUsed}, rules{InUse}, rules{ByWindow}, rules{ByWindow}, rules{ByWindow, Last})
	if got := from(h); got != 4 {
		t.Errorf("beside a restore, WAL is kept from segment %d on", got)
	}
	h = w.history(newRepository())
	h.Places[0].Running = []time.Time{w.now.Add(-days(2.9))}
	wants(t, Decide(policy, h, w.now), nil, rules{ByWindow}, rules{ByWindow}, rules{ByWindow}, rules{ByWindow, Last})
}

// WAL of which it is not known who needs it is kept.
func TestDoubt(t *testing.T) {
	t.Parallel()
	made := func() *world {
		return shape(t, func(w *world) {
			for range 4 {
				w.now = w.now.Add(days(1))
				w.write(1)
				w.backup(Unverified, "", 0, false)
				w.promote(w.primary())
			}
			w.write(1)
		})
	}
	goes := func(d Decisions) string {
		s := ""
		for _, l := range d.WAL {
			if l.From == NoSegment {
				s += fmt.Sprintf("%d:pieces ", l.Timeline)
			} else {
				s += fmt.Sprintf("%d:%d ", l.Timeline, l.From)
			}
		}
		return s
	}
	w := made()
	h := w.history(newRepository())
	if got := goes(Decide(Policy{}, h, w.now)); got != "1:pieces 2:pieces 3:pieces 4:8 5:0 " {
		t.Error(got)
	}
	for name, change := range map[string]func(*Place){
		"a head":    func(p *Place) { p.Unreadable = true },
		"a history": func(p *Place) { p.Life.Lines[4].History = nil },
	} {
		h := made().history(newRepository())
		change(&h.Places[0])
		if got := goes(Decide(Policy{}, h, w.now)); got != "1:0 2:0 3:0 4:0 5:0 " {
			t.Errorf("%s: %s", name, got)
		}
	}
	h.Backups = nil
	if got := goes(Decide(Policy{}, h, w.now)); got != "1:0 2:0 3:0 4:0 5:0 " {
		t.Errorf("no backup: %s", got)
	}
}

// Segments in and between pieces.
func TestKeeps(t *testing.T) {
	t.Parallel()
	l := Line{From: 20, Pieces: []Piece{{3, 5}, {9, 9}, {25, 26}}}
	for n, want := range map[uint64]bool{0: false, 2: false, 3: true, 4: true, 5: true, 6: false, 8: false, 9: true, 10: false, 19: false, 20: true, 1000: true} {
		if l.Keeps(n) != want {
			t.Errorf("segment %d", n)
		}
	}
}

// Ten thousand backups take no time worth speaking of.
func BenchmarkDecide(b *testing.B) {
	w := newWorld()
	for range 10_000 {
		w.now = w.now.Add(time.Hour)
		w.backup(Unverified, "", 0, false)
	}
	h := w.history(newRepository())
	p := Policy{Window: days(7), Hourly: 24, Daily: 7, Weekly: 4, Monthly: 12, Yearly: 3, Minimum: 2}
	for b.Loop() {
		Decide(p, h, w.now)
	}
}
