package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// The backups of the tests, by the ends of their identifiers.
const (
	b1 = "20261124T060000Z-000001"
	b2 = "20261124T060000Z-000002"
	b3 = "20261124T060000Z-000003"
)

// Places in the WAL of timeline 1 in singleLine.
var (
	c1 = at(1, 0x9000)
	c2 = at(2, 0x100)
	r1 = at(2, 0x2000)
	c3 = at(3, 0x100)
	r2 = at(4, 0x400) // while backup 2 is made
	r3 = at(4, 0x1000)
	c4 = at(5, 0x100)
)

// singleLine is a cluster with one timeline, two backups and WAL to segment 6.
func singleLine(t testing.TB) *world {
	w := newWorld(t)
	abort := commit(at(2, 0x4000), 703, minute(21))
	abort.Kind = walrec.Abort
	prepared := commit(at(3, 0x4000), 650, minute(29)) // its time is older than its place
	prepared.Kind = walrec.CommitPrepared
	w.segments(1, 1, 6,
		commit(at(1, 0x2000), 700, minute(9)), // while backup 1 is made
		commit(c1, 701, minute(11)), commit(c2, 702, minute(20)), point(r1, "release", minute(20.5)), abort,
		commit(c3, 704, minute(30)), prepared, point(r2, "release", minute(39)), point(r3, "release", minute(41)),
		walrec.Event{Kind: walrec.CheckpointOnline, LSN: at(4, 0x8000), EndLSN: at(4, 0x8078), Redo: at(4, 0x28), Timeline: 1, PrevTimeline: 1, Time: minute(59)},
		commit(c4, 705, minute(50)))
	w.backup("000001", 1, at(1, 0x28), at(1, 0x8000), minute(10))
	w.backup("000002", 1, at(4, 0x28), at(4, 0x800), minute(40))
	return w
}

// resolution is what a Choice says, shortly.
type resolution struct {
	Backup string
	Stop   pg.LSN
	Last   pg.LSN // of the last commit before, 0 for none
	ByLSN  bool
}

func (w *world) resolve(target Target) (resolution, error) {
	c, err := w.life().Resolve(w.t.Context(), w.objects, target)
	r := resolution{c.Backup.ID, c.StopLSN, 0, c.ByLSN}
	if c.LastCommit != nil {
		r.Last = c.LastCommit.LSN
	}
	return r, err
}

func TestResolve(t *testing.T) {
	w := singleLine(t)
	when := func(m float64) Target { return Target{Kind: ToTime, Time: minute(m)} }
	before := func(m float64) Target { return Target{Kind: ToTime, Time: minute(m), Exclusive: true} }
	from := func(id string, t Target) Target { t.BackupID = id; return t }
	name := func(s string) Target { return Target{Kind: ToRestorePoint, Name: s} }
	xid := func(x uint32) Target { return Target{Kind: ToXID, XID: x} }
	lsn := func(l pg.LSN) Target { return Target{Kind: ToLSN, LSN: l} }
	for what, c := range map[string]struct {
		target Target
		want   resolution
	}{
		"latest":                            {Target{}, resolution{b2, at(7, 0), c4, false}},
		"latest from the first":             {from(b1, Target{}), resolution{b1, at(7, 0), c4, false}},
		"immediate":                         {Target{Kind: ToImmediate}, resolution{b2, at(4, 0x800), 0, false}},
		"immediate of the first":            {from(b1, Target{Kind: ToImmediate}), resolution{b1, at(1, 0x8000), 0, false}},
		"time between commits":              {when(25), resolution{b1, c3, at(2, 0x4000), false}},
		"time of a commit":                  {when(20), resolution{b1, at(2, 0x4000), c2, false}},
		"time of an abort":                  {when(21), resolution{b1, c3, at(2, 0x4000), false}},
		"time of the last commit":           {when(50), resolution{b2, c4, c4, true}},
		"before the time of the last":       {before(50), resolution{b2, c4, 0, false}},
		"before the time of a commit":       {before(20), resolution{b1, c2, c1, false}},
		"just after a commit":               {when(20.001), resolution{b1, at(2, 0x4000), c2, false}},
		"just before a commit":              {when(19.999), resolution{b1, c2, c1, false}},
		"end of the first backup":           {when(10), resolution{b1, c1, at(1, 0x2000), false}},
		"time between backups and a commit": {when(35), resolution{b1, c4, at(3, 0x4000), false}},
		"end of the second backup":          {when(40), resolution{b2, c4, 0, false}},
		"an older time out of order":        {when(29.5), resolution{b1, c3, at(2, 0x4000), false}},
		"the first backup on wish":          {from(b1, when(45)), resolution{b1, c4, at(3, 0x4000), false}},
		"xid":                               {xid(702), resolution{b1, c2, c1, false}},
		"xid of an abort":                   {xid(703), resolution{b1, at(2, 0x4000), c2, false}},
		"xid of a prepared":                 {xid(650), resolution{b1, at(3, 0x4000), c3, false}},
		"xid after the second":              {xid(705), resolution{b2, c4, 0, false}},
		"xid, not included":                 {Target{Kind: ToXID, XID: 702, Exclusive: true}, resolution{b1, c2, c1, false}},
		"restore point, the newest":         {name("release"), resolution{b2, r3, 0, true}},
		"restore point from the first":      {from(b1, name("release")), resolution{b1, r1, c2, false}},
		"lsn at consistency":                {lsn(at(1, 0x8000)), resolution{b1, at(1, 0x8000), 0, false}},
		"lsn between":                       {lsn(at(3, 0x500)), resolution{b1, at(3, 0x500), 0, false}},
		"lsn in the second backup":          {lsn(at(4, 0x700)), resolution{b1, at(4, 0x700), 0, false}},
		"lsn of an event":                   {lsn(c4), resolution{b2, c4, 0, false}},
		"lsn after the last event":          {lsn(at(5, 0x5000)), resolution{b2, at(5, 0x5000), 0, false}},
	} {
		t.Run(what, func(t *testing.T) {
			got, err := w.resolve(c.target)
			if d := cmp.Diff(c.want, got); err != nil || d != "" {
				t.Errorf("%s: %v\n%s", c.target, err, d)
			}
		})
	}
}

// The end of the newest backup can be recovered to, also when nothing was committed
// after it: the window that is shown begins and ends with times that --at takes.
func TestResolveToTheEndOfABackup(t *testing.T) {
	w := singleLine(t)
	w.backup("000003", 1, at(6, 0x28), at(6, 0x800), minute(55))
	life := w.life()
	window, err := life.Window(t.Context(), w.objects)
	if err != nil || !window.To.Time.Equal(minute(55)) {
		t.Fatalf("the window ends at %v, %v", window.To, err)
	}
	c, err := life.Resolve(t.Context(), w.objects, Target{Kind: ToTime, Time: window.To.Time})
	if err != nil || !c.Consistent || c.Backup.ID != b3 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := life.Resolve(t.Context(), w.objects, Target{Kind: ToTime, Time: window.To.Time.Add(time.Microsecond)}); !errors.As(err, new(*NotCovered)) {
		t.Errorf("a moment later: %v", err)
	}
}

func TestNotCovered(t *testing.T) {
	for what, c := range map[string]struct {
		change   func(w *world)
		target   Target
		reason   string
		possible string
	}{
		"before the first backup": {nil, Target{Kind: ToTime, Time: minute(9.9)},
			b1 + " ended at 2026-11-24T06:10:00Z, after the target", "from 2026-11-24T06:10:00Z to 2026-11-24T06:50:00Z"},
		"just after the last commit": {nil, Target{Kind: ToTime, Time: minute(50).Add(time.Microsecond)}, "the last commit before is at 2026-11-24T06:50:00Z, nothing was committed after", "--latest"},
		"time after the last":        {nil, Target{Kind: ToTime, Time: minute(1000)}, "nothing was committed after the target", "--latest"},
		"before the chosen backup":   {nil, Target{Kind: ToTime, Time: minute(30), BackupID: b2}, "after the target", "from"},
		"xid never ended":            {nil, Target{Kind: ToXID, XID: 999}, "not after backup", "from"},
		"xid while the backup was made": {nil, Target{Kind: ToXID, XID: 700},
			"it lies at 0/102000, before backup " + b1 + " is consistent at 0/108000", "from"},
		"restore point never made":    {nil, Target{Kind: ToRestorePoint, Name: "relase"}, "not after backup " + b1, "from"},
		"lsn before the first backup": {nil, Target{Kind: ToLSN, LSN: at(1, 0x7000)}, "oldest backup that could serve, " + b1, "from"},
		"lsn after the archive":       {nil, Target{Kind: ToLSN, LSN: at(9, 0)}, "does not go past it: it ends at 0/700000", "from"},
		"lsn at the archive's end":    {nil, Target{Kind: ToLSN, LSN: at(7, 0)}, "does not go past it", "from"},
		"no backup": {func(w *world) {
			for id := range w.heads {
				w.must(w.mem.Delete(w.t.Context(), testPlace.backupName(id, "head"), ""))
			}
		}, Target{}, "there is no backup", "salvor backup"},
		"latest across a hole": {func(w *world) { w.remove(1, 5) }, Target{}, "000000010000000000000005 is missing", "to 2026-11-24T06:40:00Z"},
		"a target behind a hole": {func(w *world) { w.remove(1, 5) }, Target{Kind: ToTime, Time: minute(45)},
			"lacks segment 000000010000000000000005", "from 2026-11-24T06:10:00Z to 2026-11-24T06:40:00Z"},
		"a target in a hole": {func(w *world) { w.remove(1, 2) }, Target{Kind: ToTime, Time: minute(15)},
			"lacks segment 000000010000000000000002", "from 2026-11-24T06:40:00Z"},
		"WAL of the backup is missing": {func(w *world) { w.remove(1, 1) }, Target{Kind: ToTime, Time: minute(15)},
			"backup " + b1 + " needs WAL up to 0/108000, and segment 000000010000000000000001 is missing", "from 2026-11-24T06:40:00Z"},
		"WAL of every backup is missing": {func(w *world) { w.remove(1, 1, 4) }, Target{Kind: ToImmediate},
			"segment 000000010000000000000004 is missing", "nothing can be recovered"},
		"a timeline that is not there": {nil, Target{Timeline: 7}, "the archive has no timeline 7", "--timeline"},
	} {
		t.Run(what, func(t *testing.T) {
			w := singleLine(t)
			if c.change != nil {
				c.change(w)
			}
			got, err := w.resolve(c.target)
			var no *NotCovered
			if !errors.As(err, &no) {
				t.Fatalf("%s: %+v, %v", c.target, got, err)
			}
			if !strings.Contains(no.Reason, c.reason) || !strings.Contains(no.Possible, c.possible) {
				t.Errorf("%s:\nreason   %s\nwant     … %s …\npossible %s\nwant     … %s …", c.target, no.Reason, c.reason, no.Possible, c.possible)
			}
			if !strings.Contains(err.Error(), no.Reason) || !strings.Contains(err.Error(), c.target.String()) {
				t.Errorf("the error does not say all: %v", err)
			}
		})
	}
	if _, err := singleLine(t).resolve(Target{BackupID: b3}); !errors.Is(err, ErrNoBackup) {
		t.Errorf("a backup that is not there: %v", err)
	}
}

// A hole behind which a newer backup stands does not matter to it.
func TestResolveAfterHole(t *testing.T) {
	w := singleLine(t)
	w.remove(1, 3)
	for target, want := range map[Target]resolution{
		{}:                               {b2, at(7, 0), c4, false},
		{Kind: ToTime, Time: minute(45)}: {b2, c4, 0, false},
		{Kind: ToTime, Time: minute(20)}: {b1, at(2, 0x4000), c2, false},
	} {
		if got, err := w.resolve(target); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", target, got, err, want)
		}
	}
}

// forked is a cluster that failed over in segment 3, and whose old primary archived
// on: a backup before, one on the old timeline past the fork, one on the new.
func forked(t testing.TB) *world {
	w := newWorld(t)
	fork := at(3, 0x8000)
	w.segments(1, 1, 4, commit(at(2, 0x100), 700, minute(20)), commit(at(3, 0x100), 701, minute(25)),
		commit(at(3, 0x9000), 702, minute(31)), commit(at(4, 0x100), 703, minute(45)))
	w.segments(2, 3, 6, commit(at(3, 0x100), 701, minute(25)), commit(at(3, 0x8100), 702, minute(32)),
		commit(at(5, 0x100), 703, minute(50)), point(at(5, 0x200), "after", minute(51)))
	w.history(2, historyLine(1, fork))
	w.backup("000001", 1, at(1, 0x28), at(1, 0x8000), minute(10))
	w.backup("000002", 1, at(4, 0x28), at(4, 0x800), minute(46)) // nobody should have made it
	w.backup("000003", 2, at(4, 0x28), at(4, 0x800), minute(48))
	return w
}

func TestResolveTimelines(t *testing.T) {
	w := forked(t)
	when := func(m float64, tli TimelineChoice) Target {
		return Target{Kind: ToTime, Time: minute(m), Timeline: tli}
	}
	for what, c := range map[string]struct {
		target Target
		want   resolution
	}{
		"latest":                      {Target{}, resolution{b3, at(7, 0), at(5, 0x100), false}},
		"time on both sides":          {when(31.5, Latest), resolution{b1, at(3, 0x8100), at(3, 0x100), false}},
		"time on the old one":         {when(31.5, 1), resolution{b1, at(4, 0x100), at(3, 0x9000), false}},
		"current is by backup":        {Target{Kind: ToTime, Time: minute(31.5), Timeline: Current, BackupID: b1}, resolution{b1, at(4, 0x100), at(3, 0x9000), false}},
		"latest of the old one":       {Target{Timeline: 1}, resolution{b2, at(5, 0), at(4, 0x100), false}},
		"latest of the new by number": {Target{Timeline: 2}, resolution{b3, at(7, 0), at(5, 0x100), false}},
		"a backup across the fork":    {Target{Kind: ToRestorePoint, Name: "after", BackupID: b1}, resolution{b1, at(5, 0x200), at(5, 0x100), false}},
		"lsn just past the fork":      {Target{Kind: ToLSN, LSN: at(3, 0x8050)}, resolution{b1, at(3, 0x8050), 0, false}},
		"immediate needs no timeline": {Target{Kind: ToImmediate, BackupID: b2}, resolution{b2, at(4, 0x800), 0, false}},
	} {
		t.Run(what, func(t *testing.T) {
			got, err := w.resolve(c.target)
			if d := cmp.Diff(c.want, got); err != nil || d != "" {
				t.Errorf("%v\n%s", err, d)
			}
		})
	}
	var no *NotCovered
	if _, err := w.resolve(Target{BackupID: b2}); !errors.As(err, &no) || !strings.Contains(no.Reason, "is not on the way to timeline 2") {
		t.Errorf("latest from a backup past the fork: %v", err)
	}
	w.must(w.mem.Delete(t.Context(), testPlace.WALName(2, "00000002.history"), ""))
	if _, err := w.resolve(Target{BackupID: b1}); !errors.As(err, &no) || !strings.Contains(no.Reason, "no 00000002.history") {
		t.Errorf("without the history: %v", err)
	}
}

func TestWindow(t *testing.T) {
	type window struct {
		OK       bool
		From, To time.Time
		End      pg.LSN
		Newest   string
		Hole     bool
	}
	for what, c := range map[string]struct {
		world  func(testing.TB) *world
		change func(w *world)
		want   window
	}{
		"unbroken": {singleLine, nil, window{true, minute(10), minute(50), at(7, 0), b2, false}},
		"a hole after the newest backup": {singleLine, func(w *world) { w.remove(1, 5) },
			window{true, minute(10), minute(40), at(5, 0), b2, true}},
		"a hole between the backups": {singleLine, func(w *world) { w.remove(1, 3) },
			window{true, minute(40), minute(50), at(7, 0), b2, false}},
		"the newest is not usable": {singleLine, func(w *world) { w.remove(1, 4) },
			window{true, minute(10), minute(29), at(4, 0), b1, true}},
		"the oldest is not usable": {singleLine, func(w *world) { w.remove(1, 1) },
			window{true, minute(40), minute(50), at(7, 0), b2, false}},
		"no WAL":     {singleLine, func(w *world) { w.remove(1, 1, 2, 3, 4, 5, 6) }, window{}},
		"no backup":  {newWorld, nil, window{}},
		"a failover": {forked, nil, window{true, minute(10), minute(50), at(7, 0), b3, false}},
		"the new timeline cannot be reached": {singleLine, func(w *world) {
			w.segments(2, 2, 3)
			w.history(2, historyLine(1, at(2, 0x8000)))
		}, window{true, minute(10), minute(50), at(7, 0), b2, false}},
	} {
		t.Run(what, func(t *testing.T) {
			w := c.world(t)
			if c.change != nil {
				c.change(w)
			}
			got, err := w.life().Window(t.Context(), w.objects)
			w.must(err)
			short := window{got.OK, got.From, got.To.Time, got.EndLSN, got.Newest.ID, got.Hole}
			if d := cmp.Diff(c.want, short); d != "" {
				t.Error(d)
			}
			if got.OK == (got.Reason != "") {
				t.Errorf("OK is %v, and the reason %q", got.OK, got.Reason)
			}
		})
	}
}

// A backup that carries its WAL needs no archive to become consistent.
func TestWALIncluded(t *testing.T) {
	w := newWorld(t)
	h := Head{ID: b1, Kind: Full, Cluster: testPlace.Cluster, SystemID: testPlace.SystemID, Incarnation: testPlace.Incarnation,
		StoppedAt: minute(10), StartLSN: at(1, 0x28), StopLSN: at(1, 0x8000), Timeline: 1, Sizes: testSizes, WALIncluded: true}
	w.must(WriteHead(t.Context(), w.objects, h))
	for _, target := range []Target{{}, {Kind: ToImmediate}} {
		if got, err := w.resolve(target); err != nil || got != (resolution{b1, h.StopLSN, 0, false}) {
			t.Errorf("%s: %+v, %v", target, got, err)
		}
	}
	var no *NotCovered
	for _, target := range []Target{{Kind: ToTime, Time: minute(11)}, {Kind: ToXID, XID: 3}, {Kind: ToLSN, LSN: at(2, 0)}} {
		if _, err := w.resolve(target); !errors.As(err, &no) {
			t.Errorf("%s: %v", target, err)
		}
	}
	got, err := w.life().Window(t.Context(), w.objects)
	if err != nil || !got.OK || !got.To.Time.Equal(minute(10)) || got.EndLSN != h.StopLSN {
		t.Errorf("%+v, %v", got, err)
	}
}

// A commit whose record crosses from one segment into the next is found.
func TestCommitAcrossSegments(t *testing.T) {
	w := newWorld(t)
	one, two := index(1, 1), index(1, 2, commit(at(2, 0x100), 801, minute(30)))
	one.Tail, two.Head = splitCommit(1, 800, minute(20))
	w.store(w.segmentName(1, 1), one)
	w.store(w.segmentName(1, 2), two)
	w.segments(1, 3, 20)
	w.backup("000001", 1, at(1, 0x28), at(1, 0x8000), minute(10))
	cross := at(2, 0) - 16
	for target, want := range map[Target]resolution{
		{Kind: ToXID, XID: 800}:          {b1, cross, 0, false},
		{Kind: ToTime, Time: minute(15)}: {b1, cross, 0, false},
		{Kind: ToTime, Time: minute(25)}: {b1, at(2, 0x100), cross, false},
		{}:                               {b1, at(21, 0), at(2, 0x100), false},
	} {
		if got, err := w.resolve(target); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", target, got, err, want)
		}
	}

	two.Head.Sum ^= 1
	w.must(w.mem.Delete(t.Context(), w.segmentName(1, 2), ""))
	w.store(w.segmentName(1, 2), two)
	if _, err := w.resolve(Target{Kind: ToXID, XID: 801}); !errors.Is(err, walrec.ErrChecksum) {
		t.Errorf("a record that does not fit together: %v", err)
	}
}

// WAL that ends early ends the path; WAL that is broken is an error, but only to
// who has to go past it.
func TestEndings(t *testing.T) {
	w := newWorld(t)
	w.backup("000001", 1, at(1, 0x28), at(1, 0x8000), minute(10))
	x := index(1, 1, commit(at(1, 0x9000), 700, minute(20)))
	x.To, x.Ending = at(1, 0x9028), walrec.Damaged
	w.store(w.segmentName(1, 1), x)
	w.segments(1, 2, 2, commit(at(2, 0x100), 701, minute(30)))
	if got, err := w.resolve(Target{Kind: ToXID, XID: 700}); err != nil || got.Stop != at(1, 0x9000) {
		t.Errorf("before the damage: %+v, %v", got, err)
	}
	if _, err := w.resolve(Target{Kind: ToXID, XID: 701}); !errors.Is(err, repo.ErrDamaged) || !strings.Contains(err.Error(), w.segmentName(1, 1)) {
		t.Errorf("past the damage: %v", err)
	}
	w.must(w.mem.Delete(t.Context(), w.segmentName(1, 1), ""))
	x.Ending = walrec.EndsEarly
	w.store(w.segmentName(1, 1), x)
	var no *NotCovered
	if _, err := w.resolve(Target{Kind: ToXID, XID: 701}); !errors.As(err, &no) {
		t.Errorf("past the end: %v", err)
	}
}

// One damaged head hides no other backup; but who needs to know all is told.
func TestDamagedHead(t *testing.T) {
	w := singleLine(t)
	key := testPlace.backupName(b2, "head")
	raw := w.raw(key)
	raw[len(raw)-20] ^= 1
	w.put(key, raw)
	if _, err := Backups(t.Context(), w.objects, testPlace); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("Backups: %v", err)
	}
	l := w.life()
	if len(l.Backups) != 1 || len(l.Unreadable) != 1 || !errors.Is(l.Unreadable[0], repo.ErrDamaged) {
		t.Errorf("%d backups, unreadable: %v", len(l.Backups), l.Unreadable)
	}
	if got, err := w.resolve(Target{}); err != nil || got.Backup != b1 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := w.resolve(Target{BackupID: b2}); errors.Is(err, ErrNoBackup) || !errors.Is(err, repo.ErrDamaged) || !strings.Contains(err.Error(), key) {
		t.Errorf("the damaged one itself: %v", err)
	}
	if _, err := w.resolve(Target{BackupID: "20261124T060000Z-ffffff"}); !errors.Is(err, ErrNoBackup) || errors.Is(err, repo.ErrDamaged) {
		t.Errorf("one that is not there: %v", err)
	}
}

// A store that fails is no end of the WAL.
func TestResolveStoreFails(t *testing.T) {
	w := singleLine(t)
	for _, op := range []mem.Op{mem.OpStat, mem.OpOpen, mem.OpRead} {
		l := w.life()
		m := mem.New(mem.Options{Hook: func(_ context.Context, c *mem.Call) error {
			if c.Op == op && c.Key == w.segmentName(1, 5) {
				return fmt.Errorf("gone: %w", store.ErrUnavailable)
			}
			return nil
		}})
		for o, err := range w.mem.List(t.Context(), "", store.ListOptions{}) {
			w.must(err)
			_, err = store.Put(t.Context(), m, o.Key, w.raw(o.Key), store.CreateOptions{})
			w.must(err)
		}
		broken := &world{t: t, mem: m, objects: sealed(m), origin: w.origin}
		for _, target := range []Target{{}, {Kind: ToTime, Time: minute(45)}, {Kind: ToXID, XID: 999}, {Kind: ToLSN, LSN: c4}} {
			if _, err := broken.resolve(target); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s fails, %s: %v", op, target, err)
			}
		}
		if _, err := l.Window(t.Context(), broken.objects); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s fails, window: %v", op, err)
		}
	}
}

func TestParseTimelineChoice(t *testing.T) {
	for s, want := range map[string]TimelineChoice{"": Latest, "latest": Latest, "current": Current, "1": 1, "0x0A": 10, "4294967295": 4294967295} {
		if got, err := ParseTimelineChoice(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"0", "-1", "x", "4294967296", "Latest", "1 "} {
		if got, err := ParseTimelineChoice(s); err == nil {
			t.Errorf("%q was read as %v", s, got)
		}
	}
}
