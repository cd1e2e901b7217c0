//go:build linux

package main

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets the test program be a meter, as the program itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == meterArgument {
		os.Exit(meter(os.Args[2]))
	}
	os.Exit(m.Run())
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		in   []float64
		want float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1}, 5},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		in := append([]float64(nil), tc.in...)
		if got := median(in); got != tc.want {
			t.Errorf("median(%v) = %v, want %v", tc.in, got, tc.want)
		}
		if diff := cmp.Diff(tc.in, in); diff != "" {
			t.Errorf("median changed its argument: %s", diff)
		}
	}
}

// row makes a measurement of a backup.
func row(tool, codec string, repeat int, baseline bool, values metricTable) line {
	return line{Measured: &measurement{Step: "backup", Tool: tool, Codec: codec, Encrypted: true, Repeat: repeat, Baseline: baseline, Values: values}}
}

// recorded is a small run, as its file has it.
func recorded(t *testing.T) *results {
	t.Helper()
	var file strings.Builder
	for _, l := range []line{
		{Run: &runInfo{At: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC), Repeats: 3, Workers: 2, Missing: []string{"wal-g zstd: left out, no program was given"}}},
		{Limit: &limit{Name: "memory: copy", Unit: "MB/s", Value: 9000}},
		row("pgbackrest zst", likeZstd, 1, true, metricTable{metricCPU: 10, metricMemory: 20e6}),
		row("salvor zstd", likeZstd, 1, false, metricTable{metricCPU: 5, metricMemory: 60e6}),
		row("salvor zstd", likeZstd, 2, false, metricTable{metricCPU: 16, metricMemory: 60e6}),
		row("pgbackrest zst", likeZstd, 2, true, metricTable{metricCPU: 20, metricMemory: 20e6}),
		row("pgbackrest zst", likeZstd, 3, true, metricTable{metricCPU: 40, metricMemory: 20e6}),
		row("salvor zstd", likeZstd, 3, false, metricTable{metricCPU: 28, metricMemory: 60e6}),
		row("salvor s2", likeLZ4, 1, false, metricTable{metricCPU: 1}),
		row("pgbackrest lz4 async", likeLZ4, 1, false, metricTable{metricCPU: 0.5}),
	} {
		if err := json.NewEncoder(&file).Encode(l); err != nil {
			t.Fatal(err)
		}
	}
	r, err := readResults(strings.NewReader(file.String()))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestGroups(t *testing.T) {
	t.Parallel()
	groups := recorded(t).groups()
	if len(groups) != 4 {
		t.Fatalf("%d groups, want 4", len(groups))
	}
	salvor := groups[1]
	if salvor.Tool != "salvor zstd" || salvor.repeats != 3 {
		t.Errorf("the second group is %s with %d repeats", salvor.Tool, salvor.repeats)
	}
	// 0.5, 0.8 and 0.7 in the three repeats: not 16 by 20.
	if got := salvor.ratios[metricCPU]; math.Abs(got-0.7) > 1e-9 {
		t.Errorf("the ratio is %v, want 0.7", got)
	}
	if got := salvor.values[metricCPU]; got != 16 {
		t.Errorf("the median is %v, want 16", got)
	}
	if n := len(groups[2].ratios); n != 0 {
		t.Errorf("salvor s2 has %d ratios, though nothing of its kind was measured", n)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	r := recorded(t)
	want := [][]string{
		{"tool", "encrypted", "CPU s", "largest process MB"},
		{"pgbackrest zst", "yes", "20.00", "20"},
		{"salvor zstd", "yes", "16.00 (0.70)", "60 (3.00)"},
		{"salvor s2", "yes", "1.00", ""},
		{"pgbackrest lz4 async", "yes", "0.50", ""},
	}
	if diff := cmp.Diff(want, table(r.of("backup", false))); diff != "" {
		t.Error(diff)
	}
	losses := []string{
		"Full backup, salvor zstd: largest process MB 3.00 times pgbackrest zst's (medians: 60 against 20)",
		"Full backup, salvor s2: CPU s 2.00 times pgbackrest lz4 async's (medians: 1.00 against 0.50)",
	}
	if diff := cmp.Diff(losses, r.losses()); diff != "" {
		t.Error(diff)
	}
	page := r.page()
	for _, part := range []string{"| salvor zstd | yes | 16.00 (0.70) | 60 (3.00) |", "- " + losses[0], "| memory: copy | 9000 | MB/s |", "wal-g zstd: left out"} {
		if !strings.Contains(page, part) {
			t.Errorf("the page does not have %q", part)
		}
	}
}

func TestReadResultsRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", `{"limit":{"name":"a"}}`, "{", `{"run":{"at":"yesterday"}}`} {
		if _, err := readResults(strings.NewReader(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	s, err := parseStat("4242 (a) b (c) S 17 4242 4242 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 1 0 12345\n")
	if want := (processStat{parent: 17, own: 33, ofReaped: 77}); err != nil || s != want {
		t.Errorf("got %+v, %v, want %+v", s, err, want)
	}
	for _, bad := range []string{"", "1 sh S 1", "1 (sh) S 1 2 3", "1 )sh( S 1 2 3", "1 (sh) S x 4242 4242 0 -1 4194304 100 200 0 0 11 22 33 44 20"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestParsePSS(t *testing.T) {
	t.Parallel()
	text := "5581-7ffd ---p 00000000 00:00 0    [rollup]\nRss:      1788 kB\nPss:       100 kB\nPss_Dirty:  96 kB\n"
	if got := parsePSS(text); got != 100<<10 {
		t.Errorf("got %d", got)
	}
	if got := parsePSS("Rss: 1 kB\n"); got != 0 {
		t.Errorf("got %d of nothing", got)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	env := map[string]string{"SCALE": "7", "SALVOR": "/bin/sh", "SIZES": "1, 2.5", "TOOLS": "salvor*,cp"}
	o, err := parseOptions([]string{"-repeats", "2"}, func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	if o.scale != 7 || o.repeats != 2 || o.workers != 2 {
		t.Errorf("scale %d, repeats %d, workers %d", o.scale, o.repeats, o.workers)
	}
	if diff := cmp.Diff([]float64{1, 2.5}, o.sizes); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]bool{"salvor s2": true, "cp": true, "pgbackrest zst": false} {
		if o.chosen(name) != want {
			t.Errorf("%s is chosen: %v", name, !want)
		}
	}
	for _, args := range [][]string{{"-scale", "0"}, {"-sizes", "big"}, {"-sizes", "NaN"}, {"-steps", "half"}, {"-tools", "["}, {"more"}, {"-salvor", "/no/salvor"}} {
		if _, err := parseOptions(args, func(name string) string { return map[string]string{"SALVOR": "/bin/sh"}[name] }); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	words := []string{"a b", "it's", "$HOME", ""}
	out, err := exec.Command("sh", "-c", `printf '%s\n' `+quote(words)).Output()
	if want := strings.Join(words, "\n") + "\n"; err != nil || string(out) != want {
		t.Errorf("a shell makes %q of it, %v; want %q", out, err, want)
	}
}

// meterOf measures a shell script.
func meterOf(t *testing.T, script string) usage {
	t.Helper()
	text, err := json.Marshal(order{Argv: []string{"sh", "-c", script}})
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(os.Args[0], meterArgument, string(text))
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{w}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	u, err := readUsage(r)
	if err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return u
}

// TestMeter sees that a process counts which its parent has left behind, in a
// session of its own: an asynchronous archiver, say.
func TestMeter(t *testing.T) {
	t.Parallel()
	const work = `i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; head -c 3000000 /dev/zero >/dev/null`
	idle := meterOf(t, "exit 7")
	if idle.Exit != 7 {
		t.Errorf("the exit code is %d, want 7", idle.Exit)
	}
	left := meterOf(t, "setsid sh -c '"+work+"' >/dev/null 2>&1 &")
	if left.Exit != 0 || left.CPU < idle.CPU+0.02 || left.Read < 3_000_000 || left.Wrote < 3_000_000 || left.Wall < left.CPU/2 {
		t.Errorf("of a process in the background it saw %+v; of none %+v", left, idle)
	}
	if killed := meterOf(t, "kill -9 $$"); killed.Exit != 128+9 {
		t.Errorf("a death by signal 9 is exit code %d", killed.Exit)
	}
}
