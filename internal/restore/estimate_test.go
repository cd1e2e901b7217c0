package restore

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/catalog"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// took is a restore on db1: so many bytes copied, so many replayed.
func took(size uint64, copying float64, wal uint64, replaying float64) catalog.Proof {
	return catalog.Proof{Kind: catalog.RestoreProof, Host: "db1", Size: size, CopySeconds: copying, Replayed: wal, ReplaySeconds: replaying}
}

func over(p catalog.Proof) catalog.Proof { p.Delta = true; return p }

func at(host string, p catalog.Proof) catalog.Proof { p.Host = host; return p }

func TestEstimateTime(t *testing.T) {
	t.Parallel()
	all := func(seconds float64) Span { return Span{seconds, seconds, seconds} }
	for what, c := range map[string]struct {
		work Work
		past []catalog.Proof
		want Estimate // zero: none
	}{
		"no history": {work: Work{Size: gib, Replay: gib}},
		"another kind, and what has no duration or size": {
			work: Work{Size: gib, Replay: gib},
			past: []catalog.Proof{{Kind: "drill", Host: "db1", Size: gib, CopySeconds: 1}, took(gib, 0, gib, 7), took(0, 3, 0, 0), took(gib, -1, 0, 0)},
		},
		"the same again": {
			work: Work{Size: gib, Replay: gib}, past: []catalog.Proof{took(gib, 10, gib, 20)},
			want: Estimate{all(10), all(20), 1, true},
		},
		"twice as much": {
			work: Work{Size: 2 * gib, Replay: 3 * gib}, past: []catalog.Proof{took(gib, 10, gib, 20)},
			want: Estimate{all(20), all(60), 1, true},
		},
		"no server was ever started": {
			work: Work{Size: gib, Replay: gib}, past: []catalog.Proof{took(gib, 10, 0, 0), took(gib, 12, 0, 0)},
			want: Estimate{Copy: Span{12, 10, 12}, Measurements: 2, Here: true},
		},
		"the median, and of two in the middle the longer": {
			work: Work{Size: gib, Replay: gib},
			past: []catalog.Proof{took(gib, 10, gib, 40), took(gib, 30, gib, 10), took(gib, 20, gib, 20), took(gib, 11, gib, 30)},
			want: Estimate{Span{20, 10, 30}, Span{30, 10, 40}, 4, true},
		},
		"as many as both parts have": {
			work: Work{Size: gib, Replay: gib}, past: []catalog.Proof{took(gib, 10, gib, 20), took(gib, 10, 0, 0), took(gib, 10, 0, 0)},
			want: Estimate{all(10), all(20), 1, true},
		},
		"this host before others": {
			work: Work{Size: gib, Replay: gib}, past: []catalog.Proof{at("db2", took(gib, 1, gib, 2)), took(gib, 10, gib, 20), at("db3", took(gib, 1, gib, 2))},
			want: Estimate{all(10), all(20), 1, true},
		},
		"others, where there is none of this host": {
			work: Work{Size: gib, Replay: gib}, past: []catalog.Proof{at("db2", took(gib, 1, gib, 2)), at("db3", took(gib, 3, gib, 6))},
			want: Estimate{Span{3, 1, 3}, Span{6, 2, 6}, 2, false},
		},
		"copied here, replayed elsewhere": {
			work: Work{Size: gib, Replay: gib}, past: []catalog.Proof{took(gib, 10, 0, 0), at("db2", took(gib, 1, gib, 2))},
			want: Estimate{all(10), all(2), 1, false},
		},
		"hardly anything, after much: a server takes its time to start": {
			work: Work{Size: mib, Replay: 16}, past: []catalog.Proof{took(100*gib, 1000, 10*gib, 3600)},
			want: Estimate{all(startUp), all(startUp), 1, true},
		},
		"hardly anything, after hardly anything": {
			work: Work{Size: mib, Replay: 0}, past: []catalog.Proof{took(gib, 1, mib, 0.5), took(2*gib, 1, 2*mib, 0.75)},
			want: Estimate{all(1), all(0.5), 2, true},
		},
		"much, where something like it was measured": {
			work: Work{Size: 100 * gib, Replay: 10 * gib}, past: []catalog.Proof{took(mib, 1, mib, 1), took(50*gib, 500, 2*gib, 60)},
			want: Estimate{all(1000), all(300), 1, true},
		},
		"much, after little: by the largest": {
			work: Work{Size: gib, Replay: gib}, past: []catalog.Proof{took(mib, 0.5, 1024, 1), took(16*mib, 1, 64*mib, 2)},
			want: Estimate{all(64), all(32), 1, true},
		},
		"a delta restore takes as long as a whole one": {
			work: Work{Size: gib, Replay: gib, Delta: true}, past: []catalog.Proof{took(gib, 10, gib, 20), over(took(gib, 2, gib, 20))},
			want: Estimate{all(10), all(20), 1, true},
		},
		"or else as the delta restores before": {
			work: Work{Size: gib, Replay: gib, Delta: true}, past: []catalog.Proof{over(took(gib, 2, gib, 20))},
			want: Estimate{all(2), all(20), 1, true},
		},
		"which say nothing of a whole one": {work: Work{Size: gib, Replay: gib}, past: []catalog.Proof{over(took(gib, 2, gib, 20))}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			got, ok := EstimateTime(c.work, "db1", c.past)
			if d := cmp.Diff(c.want, got, cmpopts.EquateApprox(1e-9, 0)); d != "" || ok != (c.want != Estimate{}) {
				t.Errorf("%v\n%s", ok, d)
			}
		})
	}
	if got := (Estimate{Copy: Span{2, 1, 3}, Replay: Span{20, 10, 30}}).Total(); got != (Span{22, 11, 33}) {
		t.Errorf("the total is %+v", got)
	}
}

// Where beginning costs something, and rates vary, an estimate for no less than what was
// measured does not promise too much.
func TestEstimateIsNotTooShort(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		begin, rate := rapid.Float64Range(0, 30).Draw(t, "seconds to begin"), rapid.Float64Range(1e6, 1e9).Draw(t, "bytes a second")
		seconds := func(bytes uint64) float64 { return begin + float64(bytes)/rate }
		sizes := rapid.SliceOfN(rapid.Uint64Range(1, 100*gib), 1, 20).Draw(t, "measured")
		var past []catalog.Proof
		largest := uint64(0)
		for _, n := range sizes {
			past, largest = append(past, took(n, seconds(n), n, seconds(n))), max(largest, n)
		}
		bytes := largest + rapid.Uint64Range(0, 100*gib).Draw(t, "more")
		e, ok := EstimateTime(Work{Size: bytes, Replay: bytes}, "db1", past)
		if !ok || e.Replay != e.Copy || e.Copy.Low < seconds(bytes)*(1-1e-9) || e.Copy.Likely < e.Copy.Low || e.Copy.High < e.Copy.Likely {
			t.Errorf("%+v for %g s", e, seconds(bytes))
		}
	})
}
