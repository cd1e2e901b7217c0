package catalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo"
)

// line writes an archive's line shortly: timeline, segments, partials.
func line(tli pg.Timeline, segments, partials []uint64, forks ...pg.Fork) Line {
	return Line{Timeline: tli, Segments: segments, Partials: partials, History: &pg.History{Timeline: tli, Forks: forks}}
}

func fork(tli pg.Timeline, at pg.LSN) pg.Fork { return pg.Fork{Timeline: tli, At: at} }

func made(lines ...Line) Archive {
	return Archive{Place: testPlace, SegmentSize: segSize, Lines: lines}
}

// show writes a path as "1:3 1:4. 2:5<505/0": timeline and segment, a dot after a
// partial, and where it ends if that is before the segment's end.
func show(p Path) string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "%d:%d", s.Segment.Timeline, s.Segment.Number)
		if s.Partial {
			b.WriteByte('.')
		}
		if s.End != s.Segment.End(segSize) {
			fmt.Fprintf(&b, "<%x", uint64(s.End))
		}
		b.WriteByte(' ')
	}
	fmt.Fprintf(&b, "| %d:%d", p.Missing.Timeline, p.Missing.Number)
	if p.Hole {
		b.WriteString(" hole")
	}
	return b.String()
}

func TestPath(t *testing.T) {
	mid := at(3, 0x8000) // in segment 3
	edge := at(3, 0)     // between 2 and 3
	for name, c := range map[string]struct {
		lines  []Line
		target pg.Timeline
		from   pg.LSN
		want   string
	}{
		"one timeline": {[]Line{line(1, []uint64{1, 2, 3}, nil)}, 1, at(1, 0x28), "1:1 1:2 1:3 | 1:4"},
		"from inside":  {[]Line{line(1, []uint64{1, 2, 3}, nil)}, 1, at(2, segSize-1), "1:2 1:3 | 1:4"},
		"from an edge": {[]Line{line(1, []uint64{1, 2, 3}, nil)}, 1, at(3, 0), "1:3 | 1:4"},
		"empty":        {nil, 1, at(2, 0), "| 1:2"},
		"a hole":       {[]Line{line(1, []uint64{1, 3}, nil)}, 1, at(1, 0), "1:1 | 1:2 hole"},
		"nothing of the beginning": {
			[]Line{line(1, []uint64{3}, nil)}, 1, at(1, 0), "| 1:1 hole"},
		"a hole before a partial": {
			[]Line{line(1, []uint64{1}, []uint64{3}), line(2, nil, nil, fork(1, mid))}, 1, at(1, 0), "1:1 | 1:2 hole"},
		"fork inside, on the child": {
			[]Line{line(1, []uint64{1, 2}, nil), line(2, []uint64{3, 4}, nil, fork(1, mid))}, 2, at(1, 0),
			"1:1 1:2 2:3 2:4 | 2:5"},
		"fork inside, both have it": {
			[]Line{line(1, []uint64{1, 2, 3, 4}, nil), line(2, []uint64{3, 4}, nil, fork(1, mid))}, 2, at(1, 0),
			"1:1 1:2 2:3 2:4 | 2:5"},
		"fork inside, the child's is to come": {
			[]Line{line(1, []uint64{1, 2, 3, 4}, nil), line(2, nil, nil, fork(1, mid))}, 2, at(1, 0),
			"1:1 1:2 1:3<308000 | 2:3"},
		"fork inside, the child's is lost": {
			[]Line{line(1, []uint64{1, 2, 3}, nil), line(2, []uint64{4}, nil, fork(1, mid))}, 2, at(1, 0),
			"1:1 1:2 1:3<308000 | 2:3 hole"},
		"fork inside, only the partial": {
			[]Line{line(1, []uint64{1, 2}, []uint64{3}), line(2, nil, nil, fork(1, mid))}, 2, at(1, 0),
			"1:1 1:2 1:3.<308000 | 2:3"},
		"the whole one before the partial": {
			[]Line{line(1, []uint64{1, 2, 3}, []uint64{3}), line(2, nil, nil, fork(1, mid))}, 2, at(1, 0),
			"1:1 1:2 1:3<308000 | 2:3"},
		"current, on the parent with its partial": {
			[]Line{line(1, []uint64{1, 2}, []uint64{3}), line(2, []uint64{3}, nil, fork(1, mid))}, 1, at(1, 0),
			"1:1 1:2 1:3.<308000 | 1:3"},
		"a partial nobody forked from": {
			[]Line{line(1, []uint64{1}, []uint64{2})}, 1, at(1, 0), "1:1 | 1:2"},
		"current, past the fork": {
			[]Line{line(1, []uint64{1, 2, 3, 4}, nil), line(2, []uint64{3}, nil, fork(1, mid))}, 1, at(1, 0),
			"1:1 1:2 1:3 1:4 | 1:5"},
		"fork on an edge": {
			[]Line{line(1, []uint64{1, 2, 3}, nil), line(2, []uint64{3, 4}, nil, fork(1, edge))}, 2, at(1, 0),
			"1:1 1:2 2:3 2:4 | 2:5"},
		"fork on an edge, the child is empty": {
			[]Line{line(1, []uint64{1, 2, 3}, nil), line(2, nil, nil, fork(1, edge))}, 2, at(1, 0), "1:1 1:2 | 2:3"},
		"two forks in one segment": {
			[]Line{line(1, []uint64{1, 2}, nil), line(2, nil, nil, fork(1, mid)), line(3, []uint64{3, 4}, nil, fork(1, mid), fork(2, mid+8))},
			3, at(1, 0), "1:1 1:2 3:3 3:4 | 3:5"},
		"two forks in one segment, the middle has it": {
			[]Line{line(1, []uint64{1, 2, 3}, nil), line(2, []uint64{3}, nil, fork(1, mid)), line(3, nil, nil, fork(1, mid), fork(2, mid+8))},
			3, at(1, 0), "1:1 1:2 2:3<308008 | 3:3"},
		"a timeline left at once": {
			[]Line{line(1, []uint64{1, 2}, nil), line(3, []uint64{3}, nil, fork(1, edge), fork(2, edge))}, 3, at(1, 0),
			"1:1 1:2 3:3 | 3:4"},
		"siblings don't mix": {
			[]Line{line(1, []uint64{1, 2, 3}, nil), line(2, []uint64{3, 4}, nil, fork(1, mid)), line(3, []uint64{3}, nil, fork(1, mid+64))},
			3, at(1, 0), "1:1 1:2 3:3 | 3:4"},
		"later WAL of a sibling is no hole": {
			[]Line{line(1, []uint64{1}, nil), line(2, []uint64{5}, nil, fork(1, at(1, 8))), line(3, nil, nil, fork(1, at(1, 64)))},
			3, at(1, 0), "1:1<100040 | 3:1"},
	} {
		t.Run(name, func(t *testing.T) {
			a := made(c.lines...)
			h := pg.History{Timeline: c.target}
			if l, ok := a.Find(c.target); ok {
				h = *l.History
			}
			if got := strings.TrimSpace(show(a.Path(h, c.from))); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Whatever is in the archive, a path has no gap, uses only what is there and
// belongs to the history, and ends only where nothing goes on.
func TestPathProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := made()
		var forks []pg.Fork
		for tli := pg.Timeline(1); tli <= 3; tli++ {
			l := line(tli, nil, nil, forks...)
			for n := range uint64(8) {
				if rapid.IntRange(0, 9).Draw(t, "there") > 1 {
					l.Segments = append(l.Segments, n)
				}
			}
			a.Lines = append(a.Lines, l)
			last := pg.LSN(0)
			if len(forks) > 0 {
				last = forks[len(forks)-1].At
			}
			step := rapid.SampledFrom([]pg.LSN{0, 8, 0x8000, segSize - 8, segSize, 2*segSize + 8}).Draw(t, "fork")
			forks = append(forks[:len(forks):len(forks)], fork(tli, last+step))
		}
		h := *a.Lines[rapid.IntRange(0, 2).Draw(t, "target")].History
		from := at(rapid.Uint64Range(0, 7).Draw(t, "from"), 8)
		p := a.Path(h, from)
		next := pg.SegmentAt(1, from, segSize).Start(segSize)
		for i, s := range p.Steps {
			if s.Segment.Start(segSize) != next || s.End <= next {
				t.Fatalf("step %d does not go on from %s: %s", i, next, show(p))
			}
			next = s.End
			l, _ := a.Find(s.Segment.Timeline)
			if !strings.Contains(fmt.Sprint(l.Segments), fmt.Sprint(s.Segment.Number)) {
				t.Fatalf("step %d is not there: %s", i, show(p))
			}
			if !h.Contains(s.Segment.Timeline, s.End) {
				t.Fatalf("step %d leaves the history: %s", i, show(p))
			}
		}
		if got := p.End(); len(p.Steps) > 0 && got != next {
			t.Fatalf("the path ends at %s, its last step at %s", got, next)
		}
		if p.End() >= from && (!a.Reaches(h, from, p.End()) || a.Reaches(h, from, p.End()+1)) {
			t.Fatalf("reaches does not agree with %s from %s", show(p), from)
		}
	})
}

func TestForkOf(t *testing.T) {
	a := made(line(1, nil, nil), line(2, nil, nil, fork(1, 900)), line(3, nil, nil, fork(1, 500)),
		line(4, nil, nil, fork(1, 900), fork(2, 1200)), Line{Timeline: 5})
	for tli, want := range map[pg.Timeline]pg.LSN{1: 500, 2: 1200, 3: 0, 4: 0, 5: 0} {
		if got, ok := a.ForkOf(tli); got != want || ok != (want != 0) {
			t.Errorf("timeline %d was left at %s, %v; want %s", tli, got, ok, want)
		}
	}
}

func TestRanges(t *testing.T) {
	r := func(from, to uint64, lost bool) Range { return Range{at(from, 0), at(to, 0), lost} }
	child := func(at pg.LSN) Line { return line(2, []uint64{5}, nil, fork(1, at)) }
	for name, c := range map[string]struct {
		segments []uint64
		other    []Line
		want     []Range
	}{
		"none":                       {nil, nil, nil},
		"one stretch":                {[]uint64{1, 2, 3}, nil, []Range{r(1, 4, false)}},
		"a hole":                     {[]uint64{1, 2, 5}, nil, []Range{r(1, 3, false), r(3, 5, true), r(5, 6, false)}},
		"a hole before the fork":     {[]uint64{1, 3, 5}, []Line{child(at(5, 9))}, []Range{r(1, 2, false), r(2, 3, true), r(3, 4, false), r(4, 5, true), r(5, 6, false)}},
		"no hole at the fork":        {[]uint64{1, 2, 5}, []Line{child(at(3, 9))}, []Range{r(1, 3, false), r(5, 6, false)}},
		"no hole at the fork's edge": {[]uint64{1, 2, 5}, []Line{child(at(3, 0))}, []Range{r(1, 3, false), r(5, 6, false)}},
		"no hole after the fork":     {[]uint64{1, 2, 5}, []Line{child(at(2, 9))}, []Range{r(1, 3, false), r(5, 6, false)}},
	} {
		l := line(1, c.segments, nil)
		a := made(append([]Line{l}, c.other...)...)
		if d := cmp.Diff(c.want, a.Ranges(l)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestAfter(t *testing.T) {
	a := made(line(1, []uint64{1, 2, 5}, nil), line(2, []uint64{3, 4}, nil, fork(1, at(3, 8))))
	seg := func(tli pg.Timeline, n uint64) pg.Segment { return pg.Segment{Timeline: tli, Number: n} }
	for _, c := range []struct{ seg, want pg.Segment }{
		{seg(1, 1), seg(1, 2)},
		{seg(1, 2), seg(2, 3)}, // what timeline 1 has after the fork belongs to nobody
		{seg(1, 3), pg.Segment{}},
		{seg(1, 4), seg(1, 5)}, // past the fork it is its own line
		{seg(2, 3), seg(2, 4)},
		{seg(2, 4), pg.Segment{}},
	} {
		got, ok := a.After(c.seg)
		if got != c.want || ok != (c.want != pg.Segment{}) {
			t.Errorf("after %v: %v, want %v", c.seg, got, c.want)
		}
	}
}

func TestReadArchive(t *testing.T) {
	w := newWorld(t)
	w.segments(1, 1, 3)
	w.segments(2, 3, 3)
	w.segments(0xA0, 9, 9)
	w.history(2, historyLine(1, at(3, 0x8000)))
	name := pg.Segment{Timeline: 1, Number: 3}.Name(segSize)
	for _, key := range []string{
		testPlace.WALName(1, name+".partial"),
		testPlace.WALName(1, name+".00000028.backup"),
		testPlace.WALName(1, "pieces/3-4"),
		testPlace.WALName(7, name), // of another timeline than its folder
		testPlace.walPrefix() + "notes",
	} {
		w.put(key, []byte("x"))
	}
	want := made(line(1, []uint64{1, 2, 3}, []uint64{3}), line(2, []uint64{3}, nil, pg.Fork{Timeline: 1, At: at(3, 0x8000), Reason: "no recovery target specified"}),
		Line{Timeline: 0xA0, Segments: []uint64{9}})
	for i := range want.Lines {
		want.Lines[i].Place = testPlace
	}
	got := w.archive()
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Line{}, "Newest")); d != "" {
		t.Error(d)
	}
	if got.Newest() != 0xA0 || (Archive{}).Newest() != 0 {
		t.Error("the newest timeline is wrong")
	}

	key := testPlace.WALName(2, pg.Timeline(2).HistoryName())
	raw := w.raw(key)
	raw[len(raw)-20] ^= 1
	w.put(key, raw)
	got = w.archive()
	if bad := got.Unreadable(); len(bad) != 1 || !errors.Is(bad[0], repo.ErrDamaged) || !strings.Contains(bad[0].Error(), key) {
		t.Errorf("a damaged history: %v", bad)
	}
	want.Lines[1].History, want.Lines[1].Unreadable = nil, got.Lines[1].Unreadable
	if d := cmp.Diff(want, got, cmpopts.EquateErrors(), cmpopts.IgnoreFields(Line{}, "Newest")); d != "" {
		t.Error(d)
	}
}
