package cli

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/pg"
)

type view struct {
	ID              string  `json:"id"`
	StartLSN        pg.LSN  `json:"start_lsn"`
	StartedAt       stamp   `json:"started_at"`
	VerifiedAt      stamp   `json:"verified_at,omitzero"`
	DurationSeconds float64 `json:"duration_seconds"`
	ParentID        *string `json:"parent_id"`
}

func example() view {
	when := time.Date(2026, 3, 1, 2, 0, 0, 0, time.FixedZone("", 3600))
	return view{ID: "<b1>", StartLSN: 0x16B374D848, StartedAt: stamp(when), DurationSeconds: seconds(1500 * time.Millisecond)}
}

// made is an item that is made when it is printed.
type made struct{}

func (made) view() any { return example() }

func TestDocuments(t *testing.T) {
	t.Parallel()
	human := details{{"backup", "b1"}, {"parent", ""}, {"duration", "1.5s"}}
	rows := table{columns: []column{{"id", false}, {"size", true}, {"kept by", false}}, empty: "no backups yet",
		rows: [][]string{{"b1", "12.0 MiB", "daily"}, {"béé22", "9 B", ""}}}
	const one = `"id":"<b1>","start_lsn":"16/B374D848","started_at":"2026-03-01T01:00:00.000000Z","duration_seconds":1.5,"parent_id":null}`
	for _, tc := range []struct {
		format string
		print  func(*printer) error
		want   string
	}{
		{outputJSON, func(p *printer) error { return p.document(example(), human) }, `{"format_version":1,` + one + "\n"},
		{outputJSON, func(p *printer) error { return p.document(struct{}{}, human) }, `{"format_version":1}` + "\n"},
		{outputJSON, func(p *printer) error { return p.list([]view{example()}, rows) }, `{"format_version":1,"items":[{` + one + "]}\n"},
		{outputJSON, func(p *printer) error { return p.list([]view(nil), rows) }, `{"format_version":1,"items":[]}` + "\n"},
		{outputJSON, func(p *printer) error { return p.list([]viewer{made{}, made{}}, rows) }, `{"format_version":1,"items":[{` + one + ",{" + one + "]}\n"},
		{outputYAML, func(p *printer) error { return p.list([]view(nil), rows) }, "format_version: 1\nitems: []\n"},
		{outputYAML, func(p *printer) error { return p.document(example(), human) },
			"format_version: 1\nid: <b1>\nstart_lsn: 16/B374D848\nstarted_at: '2026-03-01T01:00:00.000000Z'\nduration_seconds: 1.5\nparent_id: null\n"},
		{outputTable, func(p *printer) error { return p.document(example(), human) }, "backup    b1\nduration  1.5s\n"},
		{outputTable, func(p *printer) error { return p.list([]view{}, rows) },
			"ID         SIZE  KEPT BY\nb1     12.0 MiB  daily\nbéé22       9 B\n"},
		{outputTable, func(p *printer) error { return p.list([]view{}, table{empty: "no backups yet"}) }, "no backups yet\n"},
	} {
		var out strings.Builder
		if err := tc.print(&printer{w: &out, format: tc.format}); err != nil {
			t.Errorf("%s: %v", tc.format, err)
		}
		if diff := cmp.Diff(tc.want, out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.format, diff)
		}
	}
}

type brokenWriter struct{}

var errDiskFull = errors.New("no space left on device")

func (brokenWriter) Write([]byte) (int, error) { return 0, errDiskFull }

func TestResultsThatCannotBePrinted(t *testing.T) {
	t.Parallel()
	for _, format := range []string{outputTable, outputJSON, outputYAML} {
		p := &printer{w: brokenWriter{}, format: format}
		if err := p.document(example(), details{{"a", "b"}}); !errors.Is(err, errDiskFull) || !strings.HasPrefix(err.Error(), "printing the result: ") {
			t.Errorf("%s: %v", format, err)
		}
	}
	p := &printer{w: &strings.Builder{}, format: outputJSON}
	if err := p.document([]int{1}, details{}); err == nil {
		t.Error("a list was printed as a document")
	}
	if err := p.document(make(chan int), details{}); err == nil {
		t.Error("a channel was printed")
	}
}

// TestYAMLIsTheSameDocument turns any JSON into YAML and reads that back.
func TestYAMLIsTheSameDocument(t *testing.T) {
	t.Parallel()
	var value func(depth int) *rapid.Generator[any]
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"yes", "null", "~", "1e3", "0x10", "2026-01-01", "a: b", "- a", "", " ", "\n", "a\nb\n", "\u2028", "\u0085", "\x7f", "# a", "<<", "=", ".inf"}))
	value = func(depth int) *rapid.Generator[any] {
		kinds := []*rapid.Generator[any]{
			text.AsAny(), rapid.Bool().AsAny(), rapid.Int64().AsAny(), rapid.Just[any](nil),
			rapid.Float64Range(-1e30, 1e30).AsAny(),
		}
		if depth > 0 {
			kinds = append(kinds, rapid.SliceOfN(value(depth-1), 0, 3).AsAny(), rapid.MapOfN(text, value(depth-1), 0, 3).AsAny())
		}
		return rapid.OneOf(kinds...)
	}
	rapid.Check(t, func(t *rapid.T) {
		doc, err := encode(rapid.MapOfN(text, value(2), 0, 4).Draw(t, "document"))
		if err != nil {
			t.Fatal(err)
		}
		printed, err := toYAML(doc)
		if err != nil {
			t.Fatal(err)
		}
		var fromYAML any
		if err := yaml.Load(printed, &fromYAML); err != nil {
			t.Fatalf("%v in\n%s", err, printed)
		}
		again, err := json.Marshal(fromYAML)
		if err != nil {
			t.Fatal(err)
		}
		var want, got any
		if err := errors.Join(json.Unmarshal(doc, &want), json.Unmarshal(again, &got)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-json +yaml):\n%s\n%s", diff, printed)
		}
	})
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 310 << 20: "310 MiB", 1<<20 - 1: "1.0 MiB", 99 << 30: "99.0 GiB", 5 << 40: "5.0 TiB", 1<<63 - 1: "8.0 EiB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("formatBytes(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0ms", 350 * time.Millisecond: "350ms", 4210 * time.Millisecond: "4.2s", 59999 * time.Millisecond: "1m00s",
		252 * time.Second: "4m12s", time.Hour - 1: "1h00m", 185 * time.Minute: "3h05m", 24*time.Hour - 1: "1d00h", 51 * time.Hour: "2d03h", -time.Second: "-1.0s",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("formatDuration(%v) = %q, want %q", d, got, want)
		}
	}
	if got := formatTime(time.Date(2026, 3, 1, 2, 0, 0, 9, time.FixedZone("", 3600))); got != "2026-03-01T01:00:00Z" {
		t.Errorf("formatTime gives %q", got)
	}
	if got := formatTime(time.Time{}); got != "" {
		t.Errorf("formatTime of a time that is not known gives %q", got)
	}
}
