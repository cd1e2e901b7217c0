package catalog

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/proof"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// What is known of a backup follows from its proofs, oldest first.
func TestVerifications(t *testing.T) {
	t.Parallel()
	type step struct {
		level VerifyLevel // "" is a restore
		ok    bool
	}
	const objects, data, restore = VerifyObjects, VerifyData, VerifyRestore
	for what, c := range map[string]struct {
		steps              []step
		last, best, failed int // counted from 1, 0 is none
		restored           int
	}{
		"nothing":                           {},
		"a restore is no verification":      {steps: []step{{"", true}}, restored: 1},
		"a higher level stays the best":     {steps: []step{{restore, true}, {objects, true}}, last: 2, best: 1, restored: 1},
		"the newest of a level":             {steps: []step{{data, true}, {data, true}}, last: 2, best: 2},
		"a failure takes all back":          {steps: []step{{restore, true}, {objects, false}}, last: 2, failed: 2, restored: 1},
		"what is lower does not heal it":    {steps: []step{{data, false}, {objects, true}}, last: 2, best: 2, failed: 1},
		"the same level does":               {steps: []step{{data, false}, {data, true}}, last: 2, best: 2},
		"a higher one does":                 {steps: []step{{objects, false}, {restore, true}}, last: 2, best: 2, restored: 2},
		"a restore heals nothing":           {steps: []step{{data, false}, {"", true}}, last: 1, failed: 1, restored: 2},
		"a later, lower failure hides none": {steps: []step{{restore, false}, {objects, false}, {objects, true}}, last: 3, best: 3, failed: 1},
		"a later, higher failure counts":    {steps: []step{{objects, false}, {restore, false}, {data, true}}, last: 3, best: 3, failed: 2},
		"the newest failure of a level":     {steps: []step{{data, false}, {data, false}}, last: 2, failed: 2},
		"one pass heals all below":          {steps: []step{{data, false}, {objects, false}, {restore, true}}, last: 3, best: 3, restored: 3},
		"a restore that failed":             {steps: []step{{restore, false}}, last: 1, failed: 1},
		"an unknown level":                  {steps: []step{{"moon", false}}},
	} {
		all := Verifications{}
		var proofs []Proof
		for n, s := range c.steps {
			p := Proof{ID: proofOf(n).ID, Kind: VerifyProof, BackupID: b1, StartedAt: minute(float64(n)), Level: s.level, OK: s.ok}
			if s.level == "" || s.level == restore {
				p.CopySeconds, p.ReplaySeconds = 10, float64(n)+1
			}
			if s.level == "" {
				p.Kind = RestoreProof
			}
			proofs = append(proofs, p)
			all.Add(p)
		}
		of := func(n int) Verified {
			if n == 0 {
				return Verified{}
			}
			p := proofs[n-1]
			return Verified{p.ID, p.StartedAt, p.Level, p.OK}
		}
		want := Verification{Last: of(c.last), Best: of(c.best), Failed: of(c.failed)}
		if c.restored > 0 {
			p := proofs[c.restored-1]
			want.Restore = Restored{p.ID, p.StartedAt, 10 + p.ReplaySeconds}
		}
		if d := cmp.Diff(want, all[b1]); d != "" {
			t.Errorf("%s:\n%s", what, d)
		}
	}
}

func TestRestoreSeconds(t *testing.T) {
	t.Parallel()
	for _, p := range []Proof{{CopySeconds: 1}, {ReplaySeconds: 1}, {CopySeconds: 1, ReplaySeconds: 1, Delta: true}} {
		if p.RestoreSeconds() != 0 {
			t.Errorf("%+v measures a whole restore", p)
		}
	}
}

// manyProofs are signed, some for each of so many backups.
func manyProofs(t testing.TB, objects *seal.Objects, n int) {
	t.Helper()
	signer, err := proof.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		started := minute(0).Add(time.Duration(i) * time.Hour)
		v := proofOf(i)
		v.ID, v.Kind, v.StartedAt, v.BackupID = started.UTC().Format("20060102T150405Z")+fmt.Sprintf("-%06x", i), VerifyProof, started, ordinaryHead(i/2*2).ID
		v.Previous.Digest = proof.Digest([]byte(v.ID))
		v.Checks = []Check{{"objects", true, 1.5, "4096 objects", false}, {"data", true, 100.25, "4.0 TiB in 300000 files", false}, {"start", true, 3.5, "recovered to 1/2345678", false},
			{"amcheck", true, 17.125, "131 tables, 204 indexes in 3 databases", false}, {"pg_dump", true, 0.5, "3 databases", false}}
		v.Problems, v.Delta = nil, false
		if err := putProof(t.Context(), objects, testPlace, v, proof.Digest([]byte(v.BackupID)), signer); err != nil {
			t.Fatal(err)
		}
	}
}

// Proofs come from the cache, too, and a damaged copy says nothing.
func TestProofsAreKept(t *testing.T) {
	const n = 300
	var delay time.Duration
	var most atomic.Int32
	m := delayed(&delay, &most)
	manyProofs(t, seal.New(m, oneKey{}), n)
	dir := t.TempDir()
	read := func(wantReads bool) {
		t.Helper()
		most.Store(0)
		objects, end := keptIn(t, m, dir)
		defer end()
		all, unreadable, err := ReadVerifications(t.Context(), objects, testPlace.Cluster)
		if err != nil || len(all) != n/2 || len(unreadable) > 0 {
			t.Fatal(len(all), unreadable, err)
		}
		if last := all[ordinaryHead(n-2).ID]; last.Best.Level != VerifyRestore || last.Best.ID != last.Restore.ID || !last.Best.At.Equal(minute(0).Add((n-1)*time.Hour)) {
			t.Errorf("%+v", last)
		}
		if reads := most.Load() > 0; reads != wantReads {
			t.Errorf("it reads the store: %v", reads)
		}
	}
	delay = time.Microsecond
	read(true)
	read(false)
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	if err == nil {
		data[len(data)-30] ^= 1 // of the last one's trailer
		err = os.WriteFile(files[0], data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	read(true)
}

// BenchmarkProofs10000 reads ten thousand proofs beside as many heads, of a store far
// away and from a cache.
func BenchmarkProofs10000(b *testing.B) {
	const n = 10_000
	var delay time.Duration
	var most atomic.Int32
	m := delayed(&delay, &most)
	manyProofs(b, seal.New(m, oneKey{}), n)
	dir := b.TempDir()
	process := func() {
		objects, end := keptIn(b, m, dir)
		defer end()
		if all, _, err := ReadVerifications(b.Context(), objects, testPlace.Cluster); err != nil || len(all) != n/2 {
			b.Fatal(len(all), err)
		}
	}
	process() // fills the cache
	delay = 20 * time.Millisecond
	b.ReportAllocs()
	for b.Loop() {
		process()
	}
}
