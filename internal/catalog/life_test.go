package catalog

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/pg"
)

// A takeover's archive goes on from the one before, along its own history.
func TestContinuedLines(t *testing.T) {
	const mid = pg.LSN(2*segSize + segSize/2) // in segment 2
	fork := func(tli pg.Timeline) pg.Fork { return pg.Fork{Timeline: tli, At: mid} }
	placed := func(where Incarnation, lines ...Line) Archive {
		for i := range lines {
			lines[i].Place.Incarnation = where
		}
		return Archive{SegmentSize: segSize, Lines: lines}
	}
	before := func() Archive {
		return placed("before", line(1, []uint64{1, 2}, nil), line(2, []uint64{2, 3}, nil, fork(1)))
	}
	for what, c := range map[string]struct {
		own  Archive
		want []string
	}{
		"nothing archived yet": {Archive{}, []string{"1 before", "2 before"}},
		"the history alone, of timeline 1": {placed("own", line(3, nil, nil, fork(1))),
			[]string{"1 before", "3 own"}},
		"the old timeline's cut-off end": {placed("own", Line{Timeline: 1, Partials: []uint64{2}}, line(3, []uint64{2, 3}, nil, fork(1))),
			[]string{"1 before", "3 own"}},
		"the same number as the original's own promotion": {placed("own", line(2, []uint64{2}, nil, fork(1))),
			[]string{"1 before", "2 own"}},
		"a history of that number, and no segment": {placed("own", line(2, nil, nil, fork(1))),
			[]string{"1 before", "2 own"}},
		"no history": {placed("own", Line{Timeline: 5, Segments: []uint64{7}}), []string{"5 own"}},
	} {
		t.Run(what, func(t *testing.T) {
			var got []string
			for _, l := range continuedLines(c.own, before()) {
				got = append(got, fmt.Sprint(l.Timeline)+" "+string(l.Place.Incarnation))
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// Until a takeover has a backup of its own, the backups before it lead along its
// history, to what was committed after it.
func TestLifeContinues(t *testing.T) {
	w := singleLine(t)
	origin := w.origin
	origin.Parent, origin.Incarnation = origin.Incarnation, "fedcba9876543210"
	w.must(WriteOrigin(t.Context(), w.objects, origin))
	life, err := ReadLife(t.Context(), w.objects, origin)
	if err != nil {
		t.Fatal(err)
	}
	c, err := life.Resolve(t.Context(), w.objects, Target{})
	if err != nil || c.Backup.ID != b2 || c.Origin.Incarnation != origin.Incarnation {
		t.Errorf("%+v, %v", c.Backup, err)
	}

	origin.Incarnation = "aaaaaaaaaaaaaaaa"
	origin.Parent = origin.Incarnation
	w.must(WriteOrigin(t.Context(), w.objects, origin))
	life, err = ReadLife(t.Context(), w.objects, origin)
	if err == nil {
		t.Errorf("a life that continues itself: %+v", life)
	}
}
