//go:build linux

package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// randomPages makes a file of pages that do not compress.
func randomPages(t *testing.T, path string, n int, seed uint64) []byte {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	data := make([]byte, n*pageSize)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestComparer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, d := range []string{"base/5", "pg_wal", "global"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	table := filepath.Join(dir, "base/5/16384")
	data := randomPages(t, table, 70, 1)
	randomPages(t, filepath.Join(dir, "base/5/16384_fsm"), 3, 2)
	randomPages(t, filepath.Join(dir, "base/5/16385.1"), 1, 3)
	randomPages(t, filepath.Join(dir, "base/5/PG_VERSION"), 1, 4) // no relation
	randomPages(t, filepath.Join(dir, "pg_wal/1"), 1, 5)          // no data
	c, err := newComparer(dir)
	if err != nil {
		t.Fatal(err)
	}
	look := func(want int64, least, most int64) {
		t.Helper()
		found, err := c.look()
		if err != nil {
			t.Fatal(err)
		}
		if found.pages != want {
			t.Errorf("%d pages changed, want %d", found.pages, want)
		}
		for kind, n := range found.bound {
			if n < least*pageSize || n > most*pageSize+100 {
				t.Errorf("%s: the bound is %d bytes, and not that of %d to %d pages", kind, n, least, most)
			}
		}
	}
	look(74, 74, 74)
	look(0, 0, 0)
	data[3*pageSize] ^= 1                  // a bit of one page
	clear(data[69*pageSize:])              // one that becomes zero: changed, and nothing to store
	data = append(data, data[:100]...)     // and a piece of a new one
	clear(data[40*pageSize : 41*pageSize]) // zeros again
	copy(data[10*pageSize:], "\x00other")  // and one more
	if err := os.WriteFile(table, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "base/5/16385.1")); err != nil {
		t.Fatal(err)
	}
	look(5, 2, 2)
}

func TestChargeChange(t *testing.T) {
	t.Parallel()
	found := change{pages: 100, bound: map[string]int64{likeZstd: 1000, likeLZ4: 2000}}
	more := map[string]float64{metricStored: 1650}
	printed := []byte(`{"pages_read": 160, "pages_stored": 150, "forwarded_bytes": 409600}`)
	if err := chargeChange(&salvorTool{codec: "zstd"}, printed, more, found); err != nil {
		t.Fatal(err)
	}
	// 50 pages were forwarded: half as many again as have changed.
	want := map[string]float64{
		metricStored: 1650, metricChanged: 100, metricBound: 1000, metricPagesRead: 160, metricForwarded: 409600,
		metricReadShare: 1.1, metricShare: 1.1,
	}
	if diff := cmp.Diff(want, more); diff != "" {
		t.Error(diff)
	}
	more = map[string]float64{metricStored: 3000}
	if err := chargeChange(&pgBackRest{codec: "lz4"}, nil, more, found); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]float64{metricStored: 3000, metricChanged: 100, metricBound: 2000, metricShare: 1.5}, more); diff != "" {
		t.Error(diff)
	}
	if err := chargeChange(&salvorTool{codec: "zstd"}, []byte("no document"), more, found); err == nil {
		t.Error("what is no document was read")
	}
}

func TestPgBackRests(t *testing.T) {
	t.Parallel()
	b := &bench{options: options{pgbackrests: parsePgBackRests("2.45=/a, 2.59=/b")}}
	b.pgbackrests[0].version, b.pgbackrests[1].version = "pgBackRest 2.45", "pgBackRest 2.59.1"
	baseline := map[string]string{} // by step and codec
	for _, x := range tools(b) {
		a := x.about()
		if p, ok := x.(*pgBackRest); ok && p.block != strings.HasSuffix(a.Name, " block") {
			t.Errorf("%s: by block is %v", a.Name, p.block)
		}
		for _, step := range a.Baseline {
			if other := baseline[step+" "+a.Codec]; other != "" {
				t.Errorf("%s: both %s and %s are to compare with", step, other, a.Name)
			}
			baseline[step+" "+a.Codec] = a.Name
		}
	}
	for step, want := range map[string]string{"backup zstd": "pgbackrest-2.59 zst", "incremental zstd": "pgbackrest-2.59 zst block", "restore-last lz4": "pgbackrest-2.59 lz4 block"} {
		if baseline[step] != want {
			t.Errorf("%s: compared with %q, want %q", step, baseline[step], want)
		}
	}
	for version, want := range map[string]bool{"": false, "pgBackRest 2.45": false, "pgBackRest 2.46": true, "pgBackRest 2.59.1": true, "pgBackRest 3.0": true, "pgBackRest": false} {
		if got := (pgBackRestProgram{version: version}).incrementalByBlock(); got != want {
			t.Errorf("%q makes incrementals by block: %v", version, got)
		}
	}
	alone := &pgBackRest{program: pgBackRestProgram{path: "pgbackrest"}, codec: "zst", baseline: true}
	if diff := cmp.Diff([]string{"backup", "restore", "verify", "push", "fetch", "incremental", "restore-last", "restore-full"}, alone.about().Baseline); diff != "" {
		t.Error(diff)
	}
}

func TestMoreTables(t *testing.T) {
	t.Parallel()
	r := results{Run: runInfo{Rounds: 10, Chain: 10}}
	for _, m := range []measurement{
		{Step: "restore-last", Tool: "salvor zstd", Repeat: 1, Values: metricTable{metricNet: 3, metricCPU: 2, metricRead: 6}},
		{Step: "restore-full", Tool: "salvor zstd", Repeat: 1, Values: metricTable{metricNet: 2, metricCPU: 2, metricRead: 5}},
		{Step: "chain", Repeat: 10, Values: metricTable{metricCPU: 1, metricReadShare: 1.25, metricStored: 5e6, metricShare: 1.02, metricForwarded: 2e6}},
		{Step: "chain-repository", Repeat: 10, Values: metricTable{metricRepo: 90e6, metricFiles: 30e3, metricBackups: 7}},
		{Step: "chain", Repeat: 9, Values: metricTable{metricCPU: 1}},
		{Step: "chain-full", Repeat: 1, Values: metricTable{metricStored: 60e6, metricRepo: 90e6}},
	} {
		r.add(line{Measured: &m})
	}
	var got [][][]string
	for _, table := range r.moreTables() {
		got = append(got, table.rows[1:])
	}
	want := [][][]string{
		{{"salvor zstd", "10 rounds", "1.50", "1.00", "1.20", "3.00", "2.00"}},
		{
			{"10", "1.00", "1.25", "5.0", "1.02", "2.0", "0.03", "7", "90.0"},
			{"a full, then", "", "", "60.0", "", "", "", "", ""},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	r := recorded(t)
	before := len(r.Measured)
	r.join(&results{Run: runInfo{Scale: 77}, Measured: []measurement{
		{Step: "backup", Tool: "salvor zstd", Repeat: 1},           // which is there
		{Step: "backup", Tool: "salvor zstd", Repeat: 1, GB: 2},    // of a size
		{Step: "incremental", Tool: "salvor zstd", Repeat: 4},      // and a step more
		{Step: "incremental", Tool: "pgbackrest block", Repeat: 3}, // of two tools
	}})
	if n := len(r.Measured) - before; n != 3 || len(r.Joined) != 1 || r.Run.Rounds != 4 {
		t.Errorf("%d measurements were added, %d runs, %d rounds", n, len(r.Joined), r.Run.Rounds)
	}
	r.join(&results{Run: runInfo{Scale: 78}, Measured: []measurement{{Step: "incremental", Tool: "late"}}})
	if len(r.Measured)-before != 3 || len(r.Joined) != 1 {
		t.Error("a step was taken from two runs")
	}
	if page := r.page(); !strings.Contains(page, "pgbench at scale 77") {
		t.Error("the page does not tell of the run that was joined")
	}
}
