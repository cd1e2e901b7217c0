package walrec

import (
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/pg"
)

// clone keeps a Record beyond the call that it is given in.
func (r *Record) clone() Record {
	c := *r
	c.Blocks, c.Dropped, c.Tablespaces = slices.Clone(r.Blocks), slices.Clone(r.Dropped), slices.Clone(r.Tablespaces)
	return c
}

// recordsOf scans b with options that it changes to collect records.
func recordsOf(t interface{ Fatal(...any) }, b []byte, opts Options) ([]Record, Index, *Fragment, *Fragment) {
	var all []Record
	opts.Records = func(r *Record) { all = append(all, r.clone()) }
	s, err := NewScanner(opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range [][]byte{b[:len(b)/3], b[len(b)/3:]} {
		_, _ = s.Write(piece)
	}
	x, err := s.Finish()
	if err != nil {
		t.Fatal(err)
	}
	head, tail := s.Ends()
	return all, x, head, tail
}

// joinedRecords scans segment by segment, as they are archived, and puts the
// records that cross segments together.
func joinedRecords(t interface{ Fatal(...any) }, b []byte, segment int) (all []Record, indexes []Index) {
	var open []Fragment
	for ; len(b) > 0; b = b[min(segment, len(b)):] {
		own, x, head, tail := recordsOf(t, b[:min(segment, len(b))], Options{MaxFragment: 1 << 30})
		indexes = append(indexes, x)
		switch {
		case len(open) > 0 && head != nil:
			open = append(open, *head)
			r, err := JoinRecord(open[0], open[1:]...)
			if errors.Is(err, ErrIncomplete) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			all, open = append(all, r.clone()), nil
		case len(open) > 0 && !x.Header.Overwritten():
			t.Fatal("the rest of a record is missing")
		default:
			open = nil
		}
		all = append(all, own...)
		if tail != nil {
			open = []Fragment{*tail}
		}
	}
	return all, indexes
}

func drawLocator(t *rapid.T) RelFileLocator {
	return RelFileLocator{
		Tablespace: pg.OID(rapid.Uint32Range(1663, 1665).Draw(t, "tablespace")),
		Database:   pg.OID(rapid.Uint32Range(0, 3).Draw(t, "database")),
		Number:     rapid.Uint32Range(1, 5).Draw(t, "relation"),
	}
}

func appendNumbers(b []byte, numbers ...uint32) []byte {
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// randomBlocks writes a record with block references.
func randomBlocks(t *rapid.T, w *walWriter, major int) Record {
	var parts, body []byte
	r := Record{Manager: uint8(rapid.SampledFrom([]int{0, 9, 10, 11, 20, 21}).Draw(t, "manager")), Info: 0xB0}
	if major > 14 && rapid.IntRange(0, 9).Draw(t, "custom") == 0 {
		r.Manager = 200
	}
	id := uint8(0)
	for i := range rapid.IntRange(0, 8).Draw(t, "blocks") {
		ref := BlockRef{
			RelFileLocator: drawLocator(t), Block: rapid.Uint32().Draw(t, "block"), Fork: uint8(rapid.IntRange(0, 3).Draw(t, "fork")),
			ID: id, HasImage: rapid.Bool().Draw(t, "image"), WillInit: rapid.Bool().Draw(t, "init"),
		}
		id += uint8(rapid.IntRange(1, 4).Draw(t, "step"))
		same := i > 0 && rapid.Bool().Draw(t, "same")
		if same {
			ref.RelFileLocator = r.Blocks[i-1].RelFileLocator
		}
		data, image := rapid.IntRange(0, 300).Draw(t, "data"), 0
		if ref.HasImage {
			image = rapid.IntRange(1, 8192).Draw(t, "image size")
		}
		parts = append(parts, blockHeader(major, ref, same, data, image, rapid.Bool().Draw(t, "hole"))...)
		body = append(body, make([]byte, data+image)...)
		r.Blocks = append(r.Blocks, ref)
	}
	if rapid.Bool().Draw(t, "origin") {
		parts = append(parts, idOrigin, 1, 0, idTopLevelXID, 1, 2, 3, 4)
	}
	r.LSN, r.EndLSN = w.add(r.Manager, r.Info, 5, parts, body, make([]byte, rapid.IntRange(0, 300).Draw(t, "main")))
	return r
}

// randomChange writes a record that changes files otherwise.
func randomChange(t *rapid.T, w *walWriter, major int) Record {
	var r Record
	var main []byte
	switch rapid.IntRange(0, 5).Draw(t, "change") {
	case 0:
		fork := uint8(rapid.IntRange(0, 3).Draw(t, "fork"))
		r = Record{Manager: rmgrStorage, Info: 0x11, Change: ForkCreated, Relation: drawLocator(t), Forks: 1 << fork}
		main = appendNumbers(appendLocator(nil, r.Relation), uint32(fork))
	case 1:
		r = Record{Manager: rmgrStorage, Info: 0x21, Change: RelationTruncated, Relation: drawLocator(t),
			Size: rapid.Uint32().Draw(t, "size"), Forks: 1<<ForkMain | 1<<ForkFSM}
		main = appendNumbers(appendLocator(appendNumbers(nil, r.Size), r.Relation), 5)
	case 2:
		r = Record{Manager: rmgrXact, Info: xactHasInfo | infoSpecial, Change: RelationsDropped}
		r.Info |= rapid.SampledFrom([]uint8{0x00, 0x20, 0x30, 0x40}).Draw(t, "op")
		subxacts := rapid.SampledFrom([]int{0, 1, 1000, 10000}).Draw(t, "subxacts")
		main = appendNumbers(timeBytes(testTime), xinfoDatabase|xinfoSubxacts|xinfoRels|xinfoTwoPhase, 1, 2, uint32(subxacts))
		main = append(main, make([]byte, 4*subxacts)...)
		r.Dropped = rapid.SliceOfN(rapid.Custom(drawLocator), 1, 4).Draw(t, "dropped")
		main = appendNumbers(main, uint32(len(r.Dropped)))
		for _, l := range r.Dropped {
			main = appendLocator(main, l)
		}
		main = append(appendNumbers(main, 77), 'x', 0)
	case 3:
		r = Record{Manager: rmgrDatabase, Info: 0x01, Change: DatabaseCopied, Database: 7, Tablespaces: []pg.OID{8}}
		main = appendNumbers(nil, 7, 8, 5, 1663)
		if major > 14 && rapid.Bool().Draw(t, "by WAL") {
			r.Info, r.Change = 0x10, DatabaseCreated
			main = main[:8]
		}
	case 4:
		r = Record{Manager: rmgrDatabase, Info: 0x21, Change: DatabaseDropped, Database: 7}
		if major == 14 {
			r.Info = 0x11
		}
		r.Tablespaces = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) pg.OID { return pg.OID(rapid.Uint32().Draw(t, "oid")) }), 1, 9).Draw(t, "tablespaces")
		main = appendNumbers(nil, 7, uint32(len(r.Tablespaces)))
		for _, s := range r.Tablespaces {
			main = appendNumbers(main, uint32(s))
		}
	case 5:
		r = Record{Manager: rmgrTablespace, Info: 0x10, Change: TablespaceDropped, Tablespaces: []pg.OID{99}}
		main = appendNumbers(nil, 99)
		if rapid.Bool().Draw(t, "created") {
			r.Info, r.Change = 0x00, TablespaceCreated
			main = append(main, "/some/where\x00"...)
		}
	}
	r.LSN, r.EndLSN = w.add(r.Manager, r.Info, 5, nil, nil, main)
	return r
}

// randomRecords writes WAL of records of all kinds over some segments.
func randomRecords(t *rapid.T) (w *walWriter, want []Record) {
	major := rapid.IntRange(pg.OldestMajor, pg.NewestMajor).Draw(t, "major")
	w = newWriter(major, 1<<rapid.IntRange(10, 16).Draw(t, "block"), 1<<20, 3<<20)
	w.prev = w.start / 2
	plain := func(manager, info uint8, n int) {
		r := Record{Manager: manager, Info: info}
		r.LSN, r.EndLSN = w.add(manager, info, 5, nil, nil, make([]byte, n))
		want = append(want, r)
	}
	for range rapid.IntRange(1, 25).Draw(t, "records") {
		if len(w.out) > 3*w.segment {
			break
		}
		switch rapid.IntRange(0, 6).Draw(t, "what") {
		case 0, 1:
			want = append(want, randomBlocks(t, w, major))
		case 2, 3:
			want = append(want, randomChange(t, w, major))
		case 4:
			plain(21, 0, rapid.SampledFrom([]int{0, 200, 9000, 40000, 40000, 3 << 19}).Draw(t, "large"))
		default: // up to some bytes before the segment's end
			if room := w.segmentEnd() - len(w.out) - 8*rapid.IntRange(1, 80).Draw(t, "before"); room > 0 {
				room -= room / w.block * ShortHeaderSize
				plain(21, 0, max(0, room-recordHeaderSize-5))
			}
		}
	}
	r := Record{Manager: rmgrXLOG, Info: 0x40}
	r.LSN = w.switchSegment().LSN
	want = append(want, r)
	return w, want
}

func TestRecordsAreFoundWholeAndJoined(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, want := randomRecords(t)
		sameRecords := func(got []Record) string {
			for i := range got {
				if got[i].Manager == rmgrXLOG && got[i].Info == 0x40 {
					got[i].EndLSN = 0
				}
			}
			return cmp.Diff(want, got, cmpopts.EquateEmpty())
		}
		got, x, head, tail := recordsOf(t, w.out, Options{})
		if d := sameRecords(got); d != "" {
			t.Fatal(d)
		}
		if head != nil || tail != nil {
			t.Fatalf("ends %+v, %+v", head, tail)
		}
		got, indexes := joinedRecords(t, w.out, w.segment)
		if d := sameRecords(got); d != "" {
			t.Fatal("joined: " + d)
		}
		// What else is found does not depend on whether records are asked for.
		s, _ := NewScanner(Options{})
		_, _ = s.Write(w.out)
		y, _ := s.Finish()
		if !reflect.DeepEqual(y, x) { // much faster than cmp
			t.Fatal("index: " + cmp.Diff(y, x))
		}
		for i, x := range indexes {
			s, _ := NewScanner(Options{MaxFragment: 1 << 30})
			_, _ = s.Write(w.out[i*w.segment : (i+1)*w.segment])
			if y, _ := s.Finish(); !reflect.DeepEqual(y, x) {
				t.Fatal("index: " + cmp.Diff(y, x))
			}
		}
	})
}

func TestNoEvents(t *testing.T) {
	t.Parallel()
	b := benchWAL(true)
	with := mustScan(t, b)
	records, x, _, _ := recordsOf(t, b, Options{NoEvents: true})
	if x.Events != nil || x.To != with.To || x.Ending != EndsBySwitch || len(records) < 1000 {
		t.Errorf("%d events, %d records, to %s, %s", len(x.Events), len(records), x.To, x.Ending)
	}
}

// A part too long to be kept loses relations, and the record says so.
func TestRecordIsCut(t *testing.T) {
	t.Parallel()
	const count = 60000
	main := appendNumbers(timeBytes(testTime), xinfoRels, count)
	for i := range uint32(count) {
		main = appendLocator(main, RelFileLocator{1663, 5, i + 1})
	}
	w := newWriter(15, 8192, 1<<20, 1<<20)
	w.fillTo(w.segment - 100)
	w.add(rmgrXact, xactHasInfo|infoSpecial, 7, nil, nil, main)
	w.switchSegment()
	_, _, _, tail := recordsOf(t, w.out[:w.segment], Options{})
	for most, want := range map[int]int{0: 170, 1 << 20: count} {
		_, _, head, _ := recordsOf(t, w.out[w.segment:], Options{MaxFragment: most})
		r, err := JoinRecord(*tail, *head)
		if err != nil || r.Cut != (want < count) || len(r.Dropped) < want || len(r.Dropped) > want+10 {
			t.Fatalf("%d relations, cut %v, %v", len(r.Dropped), r.Cut, err)
		}
		for i, l := range r.Dropped {
			if l != (RelFileLocator{1663, 5, uint32(i) + 1}) {
				t.Fatalf("relation %d is %s", i, l)
			}
		}
	}
	if r, _, _, _ := recordsOf(t, w.out, Options{}); len(r[1].Dropped) != count || r[1].Cut {
		t.Errorf("in a stream, %d relations are dropped, cut %v", len(r[1].Dropped), r[1].Cut)
	}
}

func TestRecordsOfOneByOne(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		major         int
		manager, info uint8
		main          []byte
		want          Record
	}{
		{"commit without drops", 15, rmgrXact, 0x80, appendNumbers(timeBytes(testTime), xinfoSubxacts, 1, 9), Record{}},
		{"commit, short", 15, rmgrXact, 0x00, timeBytes(testTime), Record{}},
		{"prepare, which has another layout", 15, rmgrXact, 0x90, appendNumbers(timeBytes(testTime), xinfoRels, 1, 1, 2, 3), Record{}},
		{"database dropped, 14", 14, rmgrDatabase, 0x10, appendNumbers(nil, 7, 1, 9), Record{Change: DatabaseDropped, Database: 7, Tablespaces: []pg.OID{9}}},
		{"database created, 15", 15, rmgrDatabase, 0x10, appendNumbers(nil, 7, 9), Record{Change: DatabaseCreated, Database: 7, Tablespaces: []pg.OID{9}}},
		{"database, unknown", 15, rmgrDatabase, 0x30, appendNumbers(nil, 7, 9), Record{Change: UnknownChange}},
		{"storage, unknown", 15, rmgrStorage, 0x30, appendNumbers(nil, 7, 9), Record{Change: UnknownChange}},
		{"tablespace, unknown", 15, rmgrTablespace, 0x20, appendNumbers(nil, 7), Record{Change: UnknownChange}},
		{"heap that says it is special", 15, 10, 0x01, nil, Record{Change: UnknownChange}},
		{"extension that says it is special", 15, 128, 0x41, nil, Record{Change: UnknownChange}},
		{"extension", 15, 255, 0x40, nil, Record{}},
		{"relation map, which is no relation", 15, 7, 0x00, nil, Record{}},
		{"map truncated", 16, rmgrStorage, 0x21, appendNumbers(nil, 0, 1, 2, 3, 2), Record{Change: RelationTruncated, Relation: RelFileLocator{1, 2, 3}, Forks: 1 << ForkVM}},
		{"parameters, 14", 14, rmgrXLOG, 0x60, appendNumbers(nil, 1, 2, 3, 4, 5, 0, 7), Record{WALLevel: LevelMinimal}},
		{"parameters, 18", 18, rmgrXLOG, 0x60, appendNumbers(nil, 1, 2, 3, 4, 5, 1, 7), Record{WALLevel: LevelReplica}},
		{"checkpoint, 16", 16, rmgrXLOG, 0x10, make([]byte, 88), Record{}},
		{"checkpoint, 17", 17, rmgrXLOG, 0x00, append(make([]byte, 20), appendNumbers(nil, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)...), Record{WALLevel: LevelLogical}},
		{"redo point, 17", 17, rmgrXLOG, 0xE0, appendNumbers(nil, 0), Record{WALLevel: LevelMinimal}},
		{"end of recovery, 18", 18, rmgrXLOG, 0x90, append(timeBytes(testTime), appendNumbers(nil, 2, 1, 2, 0)...), Record{WALLevel: LevelLogical}},
		{"end of recovery, 15", 15, rmgrXLOG, 0x90, append(timeBytes(testTime), appendNumbers(nil, 2, 1, 2, 0)...), Record{}},
	}
	for _, tt := range tests {
		w := newWriter(tt.major, 8192, 1<<20, 1<<20)
		lsn, end := w.add(tt.manager, tt.info, 5, nil, nil, tt.main)
		w.switchSegment()
		got, _, _, _ := recordsOf(t, w.out, Options{})
		tt.want.LSN, tt.want.EndLSN, tt.want.Manager, tt.want.Info = lsn, end, tt.manager, tt.info
		if d := cmp.Diff(tt.want, got[0], cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

func TestRecordOfTooFewBytesIsDamage(t *testing.T) {
	t.Parallel()
	ref := blockHeader(15, BlockRef{ID: 3}, false, 0, 0, false)
	for name, make := range map[string]func(w *walWriter) []byte{
		"truncation": func(w *walWriter) []byte {
			return w.record(rmgrStorage, 0x20, 5, nil, nil, appendNumbers(nil, 1, 2, 3))
		},
		"drop": func(w *walWriter) []byte {
			return w.record(rmgrXact, 0x81, 5, nil, nil, appendNumbers(timeBytes(testTime), xinfoRels, 2, 1, 2, 3))
		},
		"database": func(w *walWriter) []byte {
			return w.record(rmgrDatabase, 0x20, 5, nil, nil, appendNumbers(nil, 1, 1<<31))
		},
		"blocks go back": func(w *walWriter) []byte { return w.record(10, 0, 5, slices.Concat(ref, ref), nil, nil) },
		"no relation": func(w *walWriter) []byte {
			return w.record(10, 0, 5, blockHeader(15, BlockRef{}, true, 0, 0, false), nil, nil)
		},
		"lengths are off": func(w *walWriter) []byte { return w.record(10, 0, 5, append([]byte{}, 255, 200), nil, nil) },
	} {
		w := newWriter(15, 8192, 1<<20, 1<<20)
		w.commit(1, testTime)
		at := w.bytes(make(w))
		w.zeros()
		s, _ := NewScanner(Options{Records: func(*Record) {}})
		_, _ = s.Write(w.out)
		x, err := s.Finish()
		if !errors.Is(err, ErrRecord) || x.Ending != Damaged || x.To != at {
			t.Errorf("%s: %s at %s, %v", name, x.Ending, x.To, err)
		}
	}
}

func TestChangeNames(t *testing.T) {
	t.Parallel()
	for k := NoChange; k <= lastChange; k++ {
		if s := k.String(); s == "" || strings.HasPrefix(s, "change ") {
			t.Errorf("kind %d has no name", k)
		}
	}
}
