package datadir

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/pg"
)

func TestParseTablespaceMapOfRealServers(t *testing.T) {
	for major := pg.OldestMajor; major <= pg.NewestMajor; major++ {
		data := readFile(t, fmt.Sprintf("testdata/pg%d.tablespace_map", major))
		got, err := ParseTablespaceMap(data)
		want := []Tablespace{
			{16389, "/srv/postgres/tblspc"},
			{16390, "/srv/postgres/tb \\odd\nname"},
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%d: %v\n%s", major, err, diff)
		}
		if out := FormatTablespaceMap(got); !bytes.Equal(out, data) {
			t.Errorf("%d: written as %q, PostgreSQL writes %q", major, out, data)
		}
	}
}

func TestParseTablespaceMap(t *testing.T) {
	tests := []struct {
		text string
		want []Tablespace // nil: an error
	}{
		{"", []Tablespace{}},
		{"1 /a\r\n2 /b\r\n", []Tablespace{{1, "/a"}, {2, "/b"}}},
		{"\n\n7  /space first\n", []Tablespace{{7, " /space first"}}},
		{"7 /a\\\r\\\nb\\\\\n", []Tablespace{{7, "/a\r\nb\\"}}},
		{"7 /a\\b\n", []Tablespace{{7, "/ab"}}},
		{"4294967295 /\xff\x00\n", []Tablespace{{4294967295, "/\xff\x00"}}},
		{"7 /a", nil},
		{"7 /a\\", nil},
		{"7 /a\\\n", nil},
		{"7\n", nil},
		{"7 \n", nil},
		{" /a\n", nil},
		{"0 /a\n", nil},
		{"-1 /a\n", nil},
		{"4294967296 /a\n", nil},
		{"x /a\n", nil},
		{"7 /" + strings.Repeat("a", TablespaceMapPathMax) + "\n", nil},
	}
	for _, tt := range tests {
		got, err := ParseTablespaceMap([]byte(tt.text))
		if (err != nil) != (tt.want == nil) {
			t.Errorf("%q: %v, %v", tt.text, got, err)
			continue
		}
		if len(got) != len(tt.want) || len(got) > 0 && !cmp.Equal(got, tt.want) {
			t.Errorf("%q: %v, want %v", tt.text, got, tt.want)
		}
	}
}

func TestTablespaceMapSurvivesWritingAndReading(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		space := rapid.Custom(func(t *rapid.T) Tablespace {
			location := rapid.SliceOfN(rapid.SampledFrom([]byte("/ab \\\n\r=#[\xff")), 1, 30).Draw(t, "location")
			return Tablespace{pg.OID(rapid.Uint32Min(1).Draw(t, "oid")), string(location)}
		})
		want := rapid.SliceOfN(space, 1, 5).Draw(t, "spaces")
		got, err := ParseTablespaceMap(FormatTablespaceMap(want))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}

func FuzzParseTablespaceMap(f *testing.F) {
	f.Add(readFile(f, "testdata/pg15.tablespace_map"))
	f.Add([]byte("7 /a\\\n"))
	f.Add([]byte("\r\n\\"))
	f.Fuzz(func(t *testing.T, data []byte) {
		first, err := ParseTablespaceMap(data)
		if err != nil {
			return
		}
		second, err := ParseTablespaceMap(FormatTablespaceMap(first))
		if diff := cmp.Diff(first, second); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}
