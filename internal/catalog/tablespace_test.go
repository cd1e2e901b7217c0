package catalog

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// created is the record of a CREATE TABLESPACE; prev is where the one before starts.
func created(oid pg.OID, location string, lsn, prev pg.LSN) walrec.Event {
	return walrec.Event{Kind: walrec.TablespaceCreate, Tablespace: oid, Location: location, LSN: lsn, EndLSN: lsn + 0x40, Prev: prev}
}

func TestNewTablespaces(t *testing.T) {
	w := newWorld(t)
	ta, tb, tc, td := at(1, 0x3000), at(2, 0x1000), at(3, 0x30), at(4, 0x900)
	w.segments(1, 1, 5,
		created(1, "/before", at(1, 0x10), at(0, 0x100)),
		created(2, "/during", ta, at(1, 0x2000)),
		commit(at(1, 0x9000), 701, minute(11)),
		created(3, "/after", tb, at(2, 0xF00)),
		created(4, "", at(2, 0x1100), tb), // in pg_tblspc
		commit(at(2, 0x2000), 702, minute(20)), point(at(2, 0x3000), "here", minute(21)),
		created(5, "/next segment", tc, at(2, 0xF0000)),
		commit(at(3, 0x2000), 703, minute(30)),
		created(6, "/last", td, at(4, 0x800)),
		commit(at(4, 0x2000), 704, minute(40)))
	w.backup("000001", 1, at(1, 0x28), at(1, 0x8000), minute(10))

	lsn := func(l pg.LSN) Target { return Target{Kind: ToLSN, LSN: l} }
	before := func(t Target) Target { t.Exclusive = true; return t }
	for name, c := range map[string]struct {
		target Target
		want   string
	}{
		"latest":                                {Target{}, "/during /after /next segment /last"},
		"immediate":                             {Target{Kind: ToImmediate}, "/during"},
		"a time before":                         {Target{Kind: ToTime, Time: minute(11)}, "/during /after"}, // up to the next commit
		"before a time":                         {before(Target{Kind: ToTime, Time: minute(11)}), "/during"},
		"a time":                                {Target{Kind: ToTime, Time: minute(25)}, "/during /after /next segment"},
		"the time of the last commit":           {Target{Kind: ToTime, Time: minute(40)}, "/during /after /next segment /last"},
		"a transaction":                         {Target{Kind: ToXID, XID: 702}, "/during /after"},
		"before a transaction":                  {before(Target{Kind: ToXID, XID: 702}), "/during /after"},
		"a restore point":                       {Target{Kind: ToRestorePoint, Name: "here"}, "/during /after"},
		"its position":                          {lsn(tb), "/during /after"},
		"before its position":                   {before(lsn(tb)), "/during"},
		"inside the record before":              {lsn(at(2, 0xF01)), "/during /after"},
		"inside the record before, exclusive":   {before(lsn(at(2, 0xF01))), "/during"},
		"the record before":                     {lsn(at(2, 0xF00)), "/during"},
		"inside it":                             {lsn(tb + 1), "/during /after"},
		"the record before, in another segment": {lsn(at(2, 0xF0000)), "/during /after"},
		"inside that":                           {lsn(at(2, 0xF0008)), "/during /after /next segment"},
	} {
		t.Run(name, func(t *testing.T) {
			choice, err := w.life().Resolve(t.Context(), w.objects, c.target)
			w.must(err)
			list, err := choice.NewTablespaces(t.Context(), w.objects, c.target)
			w.must(err)
			var got []string
			for _, n := range list {
				got = append(got, n.Location)
			}
			if d := cmp.Diff(c.want, strings.Join(got, " ")); d != "" {
				t.Error(d)
			}
		})
	}

	// What is broken after the target does not matter; what is broken before does.
	target := lsn(at(2, 0x2000))
	choice, err := w.life().Resolve(t.Context(), w.objects, target)
	w.must(err)
	w.breakSegment(1, 3)
	list, err := choice.NewTablespaces(t.Context(), w.objects, target)
	w.must(err)
	want := []NewTablespace{{2, "/during", ta}, {3, "/after", tb}}
	if d := cmp.Diff(want, list); d != "" {
		t.Error(d)
	}
	w.breakSegment(1, 2)
	if _, err := choice.NewTablespaces(t.Context(), w.objects, target); err == nil || !strings.Contains(err.Error(), w.segmentName(1, 2)) {
		t.Errorf("a broken segment before the target: %v", err)
	}
}

// breakSegment puts an object in a segment's place that is none.
func (w *world) breakSegment(tli pg.Timeline, n uint64) {
	w.t.Helper()
	w.remove(tli, n)
	w.must(w.objects.Put(w.t.Context(), w.segmentName(tli, n), seal.WALSmall, []byte("x")))
}
