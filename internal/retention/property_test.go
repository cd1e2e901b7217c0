package retention

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
)

// What must hold of any decision.
func TestInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w, r := newWorld(), newRepository()
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			w.step(t)
		}
		policy, now := policies(t), w.now.Add(time.Duration(rapid.IntRange(0, 90*24).Draw(t, "later"))*time.Hour)
		before := w.history(r)
		d := Decide(policy, before, now)
		r.apply(before, d)
		after := w.history(r)
		recoverable(t, w, before, after, d.Since)
		for _, b := range after.Backups {
			if isWhole(before, b) && !isWhole(after, b) {
				t.Fatalf("backup %s was kept without its WAL", b.ID)
			}
		}
		for _, p := range w.places {
			lastOfPlace(t, policy, before.Backups, after.Backups, p.place)
		}
		for _, b := range before.Backups {
			if b.Held && r.gone[b.ID] {
				t.Fatalf("backup %s is held, and gone", b.ID)
			}
			if b.StoppedAt.After(d.Since) && policy.Window > 0 && r.gone[b.ID] {
				t.Fatalf("backup %s, in the window, is gone", b.ID)
			}
		}
		if again := r.apply(after, Decide(policy, after, now)); len(again) > 0 {
			t.Fatalf("the second time removes %v", again)
		}
		// And it may be any time before: a clock that goes back removes nothing.
		back := now.Add(-time.Duration(rapid.IntRange(0, 200*24).Draw(t, "back")) * time.Hour)
		if again := r.apply(after, Decide(policy, after, back)); len(again) > 0 {
			t.Fatalf("at %s, before %s, it removes %v", back, now, again)
		}
	})
}

func isWhole(h History, b Backup) bool {
	for _, p := range h.Places {
		if p.Own.Place == b.Place() {
			return p.Life.Reaches(historyOf(p.Life, b.Timeline), b.StartLSN, b.StopLSN)
		}
	}
	return false
}

func isGood(h History, b Backup) bool {
	return b.Verdict != Damaged && len(b.Head.Damaged) == 0 && isWhole(h, b)
}

// recoverable wants every position in the window that could be reached with a good backup
// to be in reach still.
func recoverable(t *rapid.T, w *world, before, after History, since time.Time) {
	t.Helper()
	reached := func(h History, i int, l *line, n uint64) bool {
		p := h.Places[i]
		return slices.ContainsFunc(h.Backups, func(b Backup) bool {
			own := b.Place() == p.Own.Place
			if at, ok := p.Life.Find(b.Timeline); !own && (!ok || at.Place != b.Place() || !slices.Contains(p.Before, b.Place())) {
				return false
			}
			end := pg.Segment{Number: n}.End(segSize)
			return isGood(before, b) && l.history.Contains(b.Timeline, b.StopLSN) && b.StopLSN <= end && p.Life.Reaches(l.history, b.StartLSN, end)
		})
	}
	for i, p := range w.places {
		for _, l := range p.lines {
			for n, at := range l.segments {
				if at.After(since) && reached(before, i, l, n) && !reached(after, i, l, n) {
					t.Fatalf("segment %d of timeline %d of %s, of %s in the window from %s on, could be recovered before", n, l.tli, p.place, at, since)
				}
			}
		}
	}
}

// lastOfPlace wants the last good backups of a place to be there still.
func lastOfPlace(t *rapid.T, policy Policy, before, after []Backup, p catalog.Place) {
	t.Helper()
	want := max(1, policy.Minimum)
	has := func(list []Backup, b Backup) bool {
		return slices.ContainsFunc(list, func(o Backup) bool { return o.ID == b.ID })
	}
	verified := false
	for i := len(before) - 1; i >= 0; i-- {
		b := before[i]
		if b.Place() != p || b.Verdict == Damaged || len(b.Head.Damaged) > 0 {
			continue
		}
		if want > 0 && !has(after, b) {
			t.Fatalf("backup %s, one of the last good ones of %s, is gone", b.ID, p)
		}
		want--
		if !verified && b.Verdict == Sound && b.Level != catalog.VerifyObjects {
			if verified = true; !has(after, b) {
				t.Fatalf("backup %s, the last verified one of %s, is gone", b.ID, p)
			}
		}
	}
}

// Doing it often leaves at least what doing it once leaves.
func TestOften(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w, often, once := newWorld(), newRepository(), newRepository()
		policy := policies(t)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			w.step(t)
			if rapid.Bool().Draw(t, "expire") {
				h := w.history(often)
				often.apply(h, Decide(policy, h, w.now))
			}
		}
		for _, r := range []*repository{often, once} {
			h := w.history(r)
			r.apply(h, Decide(policy, h, w.now))
		}
		for _, b := range w.made {
			if often.gone[b.ID] && !once.gone[b.ID] {
				t.Fatalf("backup %s is gone for doing it often", b.ID)
			}
		}
		a, b := w.history(once), w.history(often)
		since := Decide(policy, a, w.now).Since
		recoverable(t, w, a, b, since)
	})
}

// The calendar is that of people: a naive twin counts names of days.
func TestCalendar(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for range rapid.IntRange(1, 60).Draw(t, "backups") {
			w.now = w.now.Add(time.Duration(rapid.SampledFrom([]int{1, 10, 30, 60, 100, 1440, 10000, 50000}).Draw(t, "minutes")) * time.Minute)
			w.backup(Unverified, "", 0, false)
		}
		policy := policies(t)
		policy.Window, policy.Minimum = 0, 0
		want := map[string][]Rule{}
		week := func(t time.Time) string {
			y, n := t.ISOWeek()
			return fmt.Sprintf("%d week %d", y, n)
		}
		for _, c := range []struct {
			rule  Rule
			count int
			name  func(time.Time) string
		}{
			{ByHour, policy.Hourly, func(t time.Time) string { return t.Format("2006-01-02 15h -07:00") }},
			{ByDay, policy.Daily, func(t time.Time) string { return t.Format("2006-01-02") }},
			{ByWeek, policy.Weekly, week},
			{ByMonth, policy.Monthly, func(t time.Time) string { return t.Format("2006-01") }},
			{ByYear, policy.Yearly, func(t time.Time) string { return t.Format("2006") }},
		} {
			seen := map[string]bool{}
			for i := len(w.made) - 1; i >= 0; i-- {
				name := c.name(w.made[i].StoppedAt.In(policy.Zone))
				if !seen[name] && len(seen) < c.count {
					seen[name] = true
					want[w.made[i].ID] = append(want[w.made[i].ID], c.rule)
				}
			}
		}
		for _, d := range Decide(policy, w.history(newRepository()), w.now).Backups {
			got := slices.DeleteFunc(slices.Clone(d.KeptBy), func(r Rule) bool { return r == Last || r == ByWindow })
			if !slices.Equal(got, want[d.ID]) {
				t.Fatalf("backup %s of %s is kept by %v, not %v", d.ID, d.StoppedAt.In(policy.Zone), got, want[d.ID])
			}
		}
	})
}
