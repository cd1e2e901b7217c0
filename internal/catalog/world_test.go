package catalog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

const segSize = 1 << 20

// at is a position in a segment.
func at(segment uint64, offset pg.LSN) pg.LSN { return pg.LSN(segment)*segSize + offset }

// minute is a time of the test's day.
func minute(m float64) time.Time {
	return time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC).Add(time.Duration(m * float64(time.Minute)))
}

var testPlace = Place{"orders", 7301234567890123456, "0123456789abcdef"}

var testSizes = pg.Sizes{Block: 8192, SegmentBlocks: 131072, WALBlock: 8192, WALSegment: segSize}

// world is a place of a repository in memory.
type world struct {
	t       testing.TB
	mem     *mem.Store
	objects *seal.Objects
	origin  Origin
	heads   map[string]Head
}

func newWorld(t testing.TB) *world {
	m := mem.New(mem.Options{})
	w := &world{t: t, mem: m, objects: seal.New(m, nil), heads: map[string]Head{}}
	w.origin = Origin{Cluster: testPlace.Cluster, SystemID: testPlace.SystemID, Incarnation: testPlace.Incarnation,
		CreatedAt: minute(0), Version: 150018, Sizes: testSizes}
	w.must(WriteOrigin(t.Context(), w.objects, w.origin))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) life() Life {
	w.t.Helper()
	l, err := ReadLife(w.t.Context(), w.objects, w.origin)
	w.must(err)
	return l
}

func (w *world) archive() Archive {
	w.t.Helper()
	a, err := ReadArchive(w.t.Context(), w.objects, w.origin)
	w.must(err)
	return a
}

// index is that of a whole segment with events at the given places.
func index(tli pg.Timeline, n uint64, events ...walrec.Event) walrec.Index {
	return walrec.Index{
		Header: walrec.SegmentHeader{
			PageHeader: walrec.PageHeader{Magic: 0xD110, Info: 2, Timeline: tli, PageAddr: at(n, 0)},
			SystemID:   testPlace.SystemID, SegmentSize: segSize, BlockSize: 8192},
		Timeline: tli, From: at(n, 0), To: at(n+1, 0), Ending: walrec.EndsFull, Events: events,
	}
}

// store writes a segment's object, of which only the footer is of use here.
func (w *world) store(name string, x walrec.Index) {
	w.t.Helper()
	b, err := WALFooter{Size: segSize, SystemID: testPlace.SystemID, Major: 15, Index: x}.Encode()
	w.must(err)
	o, err := w.objects.Create(w.t.Context(), repo.NewID(), name, seal.WALSegment)
	w.must(err)
	w.must(o.Commit(chunk.None, b, len(b)))
}

// segments archives whole segments; events go where they belong.
func (w *world) segments(tli pg.Timeline, from, to uint64, events ...walrec.Event) {
	w.t.Helper()
	for n := from; n <= to; n++ {
		var own []walrec.Event
		for _, e := range events {
			if e.LSN >= at(n, 0) && e.LSN < at(n+1, 0) {
				own = append(own, e)
			}
		}
		slices.SortFunc(own, func(a, b walrec.Event) int { return int(a.LSN) - int(b.LSN) })
		w.store(w.segmentName(tli, n), index(tli, n, own...))
	}
}

func (w *world) segmentName(tli pg.Timeline, n uint64) string {
	return testPlace.WALName(tli, pg.Segment{Timeline: tli, Number: n}.Name(segSize))
}

func (w *world) remove(tli pg.Timeline, segments ...uint64) {
	w.t.Helper()
	for _, n := range segments {
		w.must(w.mem.Delete(w.t.Context(), w.segmentName(tli, n), ""))
	}
}

func (w *world) history(tli pg.Timeline, text string) {
	w.t.Helper()
	w.must(w.objects.Put(w.t.Context(), testPlace.WALName(tli, tli.HistoryName()), seal.WALSmall, []byte(text)))
}

// backup writes a head, and nothing that it names.
func (w *world) backup(id string, tli pg.Timeline, start, stop pg.LSN, stopped time.Time) string {
	w.t.Helper()
	h := Head{ID: "20261124T060000Z-" + id, Kind: Full, Cluster: testPlace.Cluster, SystemID: testPlace.SystemID,
		Incarnation: testPlace.Incarnation, StartedAt: stopped.Add(-time.Minute), StoppedAt: stopped,
		StartLSN: start, StopLSN: stop, Timeline: tli, Version: 150018, Sizes: testSizes}
	w.must(WriteHead(w.t.Context(), w.objects, h))
	w.heads[h.ID] = h
	return h.ID
}

func (w *world) raw(name string) []byte {
	w.t.Helper()
	b, err := store.Get(w.t.Context(), w.mem, name, 1<<30)
	w.must(err)
	return b
}

func (w *world) put(name string, b []byte) {
	w.t.Helper()
	_, err := store.Put(w.t.Context(), w.mem, name, b, store.CreateOptions{})
	w.must(err)
}

func commit(lsn pg.LSN, xid uint32, when time.Time) walrec.Event {
	return walrec.Event{Kind: walrec.Commit, LSN: lsn, EndLSN: lsn + 40, XID: xid, Time: when}
}

func point(lsn pg.LSN, name string, when time.Time) walrec.Event {
	return walrec.Event{Kind: walrec.RestorePoint, LSN: lsn, EndLSN: lsn + 104, Name: name, Time: when}
}

// splitCommit is a commit record of PostgreSQL 15 (XLogRecord, xlogrecord.h, and
// xl_xact_commit, xact.h) that crosses from segment n into the next.
func splitCommit(n uint64, xid uint32, when time.Time) (tail, head *walrec.Fragment) {
	le := binary.LittleEndian
	body := []byte{255, 8}
	body = le.AppendUint64(body, uint64((when.Unix()-946684800)*1e6))
	rec := le.AppendUint32(nil, uint32(24+len(body)))
	rec = le.AppendUint32(rec, xid)
	rec = le.AppendUint64(rec, 0)
	rec = append(rec, 0, 1, 0, 0)
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	rec = le.AppendUint32(rec, crc32.Update(crc32.Checksum(body, castagnoli), castagnoli, rec))
	rec = append(rec, body...)
	const first = 16
	tail = &walrec.Fragment{Major: 15, Start: at(n+1, 0) - first, End: at(n+1, 0), Length: first, More: uint32(len(rec) - first),
		Sum: crc32.Checksum(rec[:first], castagnoli), Data: rec[:first]}
	start := at(n+1, walrec.LongHeaderSize)
	head = &walrec.Fragment{Major: 15, Start: start, End: (start + pg.LSN(len(rec)-first) + 7) &^ 7, Length: tail.More,
		Sum: crc32.Checksum(rec[first:], castagnoli), Data: rec[first:]}
	return tail, head
}

func historyLine(tli pg.Timeline, fork pg.LSN) string {
	return fmt.Sprintf("%d\t%s\tno recovery target specified\n", tli, fork)
}

func sealed(st store.Store) *seal.Objects { return seal.New(st, nil) }
