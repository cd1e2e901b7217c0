package summary

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/pg/walrec/walrectest"
)

const page = 8192

// TestEveryPageThatDiffersIsChanged compares the files of a server before and after
// a workload with a crash in it: every page that is not byte for byte as it was
// must be among those that the Map gives. With checksums even hints are logged, but
// for one. From 17 on, PostgreSQL's own summaries must say the same, too.
func TestEveryPageThatDiffersIsChanged(t *testing.T) {
	if testing.Short() {
		t.Skip("runs servers for some seconds")
	}
	for major := pg.OldestMajor; major <= pg.NewestMajor; major++ {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			settings := walrectest.Settings()
			if major >= 17 {
				settings["summarize_wal"] = "on"
			}
			c := pgtest.New(t, pgtest.Options{Major: major, Settings: settings, WALSegmentMB: 1})
			walrectest.Run(t, c, c.TempDir(t))
			c.Stop("fast")
			from, before := redo(t, c), relations(t, c)
			c.Start()
			walrectest.Later(t, c, c.TempDir(t))
			if major >= 17 {
				compareWithServer(t, c, from)
			}
			c.Stop("fast")
			to, after := redo(t, c), relations(t, c)
			u := NewUnion(pg.History{Timeline: 1}, from, to)
			for seg := pg.SegmentAt(1, from, segmentSize); seg.Start(segmentSize) < to; seg = seg.Next() {
				if err := u.Add(readSegment(t, c, seg)); err != nil {
					t.Fatal(err)
				}
			}
			m, err := u.Map()
			if err != nil {
				t.Fatal(err)
			}
			compareFiles(t, m, before, after)
		})
	}
}

// readSegment makes a summary of a segment in pg_wal.
func readSegment(t *testing.T, c *pgtest.Cluster, seg pg.Segment) Summary {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.Dir, "pg_wal", seg.Name(segmentSize)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Read(seg.Timeline, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return again(t, s)
}

func redo(t *testing.T, c *pgtest.Cluster) pg.LSN {
	t.Helper()
	control, err := datadir.ReadControl(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return control.CheckpointCopy.Redo
}

// relations reads the files of all permanent relations.
func relations(t *testing.T, c *pgtest.Cluster) map[datadir.Relation][]byte {
	t.Helper()
	files := map[datadir.Relation][]byte{}
	unlogged := map[fork]bool{}
	read := func(path, name string) {
		r, is := datadir.ParseRelation(name)
		if !is {
			return
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[r] = b
		if r.Fork == datadir.ForkInit {
			unlogged[fork{RelFileLocator: locator(r)}] = true
		}
	}
	for _, dir := range []string{"base", "global"} {
		err := filepath.WalkDir(filepath.Join(c.Dir, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				name, _ := filepath.Rel(c.Dir, path)
				read(path, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for r := range files {
		if r.Fork != datadir.ForkInit && unlogged[fork{RelFileLocator: locator(r)}] {
			delete(files, r)
		}
	}
	return files
}

func locator(r datadir.Relation) walrec.RelFileLocator {
	return walrec.RelFileLocator{Tablespace: r.Tablespace, Database: r.Database, Number: r.Number}
}

func compareFiles(t *testing.T, m *Map, before, after map[datadir.Relation][]byte) {
	t.Helper()
	read, differ, kept := 0, 0, 0
	for r, now := range after {
		was := before[r]
		if r.Fork == datadir.ForkFSM || r.Fork == datadir.ForkVM {
			continue // always read whole
		}
		b := m.Changed(File{Relation: r, Had: uint32(len(was) / page), Has: uint32(len(now) / page)})
		for n := range uint32(len(now) / page) {
			at := int(n) * page
			same := at+page <= len(was) && (bytes.Equal(was[at:at+page], now[at:at+page]) || onlyCache(was[at:at+page], now[at:at+page]))
			switch {
			case b.Has(n):
				read++
			case !same:
				t.Errorf("%+v: block %d differs, and is not said to be changed", r, n)
			default:
				kept++
			}
			if !same {
				differ++
			}
		}
	}
	t.Logf("%d pages are as they were, %d are to be read, %d differ", kept, read, differ)
	if kept < 2000 || differ < 100 || read > differ*6/5 {
		t.Errorf("that is no good: %d pages are as they were, %d are to be read, %d differ", kept, read, differ)
	}
}

// onlyCache says whether two pages are the first page of an SP-GiST index before and
// after it noted which of its pages have room (SpGistUpdateMetaPage, spgutils.c).
// No record tells of that, as it is worth nothing; the LSN stays.
func onlyCache(was, now []byte) bool {
	const magic = "\xee\xab\x0b\xba" // SPGIST_MAGIC_NUMBER
	return string(was[24:28]) == magic && string(now[24:28]) == magic && bytes.Equal(was[:8], now[:8])
}

// compareWithServer compares with each summary that the server's own summarizer
// has made since from. What is different, by name:
//
//   - they have the visibility map, we always read it whole;
//   - they list blocks at or above a limit, to us those are all changed;
//   - we count all of a tablespace as changed that is created or dropped.
func compareWithServer(t *testing.T, c *pgtest.Cluster, from pg.LSN) {
	t.Helper()
	c.Exec("checkpoint")
	to := pgtest.QueryValue[string](c, "select redo_lsn::text from pg_control_checkpoint()")
	c.Eventually("WAL is summarized", func() bool {
		return pgtest.QueryValue[bool](c, "select coalesce(max(end_lsn) >= $1::pg_lsn, false) from pg_available_wal_summaries()", to)
	})
	list := pgtest.QueryValue[string](c, `select string_agg(start_lsn || ' ' || end_lsn, ',' order by start_lsn)
		from pg_available_wal_summaries() where start_lsn >= $1::pg_lsn`, from.String())
	blocks, limits := 0, 0
	for _, span := range strings.Split(list, ",") {
		a, z, _ := strings.Cut(span, " ")
		rows := pgtest.QueryValue[string](c, `select coalesce(string_agg(concat_ws(' ', reltablespace, reldatabase, relfilenode,
				relforknumber, relblocknumber, is_limit_block::int), ','), '')
			from pg_wal_summary_contents(1, $1::pg_lsn, $2::pg_lsn)`, a, z)
		b, l := compareSummary(t, mapOf(t, c, parseLSN(t, a), parseLSN(t, z)), rows, span)
		blocks, limits = blocks+b, limits+l
	}
	if blocks < 300 || limits < 30 {
		t.Errorf("the server's summaries have %d blocks and %d limits", blocks, limits)
	}
}

func parseLSN(t *testing.T, s string) pg.LSN {
	t.Helper()
	lsn, err := pg.ParseLSN(s)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// mapOf makes the Map of exactly the records of a range.
func mapOf(t *testing.T, c *pgtest.Cluster, from, to pg.LSN) *Map {
	t.Helper()
	b := NewBuilder()
	scan, err := walrec.NewScanner(walrec.Options{NoEvents: true, Records: func(r *walrec.Record) {
		if r.LSN >= from && r.LSN < to {
			b.Record(r)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for seg := pg.SegmentAt(1, from, segmentSize); seg.Start(segmentSize) < to+segmentSize; seg = seg.Next() {
		data, err := os.ReadFile(filepath.Join(c.Dir, "pg_wal", seg.Name(segmentSize)))
		if os.IsNotExist(err) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		_, _ = scan.Write(data)
	}
	if x, err := scan.Finish(); err != nil || x.To < to {
		t.Fatalf("WAL to %s is read up to %s: %v", to, x.To, err)
	}
	return b.m
}

func compareSummary(t *testing.T, ours *Map, rows, span string) (blocks, limits int) {
	t.Helper()
	theirs := NewMap()
	for row := range strings.SplitSeq(rows, ",") {
		var f fork
		var block uint32
		var limit int
		if row == "" {
			continue
		}
		if _, err := fmt.Sscan(row, &f.Tablespace, &f.Database, &f.Number, &f.number, &block, &limit); err != nil {
			t.Fatalf("the server's summary has %q: %v", row, err)
		}
		switch {
		case f.Number == 0:
			theirs.Database(f.Tablespace, f.Database)
		case limit != 0:
			theirs.Limit(f.RelFileLocator, f.number, block)
			limits++
		default:
			theirs.Block(f.RelFileLocator, f.number, block)
			blocks++
		}
	}
	for tablespace := range ours.tablespaces {
		theirs.Tablespace(tablespace)
	}
	if !bytes.Equal(ours.append(nil), theirs.append(nil)) {
		t.Errorf("%s: %d forks with %d blocks, the server's own summary has %d with %d", span,
			ours.Forks(), ours.Listed(), theirs.Forks(), theirs.Listed())
		for f, s := range theirs.forks {
			if o := ours.forks[f]; o == nil || !bytes.Equal(o.append(nil), s.append(nil)) {
				t.Errorf("%v: %v, the server has %v", f, o, s)
			}
		}
	}
	return blocks, limits
}
