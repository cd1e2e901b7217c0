package pg

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseLSN(t *testing.T) {
	for _, c := range []struct {
		in   string
		want LSN
		ok   bool
	}{
		{"0/0", 0, true},
		{"16/B374D848", 0x16B374D848, true},
		{"0/015D8D98", 0x15D8D98, true}, // PostgreSQL 19 pads
		{"FFFFFFFF/FFFFFFFF", 1<<64 - 1, true},
		{"16", 0, false},
		{"/1", 0, false},
		{"1/", 0, false},
		{"+1/2", 0, false},
		{"1/123456789", 0, false},
		{"1/2/3", 0, false},
	} {
		got, err := ParseLSN(c.in)
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("ParseLSN(%q) = %v, %v; want %v, ok %v", c.in, got, err, c.want, c.ok)
		}
	}
}

func TestSegmentNames(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		tli  Timeline
		lsn  LSN
		size uint32
		name string
	}{
		{1, 0x01000000, 16 * mib, "000000010000000000000001"},
		{0x1F, 0x16B374D848, 16 * mib, "0000001F00000016000000B3"},
		{1, 0x1FFFFFFFF, 16 * mib, "0000000100000001000000FF"},
		{1, 0x200000000, 16 * mib, "000000010000000200000000"},
		{1, 0x1FFFFFFFF, mib, "000000010000000100000FFF"},
		{1, 0x1FFFFFFFF, 1 << 30, "000000010000000100000003"},
	} {
		if got := SegmentAt(c.tli, c.lsn, c.size).Name(c.size); got != c.name {
			t.Errorf("segment at %v of %d bytes = %s, want %s", c.lsn, c.size, got, c.name)
		}
	}
}

// A log that ends exactly on a boundary ends in the segment before it.
func TestSegmentBeforeBoundary(t *testing.T) {
	const size = 16 << 20
	if got := SegmentBefore(1, 2*size, size); got.Number != 1 {
		t.Errorf("segment before a boundary = %d, want 1", got.Number)
	}
	if got := SegmentBefore(1, 2*size+1, size); got.Number != 2 {
		t.Errorf("segment before a byte past a boundary = %d, want 2", got.Number)
	}
}

func TestSegmentNameRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := uint32(1) << rapid.IntRange(20, 30).Draw(t, "log2 size")
		want := Segment{
			Timeline: Timeline(rapid.Uint32Min(1).Draw(t, "timeline")),
			Number:   rapid.Uint64Range(0, (1<<64-1)/uint64(size)).Draw(t, "number"),
		}
		got, err := ParseSegment(want.Name(size), size)
		if err != nil || got != want {
			t.Fatalf("%v -> %s -> %v, %v", want, want.Name(size), got, err)
		}
	})
}

func TestParseWALFile(t *testing.T) {
	const size = 16 << 20
	seg := Segment{2, 0x16*256 + 0xB3}
	for name, want := range map[string]WALFile{
		"0000000200000016000000B3":                 {Kind: WALSegment, Timeline: 2, Segment: seg},
		"0000000200000016000000B3.partial":         {Kind: WALPartial, Timeline: 2, Segment: seg},
		"0000000200000016000000B3.00000028.backup": {Kind: WALBackupMarker, Timeline: 2, Segment: seg, Offset: 0x28},
		"0000000A.history":                         {Kind: WALHistory, Timeline: 10},
	} {
		got, err := ParseWALFile(name, size)
		if err != nil {
			t.Errorf("ParseWALFile(%q): %v", name, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("ParseWALFile(%q): %s", name, d)
		}
	}
	for _, name := range []string{
		"", "x", "000000020000001600000100", "0000000200000016000000b3", "0000000200000016000000B3.part",
		"0000000200000016000000B3.FFFFFFFF.backup", "0000000000000016000000B3", "00000000.history", "A.history",
		"../0000000200000016000000B3", "0000000200000016000000B3.partial.x",
	} {
		if got, err := ParseWALFile(name, size); err == nil {
			t.Errorf("ParseWALFile(%q) = %+v, want an error", name, got)
		}
	}
}

func TestParseHistory(t *testing.T) {
	data := "1\t0/5000000\tno recovery target specified\n\n# a remark\n3\t0/9000028\tbefore 2026-01-01 00:00:00+00\n"
	got, err := ParseHistory(5, []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	want := History{Timeline: 5, Forks: []Fork{
		{1, 0x5000000, "no recovery target specified"},
		{3, 0x9000028, "before 2026-01-01 00:00:00+00"},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	for lsn, tli := range map[LSN]Timeline{0: 1, 0x4FFFFFF: 1, 0x5000000: 3, 0x9000027: 3, 0x9000028: 5} {
		if got.At(lsn) != tli {
			t.Errorf("timeline at %v = %d, want %d", lsn, got.At(lsn), tli)
		}
	}
	if !got.Contains(1, 0x5000000) || got.Contains(1, 0x5000001) || got.Contains(2, 1) || !got.Contains(5, 1<<40) {
		t.Error("Contains does not follow the forks")
	}
	for _, bad := range []string{"x 0/1 r", "1", "5 0/1 r", "6 0/1 r", "3 0/1 r\n1 0/2 r", "1 zz r"} {
		if h, err := ParseHistory(5, []byte(bad)); err == nil {
			t.Errorf("ParseHistory(%q) = %+v, want an error", bad, h)
		}
	}
}

func FuzzParseHistory(f *testing.F) {
	f.Add(uint32(5), []byte("1\t0/5000000\treason\n3\t0/9000028\tother\n"))
	f.Fuzz(func(t *testing.T, tli uint32, data []byte) {
		h, err := ParseHistory(Timeline(tli), data)
		if err != nil {
			return
		}
		for i, fork := range h.Forks {
			if fork.Timeline >= h.Timeline || (i > 0 && fork.Timeline <= h.Forks[i-1].Timeline) {
				t.Fatalf("ancestors do not rise: %+v", h)
			}
		}
	})
}

func FuzzParseWALFile(f *testing.F) {
	f.Add("0000000200000016000000B3.00000028.backup", uint32(16<<20))
	f.Add("0000000A.history", uint32(1<<20))
	f.Fuzz(func(t *testing.T, name string, size uint32) {
		w, err := ParseWALFile(name, size)
		if err == nil && w.Kind != WALHistory && name[:24] != w.Segment.Name(size) {
			t.Fatalf("%q parsed as %s", name, w.Segment.Name(size))
		}
	})
}
