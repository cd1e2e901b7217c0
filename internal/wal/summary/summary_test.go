package summary

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
)

// archive is WAL that a server of some version wrote, with a promotion in the
// middle (testdata of pg/walrec): segments of 1 MiB in order of their place, and
// the history of the second timeline.
type archive struct {
	segments []pg.Segment
	data     [][]byte
	history  pg.History
}

const segmentSize = 1 << 20

func loadArchive(t testing.TB, major int) archive {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("../../pg/walrec/testdata/archive-%d.tar.gz", major))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	var names []string
	var a archive
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		if len(h.Name) == 24 {
			names = append(names, h.Name)
		}
	}
	if h, is := files["00000002.history"]; is {
		if a.history, err = pg.ParseHistory(2, h); err != nil {
			t.Fatal(err)
		}
	} else {
		t.Fatal("no history")
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(a[8:]+a[:8], b[8:]+b[:8]) })
	for _, n := range names {
		s, err := pg.ParseSegment(n, segmentSize)
		if err != nil {
			t.Fatal(err)
		}
		a.segments, a.data = append(a.segments, s), append(a.data, files[n])
	}
	return a
}

// summaries makes one of each segment, and sends it through its encoded form.
func (a archive) summaries(t testing.TB) []Summary {
	t.Helper()
	var all []Summary
	for i, b := range a.data {
		s, err := Read(a.segments[i].Timeline, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, again(t, s))
	}
	return all
}

func again(t testing.TB, s Summary) Summary {
	t.Helper()
	enc := Encode(s)
	d, err := Decode(enc)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(Encode(d), enc) {
		t.Fatal("encoding is not stable")
	}
	return d
}

func TestSegmentsJoinToTheWhole(t *testing.T) {
	for major := pg.OldestMajor; major <= pg.NewestMajor; major++ {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			a := loadArchive(t, major)
			whole, err := Read(2, bytes.NewReader(bytes.Join(a.data, nil)))
			if err != nil {
				t.Fatal(err)
			}
			want := Encode(whole)
			if whole.Map.Forks() < 20 || whole.Map.Listed() < 30 {
				t.Fatalf("%d forks, %d blocks", whole.Map.Forks(), whole.Map.Listed())
			}
			seed := rand.Uint64()
			rnd := rand.New(rand.NewPCG(seed, 0))
			for range 5 {
				parts := a.summaries(t)
				for len(parts) > 1 { // in any grouping
					i := rnd.IntN(len(parts) - 1)
					if err := parts[i].Join(parts[i+1]); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					parts = slices.Delete(parts, i+1, i+2)
				}
				if d := cmp.Diff(want, Encode(again(t, parts[0]))); d != "" {
					t.Fatalf("seed %d: joined segments say something else than all at once: %s", seed, d)
				}
			}
		})
	}
}

func TestUnionOverTimelines(t *testing.T) {
	t.Parallel()
	a := loadArchive(t, 15)
	all := a.summaries(t)
	fork, _ := a.history.ForkAfter(1)
	border := slices.IndexFunc(a.segments, func(s pg.Segment) bool { return s.Timeline == 2 })
	from, to := all[0].From+4096, all[len(all)-1].To-4096
	union := func(parts []Summary) ([]byte, error) {
		u := NewUnion(a.history, from, to)
		for _, s := range parts {
			if err := u.Add(again(t, s)); err != nil {
				return nil, err
			}
		}
		m, err := u.Map()
		if err != nil {
			return nil, err
		}
		return m.append(nil), nil
	}
	want, err := union(all)
	if err != nil {
		t.Fatal(err)
	}

	// The old timeline's last segment, too: it goes on where the new one's goes elsewhere.
	old := all[border]
	old.Timeline = 1
	if fork <= old.From || fork >= old.To {
		t.Fatalf("the fork at %s is not in the segment from %s", fork, old.From)
	}
	if got, err := union(slices.Insert(slices.Clone(all), border, old)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("with the segment twice: %v", err)
	}
	// Summaries before the range do not matter.
	before := Summary{Timeline: 1, From: all[0].From - segmentSize, To: all[0].From, Map: NewMap()}
	if got, err := union(slices.Insert(slices.Clone(all), 0, before)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("with WAL before: %v", err)
	}

	var gap *GapError
	_, err = union(slices.Delete(slices.Clone(all), 3, 4))
	if !errors.As(err, &gap) || gap.From != all[3].From || gap.To != all[3].To {
		t.Errorf("without a segment: %v", err)
	}
	if _, err = union(all[1:]); !errors.As(err, &gap) || gap.From != from || gap.To != all[1].From {
		t.Errorf("without the first segment: %v", err)
	}
	if _, err = union(all[:len(all)-1]); !errors.As(err, &gap) || gap.From != all[len(all)-1].From || gap.To != to {
		t.Errorf("without the last segment: %v", err)
	}
	// The old timeline does not reach beyond the fork.
	if _, err = union(append(slices.Clone(all[:border]), old)); !errors.As(err, &gap) || gap.From != fork {
		t.Errorf("without the new timeline: %v", err)
	}
	other := all[2]
	other.Timeline = 7
	if _, err = union(slices.Insert(slices.Clone(all), 2, other)); !errors.Is(err, ErrForeign) {
		t.Errorf("of another timeline: %v", err)
	}
	if m, err := NewUnion(a.history, to, to).Map(); err != nil || m.Forks() != 0 {
		t.Errorf("an empty range: %v", err)
	}
}

// A record that was open where the timeline was left never went on.
func TestUnionForgetsWhatTheForkCutOff(t *testing.T) {
	t.Parallel()
	h := pg.History{Timeline: 2, Forks: []pg.Fork{{Timeline: 1, At: 1500}}}
	u := NewUnion(h, 1100, 2500)
	cut := walrec.Fragment{Major: 15, Start: 1600, End: 2000, Length: 400, More: 50}
	for _, s := range []Summary{
		{Timeline: 1, From: 1000, To: 2000, Map: NewMap(), Tail: []walrec.Fragment{cut}},
		{Timeline: 2, From: 1500, To: 2000, Map: NewMap()},
		{Timeline: 2, From: 2000, To: 3000, Map: NewMap()},
	} {
		if err := u.Add(s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := u.Map(); err != nil || u.At() != 3000 {
		t.Errorf("covered up to %s: %v", u.At(), err)
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	b := NewBuilder()
	for _, r := range []walrec.Record{
		{LSN: 100, Manager: 0, WALLevel: walrec.LevelReplica},
		{LSN: 200, Manager: 0, WALLevel: walrec.LevelMinimal},
		{LSN: 300, Manager: 10, Info: 1, Change: walrec.UnknownChange},
		{LSN: 400, Manager: 130},
		{LSN: 500, Manager: 131, Blocks: []walrec.BlockRef{{Block: 1}}},
		{LSN: 600, Manager: 131, Blocks: []walrec.BlockRef{{Block: 1}}},
		{LSN: 700, Manager: 1, Change: walrec.RelationsDropped, Cut: true},
	} {
		b.Record(&r)
	}
	s := again(t, Summary{Timeline: 1, From: 64, To: 1000, Map: b.m, Reasons: b.reasons.list()})
	want := []Reason{
		{MinimalLevel, 0, 200, 200}, {UnknownManager, 131, 500, 600}, {UnknownChange, 10, 300, 300}, {CutRecord, 1, 700, 700},
	}
	if d := cmp.Diff(want, s.Reasons); d != "" {
		t.Error(d)
	}
	for _, tt := range []struct {
		from, to pg.LSN
		want     []ReasonKind
	}{
		{64, 1000, []ReasonKind{MinimalLevel, UnknownManager, UnknownChange, CutRecord}},
		{64, 200, nil},
		{201, 300, nil},
		{550, 560, []ReasonKind{UnknownManager}},
		{601, 701, []ReasonKind{CutRecord}},
	} {
		u := NewUnion(pg.History{Timeline: 1}, tt.from, tt.to)
		if err := u.Add(again(t, s)); err != nil {
			t.Fatal(err)
		}
		_, err := u.Map()
		var unusable *UnusableError
		var got []ReasonKind
		if errors.As(err, &unusable) {
			for _, r := range unusable.Reasons {
				got = append(got, r.Kind)
			}
		}
		if d := cmp.Diff(tt.want, got); d != "" || (err == nil) != (tt.want == nil) {
			t.Errorf("%s to %s: %v", tt.from, tt.to, err)
		}
		if err != nil && (!errors.Is(err, ErrUnusable) || strings.Contains(err.Error(), "reason ")) {
			t.Errorf("%v", err)
		}
	}
}

// A record that crosses a border must have its rest, or have been given up.
func TestBorders(t *testing.T) {
	t.Parallel()
	all := loadArchive(t, 15).summaries(t)
	i := 0
	for len(all[i].Tail) == 0 || all[i+1].Head[0].More > 0 {
		i++ // to a record that ends in the next segment
	}
	join := func(change func(a, b *Summary)) error {
		a, b := again(t, all[i]), again(t, all[i+1])
		change(&a, &b)
		return a.Join(b)
	}
	if err := join(func(_, b *Summary) { b.Head = nil }); !errors.Is(err, walrec.ErrFragments) {
		t.Errorf("without the rest: %v", err)
	}
	if err := join(func(a, _ *Summary) { a.Tail = nil }); !errors.Is(err, walrec.ErrFragments) {
		t.Errorf("without the beginning: %v", err)
	}
	if err := join(func(_, b *Summary) { b.Head, b.Overwritten = nil, true }); err != nil {
		t.Errorf("given up: %v", err)
	}
	if err := join(func(_, b *Summary) { b.Head[0].Sum++ }); !errors.Is(err, walrec.ErrChecksum) {
		t.Errorf("damaged: %v", err)
	}
	if err := join(func(_, b *Summary) { b.From++ }); !errors.Is(err, ErrGap) {
		t.Errorf("elsewhere: %v", err)
	}
}

// FuzzDecode: what can be decoded is encoded to what decodes to the same, and
// nothing takes more memory than it may.
func FuzzDecode(f *testing.F) {
	for _, s := range loadArchive(f, 17).summaries(f) {
		if enc := Encode(s); len(enc) < 10000 { // a record that fills a segment is in some
			f.Add(enc)
		}
	}
	b := NewBuilder()
	b.m.Database(1663, 5)
	b.m.Tablespace(1700)
	for i := range uint32(3000) {
		b.m.Block(walrec.RelFileLocator{Tablespace: 1663, Database: 7, Number: i % 5}, 0, i*i)
	}
	b.m.Limit(walrec.RelFileLocator{Tablespace: 1663, Database: 7, Number: 2}, 0, 99)
	f.Add(Encode(Summary{Timeline: 3, From: 1 << 40, To: 1<<40 + 99, Map: b.m, Overwritten: true,
		Reasons: []Reason{{MinimalLevel, 0, 5, 6}, {UnknownManager, 200, 7, 7}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decode(b, 4<<20)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		enc := Encode(s)
		d, err := Decode(enc)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(Encode(d), enc) {
			t.Fatal("encoding is not stable")
		}
		for _, set := range d.Map.forks {
			set.runs(0, 1<<32, func(a, z uint64) bool {
				if a >= z || z > uint64(set.limit) {
					t.Fatalf("blocks %d to %d, limit %d", a, z, set.limit)
				}
				return true
			})
		}
		two, _ := Decode(enc)
		_ = two.Join(d)
	})
}
