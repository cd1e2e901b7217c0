package summary

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
)

const (
	segmentBlocks = 4 // of a file, so that few blocks make many files
	fileMost      = 14
)

// world is what a server has on disk, and a number for each write, so that pages
// can be told apart. Zero is a page of zeros.
type world struct {
	next  int
	forks map[fork][]int
	lsn   pg.LSN
	steps []int
}

func (w *world) clone() map[fork][]int {
	c := map[fork][]int{}
	for f, pages := range w.forks {
		c[f] = slices.Clone(pages)
	}
	return c
}

// often gives the first value nine times of ten.
func often[T any](t *rapid.T, usual, other T) T {
	return rapid.SampledFrom(append(slices.Repeat([]T{usual}, 9), other)).Draw(t, "value")
}

func drawFork(t *rapid.T) fork {
	return fork{walrec.RelFileLocator{
		Tablespace: often(t, pg.OID(1663), 1664),
		Database:   often(t, pg.OID(5), 6),
		Number:     often(t, uint32(1), 2),
	}, often(t, walrec.ForkMain, often(t, walrec.ForkVM, walrec.ForkInit))}
}

const (
	write = iota
	truncate
	zeros
	create
	dropRelation
	copyDatabase
	dropDatabase
	dropTablespace
)

// Each as often as it is to be taken. What changes a database hides the rest, and so
// comes in some cases only.
var (
	calm  = slices.Concat(slices.Repeat([]int{write, truncate, zeros}, 10), slices.Repeat([]int{create, dropRelation}, 3))
	rough = append(slices.Repeat([]int{write, copyDatabase}, 5), dropDatabase, dropTablespace, truncate)
)

// step changes something and gives the record that says so, as PostgreSQL would.
func (w *world) step(t *rapid.T) walrec.Record {
	f := drawFork(t)
	w.lsn += 8
	r := walrec.Record{LSN: w.lsn, EndLSN: w.lsn + 8, Manager: 10}
	pages, exists := w.forks[f]
	switch what := rapid.SampledFrom(w.steps).Draw(t, "what"); {
	case what == dropDatabase:
		r.Change, r.Database, r.Tablespaces = walrec.DatabaseDropped, f.Database, []pg.OID{1663, 1664}
		for g := range w.forks {
			if g.Database == f.Database {
				delete(w.forks, g)
			}
		}
	case what == copyDatabase: // a copy of files, without a record for each
		r.Change, r.Database, r.Tablespaces = walrec.DatabaseCopied, f.Database, []pg.OID{f.Tablespace}
		for g := range w.forks {
			if g.Database == f.Database && g.Tablespace == f.Tablespace {
				delete(w.forks, g)
			}
		}
		for range 3 {
			g := drawFork(t)
			g.Tablespace, g.Database = f.Tablespace, f.Database
			w.forks[g] = w.write(3)
		}
	case what == dropTablespace:
		r.Change, r.Tablespaces = walrec.TablespaceDropped, []pg.OID{f.Tablespace}
		for g := range w.forks {
			if g.Tablespace == f.Tablespace {
				delete(w.forks, g)
			}
		}
	case what == dropRelation:
		r.Change, r.Dropped = walrec.RelationsDropped, []walrec.RelFileLocator{f.RelFileLocator}
		for number := range uint8(4) {
			delete(w.forks, fork{f.RelFileLocator, number})
		}
	case !exists || what == create:
		r.Change, r.Relation, r.Forks = walrec.ForkCreated, f.RelFileLocator, 1<<f.number
		w.forks[f] = []int{}
	case what == truncate && f.number == walrec.ForkMain:
		r.Change, r.Relation, r.Forks = walrec.RelationTruncated, f.RelFileLocator, 1<<f.number
		r.Size = uint32(rapid.IntRange(0, len(pages)).Draw(t, "size"))
		w.forks[f] = pages[:r.Size]
	case what == zeros && len(pages) < fileMost: // zeros, without a record
		w.forks[f] = append(pages, 0, 0)
	default:
		n := rapid.SampledFrom(slices.Repeat([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, 2)).Draw(t, "block")
		if n = min(n, len(pages)); n == len(pages) {
			pages = append(pages, 0)
		}
		pages[n] = w.write(1)[0]
		w.forks[f] = pages
		r.Blocks = []walrec.BlockRef{{RelFileLocator: f.RelFileLocator, Fork: f.number, Block: uint32(n)}}
		if f.number == walrec.ForkVM && rapid.Bool().Draw(t, "unsaid") {
			r.Blocks = nil
		}
	}
	return r
}

func (w *world) write(n int) []int {
	pages := make([]int, n)
	for i := range pages {
		w.next++
		pages[i] = w.next
	}
	return pages
}

// TestChangedBlocksAreAllThatDiffer: whatever happens, a backup of the blocks that
// the Map gives and of the parent's others is what is there; and joined pieces of
// any size say the same as one pass.
func TestChangedBlocksAreAllThatDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{forks: map[fork][]int{}, steps: calm}
		if rapid.Bool().Draw(t, "rough") {
			w.steps = rough
		}
		for number := range uint32(2) {
			l := walrec.RelFileLocator{Tablespace: 1663, Database: 5, Number: number + 1}
			w.forks[fork{l, walrec.ForkMain}] = w.write(10)
		}
		for range rapid.IntRange(0, 20).Draw(t, "before") {
			w.step(t)
		}
		parent := w.clone()
		whole := NewBuilder()
		var parts []*Builder
		for range rapid.IntRange(0, 4).Draw(t, "pieces") {
			part := NewBuilder()
			for range rapid.IntRange(0, 20).Draw(t, "records") {
				r := w.step(t)
				whole.Record(&r)
				part.Record(&r)
			}
			parts = append(parts, part)
		}
		m := NewMap()
		for _, p := range rapid.Permutation(parts).Draw(t, "order") { // which does not matter
			m.Merge(decoded(t, p.m))
		}
		if !bytes.Equal(m.append(nil), whole.m.append(nil)) {
			t.Fatal("pieces say something else than the whole")
		}
		for f, now := range w.forks {
			checkFork(t, m, f, parent[f], now)
		}
	})
}

// decoded sends a Map through its encoded form.
func decoded(t interface{ Fatal(...any) }, m *Map) *Map {
	s, err := Decode(Encode(Summary{Map: m}))
	if err != nil {
		t.Fatal(err)
	}
	return s.Map
}

func checkFork(t *rapid.T, m *Map, f fork, parent, now []int) {
	for first := 0; first < len(now); first += segmentBlocks {
		had := parent[min(first, len(parent)):min(first+segmentBlocks, len(parent))]
		has := now[first:min(first+segmentBlocks, len(now))]
		b := m.Changed(File{
			Relation: datadir.Relation{Tablespace: f.Tablespace, Database: f.Database, Number: f.Number,
				Fork: datadir.Fork(f.number), Segment: uint32(first / segmentBlocks)},
			First: uint64(first), Had: uint32(len(had)), Has: uint32(len(has)),
		})
		restored := slices.Repeat([]int{-1}, len(has))
		copy(restored, had)
		read := map[uint32]bool{}
		end := uint32(0)
		for n, count := range b.Runs() {
			if count == 0 || n < end || end > 0 && n == end {
				t.Fatalf("a run of %d blocks from %d after %d", count, n, end)
			}
			end = n + count
			for ; n < end; n++ {
				restored[n], read[n] = has[n], true
			}
		}
		if !slices.Equal(restored, has) {
			t.Fatalf("%v from block %d: parent %v, now %v, restored %v", f, first, had, has, restored)
		}
		for n := range uint32(len(has)) {
			if b.Has(n) != read[n] {
				t.Fatalf("block %d: Has says %v", n, b.Has(n))
			}
		}
		if b.Count() != uint32(len(read)) || b.All() && len(read) != len(has) {
			t.Fatalf("%d of %d blocks: count %d, all %v", len(read), len(has), b.Count(), b.All())
		}
	}
}

// What each kind of record alone makes of a file that the parent has.
func TestRecordsChange(t *testing.T) {
	t.Parallel()
	l := walrec.RelFileLocator{Tablespace: 1663, Database: 5, Number: 77}
	relation := func(f datadir.Fork) File {
		return File{Relation: datadir.Relation{Tablespace: 1663, Database: 5, Number: 77, Fork: f}, Had: 9, Has: 9}
	}
	for _, tt := range []struct {
		r          walrec.Record
		main, init uint32 // blocks to read
	}{
		{walrec.Record{}, 0, 0},
		{walrec.Record{Blocks: []walrec.BlockRef{{RelFileLocator: l, Block: 3}, {RelFileLocator: l, Block: 8}, {RelFileLocator: l, Fork: walrec.ForkInit}}}, 2, 1},
		{walrec.Record{Blocks: []walrec.BlockRef{{RelFileLocator: l, Fork: walrec.ForkVM}, {RelFileLocator: l, Fork: walrec.ForkFSM}}}, 0, 0},
		{walrec.Record{Change: walrec.ForkCreated, Relation: l, Forks: 1 << walrec.ForkMain}, 9, 0},
		{walrec.Record{Change: walrec.ForkCreated, Relation: l, Forks: 1 << walrec.ForkInit}, 0, 9},
		{walrec.Record{Change: walrec.RelationTruncated, Relation: l, Forks: 1<<walrec.ForkMain | 1<<walrec.ForkVM, Size: 4}, 5, 0},
		{walrec.Record{Change: walrec.RelationTruncated, Relation: l, Forks: 1 << walrec.ForkVM}, 0, 0},
		{walrec.Record{Change: walrec.RelationsDropped, Dropped: []walrec.RelFileLocator{{Number: 1}, l}}, 9, 9},
		{walrec.Record{Change: walrec.DatabaseCopied, Database: 5, Tablespaces: []pg.OID{1663}}, 9, 9},
		{walrec.Record{Change: walrec.DatabaseCreated, Database: 5, Tablespaces: []pg.OID{1663}}, 9, 9},
		{walrec.Record{Change: walrec.DatabaseDropped, Database: 5, Tablespaces: []pg.OID{1700, 1663}}, 9, 9},
		{walrec.Record{Change: walrec.DatabaseDropped, Database: 5, Tablespaces: []pg.OID{1700}}, 0, 0},
		{walrec.Record{Change: walrec.TablespaceCreated, Tablespaces: []pg.OID{1663}}, 9, 9},
		{walrec.Record{Change: walrec.TablespaceDropped, Tablespaces: []pg.OID{1663}}, 9, 9},
		{walrec.Record{Change: walrec.TablespaceDropped, Tablespaces: []pg.OID{1700}}, 0, 0},
	} {
		b := NewBuilder()
		b.Record(&tt.r)
		m := decoded(t, b.m)
		main, init := m.Changed(relation(datadir.ForkMain)).Count(), m.Changed(relation(datadir.ForkInit)).Count()
		if main != tt.main || init != tt.init || len(b.reasons) != 0 {
			t.Errorf("%s, %d blocks: %d and %d are changed, want %d and %d", tt.r.Change, len(tt.r.Blocks), main, init, tt.main, tt.init)
		}
	}
}

func TestChanged(t *testing.T) {
	t.Parallel()
	l := walrec.RelFileLocator{Tablespace: 1663, Database: 5, Number: 77}
	file := func(first uint64, had, has uint32) File {
		return File{Relation: datadir.Relation{Tablespace: 1663, Database: 5, Number: 77}, First: first, Had: had, Has: has}
	}
	m := NewMap()
	for _, n := range []uint32{3, 4, 99, 131072, 131073, 140000, 262143, 262144} {
		m.Block(l, walrec.ForkMain, n)
	}
	tests := []struct {
		name  string
		limit uint32
		file  File
		want  []uint32 // first, count, …
	}{
		{"nothing else", noLimit, file(0, 131072, 131072), []uint32{3, 2, 99, 1}},
		{"second file", noLimit, file(131072, 131072, 131072), []uint32{0, 2, 8928, 1, 131071, 1}},
		{"third file", noLimit, file(262144, 5, 5), []uint32{0, 1}},
		{"grown", noLimit, file(0, 50, 100), []uint32{3, 2, 50, 50}},
		{"grown up to a listed one", noLimit, file(0, 5, 100), []uint32{3, 97}},
		{"shrunk without a word", noLimit, file(0, 100, 4), []uint32{3, 1}},
		{"new", noLimit, file(0, 0, 7), []uint32{0, 7}},
		{"empty", noLimit, file(0, 7, 0), nil},
		{"cut", 60, file(0, 100, 100), []uint32{3, 2, 60, 40}},
		{"cut after a listed one", 5, file(0, 100, 100), []uint32{3, 97}},
		{"cut in the file before", 60, file(131072, 100, 100), []uint32{0, 100}},
		{"cut in the file after", 262144, file(0, 100, 100), []uint32{3, 2, 99, 1}},
		{"created", 0, file(131072, 100, 100), []uint32{0, 100}},
	}
	for _, tt := range tests {
		m := decoded(t, m)
		m.Limit(l, walrec.ForkMain, tt.limit)
		var got []uint32
		for n, count := range m.Changed(tt.file).Runs() {
			got = append(got, n, count)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	for _, other := range []File{
		{Relation: datadir.Relation{Tablespace: 1663, Database: 5, Number: 78}, Had: 9, Has: 9},
		{Relation: datadir.Relation{Tablespace: 1663, Database: 6, Number: 77}, Had: 9, Has: 9},
		{Relation: datadir.Relation{Tablespace: 1663, Database: 5, Number: 77, Fork: datadir.ForkInit}, Had: 9, Has: 9},
	} {
		if b := m.Changed(other); b.Count() != 0 || b.All() {
			t.Errorf("%+v: %d changed", other.Relation, b.Count())
		}
	}
	for _, f := range []datadir.Fork{datadir.ForkFSM, datadir.ForkVM} {
		if b := m.Changed(File{Relation: datadir.Relation{Tablespace: 1663, Database: 5, Number: 78, Fork: f}, Had: 9, Has: 9}); !b.All() {
			t.Errorf("%s is not read whole", f)
		}
	}
}
