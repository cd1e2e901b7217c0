package archive

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/wal/summary"
)

// footer gives what the first repository says of a segment.
func (b *bench) footer(name string) catalog.WALFooter {
	b.t.Helper()
	f, err := catalog.ReadWALFooter(b.t.Context(), b.o.Repositories[0].Objects, b.place.WALName(b.segment.Timeline, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

func (b *bench) summary(name string) summary.Summary {
	b.t.Helper()
	s, err := summary.Decode(b.footer(name).Changes)
	if err != nil {
		b.t.Fatalf("the summary of %s: %v", name, err)
	}
	return s
}

// What is stored with each segment is what reading the segment again gives, and the
// stored summaries join across records that cross the segments' ends.
func TestSummaries(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *pgtest.Cluster) {
		c.Exec("create table t (i int primary key, s text)")
		c.Exec("insert into t select i, repeat('x', i % 500) from generate_series(1, 12000) i")
		c.Exec("create table gone as select * from t where i < 100")
		c.Exec("drop table gone")
		c.Exec("delete from t where i > 6000")
		c.Exec("vacuum t")
	}).fresh(t)
	paths, err := filepath.Glob(filepath.Join(b.dir, "pg_wal", strings.Repeat("[0-9A-F]", 24)))
	if err != nil {
		t.Fatal(err)
	}
	var joined *summary.Summary
	crossed := 0
	for _, path := range paths { // in the order of their names; the last ones are for the future
		name := filepath.Base(path)
		if name > b.name {
			break
		}
		b.outcome(path, Stored)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := summary.Read(b.segment.Timeline, f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		stored := b.footer(name).Changes
		if !bytes.Equal(stored, summary.Encode(want)) {
			t.Errorf("%s: the stored summary, %d bytes, is not what its bytes give", name, len(stored))
		}
		next := b.summary(name)
		if len(next.Head) > 0 {
			crossed++
		}
		if joined == nil {
			joined = &next
		} else if err := joined.Join(next); err != nil {
			t.Fatal(err)
		}
	}
	if crossed == 0 || joined.Map.Forks() < 5 || joined.Map.Listed() < 20 || len(joined.Reasons) > 0 || joined.To != b.segment.End(segmentSize) {
		t.Errorf("%d records crossed ends; %d forks and %d blocks up to %s, %v", crossed, joined.Map.Forks(), joined.Map.Listed(), joined.To, joined.Reasons)
	}
}

// Of a segment that ends early, as one that a promotion cut off, the summary tells
// how far it goes.
func TestSummaryOfPartial(t *testing.T) {
	t.Parallel()
	b := newBench(t).fresh(t)
	const kept = 2 * 8192
	name := b.name + ".partial"
	b.outcome(b.file(name, slices.Concat(b.data[:kept], make([]byte, segmentSize-kept))), Stored)
	s := b.summary(name)
	if start := b.segment.Start(segmentSize); s.From != start || s.To <= start || s.To > start+kept {
		t.Errorf("it goes from %s to %s", s.From, s.To)
	}
	if f := b.footer(name); f.Index.Ending != walrec.EndsEarly || f.Index.To != s.To {
		t.Errorf("its index ends at %s (%v), the summary at %s", f.Index.To, f.Index.Ending, s.To)
	}
	if len(*b.warned) > 0 {
		t.Errorf("warnings: %q", *b.warned)
	}
}

// What is damaged is archived as it is, without a summary; but for what only a
// summary looks at the index is whole.
func TestSummaryOfDamaged(t *testing.T) {
	t.Parallel()
	all := newBench(t)
	at := all.message()
	t.Run("a byte that is wrong", func(t *testing.T) {
		b := all.fresh(t)
		b.outcome(b.file(b.name, b.changed(at+100)), Stored)
		f := b.footer(b.name)
		if len(f.Changes) > 0 || f.Index.Ending != walrec.Damaged || f.Index.To != b.segment.Start(segmentSize)+pg.LSN(at) {
			t.Errorf("a summary of %d bytes, an index up to %s, %v", len(f.Changes), f.Index.To, f.Index.Ending)
		}
		if said := strings.Join(*b.warned, ""); strings.Count(said, "damaged WAL") != 2 { // one for each repository
			t.Errorf("warnings: %q", said)
		}
	})
	t.Run("a record that nobody can read", func(t *testing.T) {
		b := all.fresh(t)
		b.outcome(b.path, Stored)
		whole := b.footer(b.name)
		b = all.fresh(t)
		data := slices.Clone(b.data)
		rec := data[at : at+int(binary.LittleEndian.Uint32(data[at:]))]
		rec[24] = 200 // where the number of a block stands; they end at 32
		tab := crc32.MakeTable(crc32.Castagnoli)
		binary.LittleEndian.PutUint32(rec[20:], crc32.Update(crc32.Checksum(rec[24:], tab), tab, rec[:20]))
		b.outcome(b.file(b.name, data), Stored)
		f := b.footer(b.name)
		if d := cmp.Diff(whole.Index, f.Index); d != "" || len(f.Changes) > 0 || len(whole.Changes) == 0 {
			t.Errorf("summaries of %d and %d bytes, another index:\n%s", len(whole.Changes), len(f.Changes), d)
		}
		if said := strings.Join(*b.warned, ""); strings.Count(said, "without a summary") != 2 {
			t.Errorf("warnings: %q", said)
		}
	})
}

// message gives the place of a record in the segment, on one page, that no index
// looks at.
func (b *bench) message() int {
	b.t.Helper()
	at := 0
	scan, err := walrec.NewScanner(walrec.Options{Records: func(r *walrec.Record) {
		if r.Manager == 21 && r.LSN/8192 == r.EndLSN/8192 { // RM_LOGICALMSG_ID
			at = int(r.LSN - b.segment.Start(segmentSize))
		}
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	_, _ = scan.Write(b.data)
	if _, err := scan.Finish(); err != nil || at == 0 {
		b.t.Fatalf("no message on one page: %v", err)
	}
	return at
}

// A summary that no frame can hold is left out.
func TestSummaryTooLong(t *testing.T) {
	t.Parallel()
	doc := catalog.WALFooter{Size: segmentSize, SystemID: 7}
	alone, err := doc.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int]bool{1000: true, seal.MaxPayload - len(alone) - 100: true, seal.MaxPayload: false} {
		doc.Changes = make([]byte, size)
		b, err := encodeFooter(doc)
		if err != nil || len(b) > seal.MaxPayload || (len(b) > size) != want {
			t.Errorf("with a summary of %d bytes the footer has %d, %v", size, len(b), err)
		}
	}
}
