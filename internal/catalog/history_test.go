package catalog

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo"
)

var errBroken = errors.New("broken")

// grown is an archive of some promotions, of which some segments were lost. A timeline
// begins with a copy of the segment in which it left its parent.
func grown(t *rapid.T) Archive {
	a := made()
	for tli := range pg.Timeline(rapid.IntRange(2, 5).Draw(t, "timelines")) {
		tli++
		l := Line{Timeline: tli, History: &pg.History{Timeline: tli}}
		var from uint64
		if tli > 1 {
			parent := a.Lines[rapid.IntRange(0, len(a.Lines)-1).Draw(t, "parent")]
			first := pg.LSN(0)
			if n := len(parent.History.Forks); n > 0 {
				first = parent.History.Forks[n-1].At
			}
			leave := first + rapid.SampledFrom([]pg.LSN{8, 0x8000, segSize - 8, segSize, 2 * segSize, 3*segSize + 8}).Draw(t, "fork")
			l.History.Forks = append(slices.Clone(parent.History.Forks), fork(parent.Timeline, leave))
			from = pg.SegmentAt(1, leave, segSize).Number
			if cut := pg.SegmentBefore(1, leave, segSize).Number; rapid.Bool().Draw(t, "partial") {
				i := int(parent.Timeline) - 1
				a.Lines[i].Partials = slices.Compact(slices.Sorted(slices.Values(append(a.Lines[i].Partials, cut))))
			}
		}
		for n := from; n < from+uint64(rapid.IntRange(0, 6).Draw(t, "segments")); n++ {
			if rapid.IntRange(0, 9).Draw(t, "lost") > 0 {
				l.Segments = append(l.Segments, n)
			}
		}
		a.Lines = append(a.Lines, l)
	}
	return a
}

// With a history that cannot be read, never more is promised than with it: no path goes
// further, and nothing is the archive's end that was not.
func TestUnreadableHistoryProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := grown(t)
		broken := whole
		broken.Lines = slices.Clone(whole.Lines)
		bad := rapid.IntRange(1, len(broken.Lines)-1).Draw(t, "damaged")
		broken.Lines[bad].History, broken.Lines[bad].Unreadable = nil, errBroken
		for _, l := range broken.Lines {
			for n := range uint64(16) {
				seg := pg.Segment{Timeline: l.Timeline, Number: n}
				later, is := whole.After(seg)
				if _, seems := broken.After(seg); is && !seems {
					t.Fatalf("%v is the end, and was not: %v follows it", seg, later)
				}
				h := Head{ID: "x", Timeline: l.Timeline, StartLSN: at(n, 0x28), StopLSN: at(n, 0x80)}
				for _, to := range []TimelineChoice{Latest, Current, TimelineChoice(l.Timeline), TimelineChoice(bad + 1)} {
					history, err := reachable(broken, h, to)
					if err != nil {
						continue
					}
					if history.Timeline == pg.Timeline(bad+1) {
						t.Fatalf("timeline %d is followed", bad+1)
					}
					had, err := reachable(whole, h, to)
					if err != nil {
						t.Fatalf("timeline %d from %d was not reachable: %v", history.Timeline, l.Timeline, err)
					}
					got, want := broken.Path(history, h.StartLSN), whole.Path(had, h.StartLSN)
					if had.Timeline != history.Timeline || len(got.Steps) > 0 && got.End() > want.End() {
						t.Fatalf("the path was\n%s and is\n%s", show(want), show(got))
					}
				}
			}
		}
	})
}

// One damaged history leaves the other timelines as they are; what needs it is refused
// by its name.
func TestUnreadableHistory(t *testing.T) {
	w := singleLine(t)
	w.segments(2, 4, 6, commit(at(5, 0x100), 805, minute(50)))
	w.history(2, historyLine(1, at(4, 0x900)))
	w.backup("000003", 2, at(5, 0x28), at(5, 0x80), minute(45))
	name := testPlace.WALName(2, "00000002.history")
	if got, err := w.resolve(Target{}); err != nil || got.Backup != b3 {
		t.Fatalf("before it was damaged: %+v, %v", got, err)
	}
	flip(w, name)
	for _, c := range []struct {
		timeline TimelineChoice
		backup   string
		want     string // a backup, "" for none
	}{
		{Latest, "", ""}, {Latest, b1, ""}, {2, "", ""}, {2, b2, ""}, {Current, "", ""}, {Current, b3, ""}, {2, b3, ""},
		{1, "", b2}, {Current, b2, b2}, {Current, b1, b1},
	} {
		got, err := w.resolve(Target{Timeline: c.timeline, BackupID: c.backup})
		damaged := errors.Is(err, repo.ErrDamaged) && errors.As(err, new(*UnreadableHistory)) && strings.Contains(err.Error(), name)
		if got.Backup != c.want || damaged == (c.want != "") || c.want != "" && err != nil {
			t.Errorf("timeline %d, backup %q: %+v, %v", c.timeline, c.backup, got, err)
		}
	}
	if win, err := w.life().Window(t.Context(), w.objects); err != nil || !win.OK || win.Newest.ID != b2 || win.EndLSN != at(7, 0) {
		t.Errorf("the window: %+v, %v", win, err)
	}

	// Where nothing else is left, the reason is told, and the archive can be listed.
	for _, id := range []string{b1, b2} {
		w.must(w.mem.Delete(t.Context(), HeadName(testPlace, id), ""))
	}
	if win, err := w.life().Window(t.Context(), w.objects); err != nil || win.OK || !strings.Contains(win.Reason, name) {
		t.Errorf("the window: %+v, %v", win, err)
	}
}
