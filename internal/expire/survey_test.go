package expire

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/retention"
	"github.com/salvor-dr/salvor/internal/store/cache"
	"github.com/salvor-dr/salvor/internal/store/file"
)

// oneKey is a ring of one key, so that a benchmark pays for the seals.
type oneKey [32]byte

func (k oneKey) Current() (repo.ID, [32]byte)              { return repo.ID{1}, k }
func (k oneKey) Lookup(id repo.ID) (key [32]byte, ok bool) { return k, id == repo.ID{1} }

// BenchmarkPlan10000 plans for ten thousand backups in a directory, with the WAL of a
// month, without copies of heads on this host, and with.
func BenchmarkPlan10000(b *testing.B) {
	const backups, segments = 10_000, 20_000
	dir, kept := b.TempDir(), b.TempDir()
	st, err := file.Open(dir, file.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	objects := seal.New(st, oneKey{})
	p := catalog.Place{Cluster: "main", SystemID: 7, Incarnation: "0123456789abcdef"}
	sizes := pg.Sizes{Block: 8192, WALBlock: 8192, SegmentBlocks: 131072, WALSegment: segSize}
	if err := catalog.WriteOrigin(b.Context(), objects, catalog.Origin{Cluster: p.Cluster, SystemID: p.SystemID, Incarnation: p.Incarnation, Sizes: sizes}); err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	for n := range backups {
		at := now.Add(-time.Duration(backups-n) * time.Hour)
		h := catalog.Head{ID: catalog.NewBackupID(at), Kind: catalog.Full, Cluster: p.Cluster, SystemID: p.SystemID, Incarnation: p.Incarnation, Timeline: 1, Sizes: sizes,
			StartedAt: at, StoppedAt: at, StartLSN: pg.LSN((2*n + 1) * segSize), StopLSN: pg.LSN((2*n+1)*segSize + 80), Label: "START WAL LOCATION: 0/100028\n"}
		if err := catalog.WriteHead(b.Context(), objects, h); err != nil {
			b.Fatal(err)
		}
		for _, part := range catalog.PartNames(p, h.ID) {
			put(b, filepath.Join(dir, part))
		}
	}
	for n := range segments {
		put(b, filepath.Join(dir, p.WALName(1, pg.Segment{Timeline: 1, Number: uint64(n + 1)}.Name(segSize))))
	}
	policy := retention.Policy{Window: 7 * 24 * time.Hour, Daily: 7, Weekly: 4, Monthly: 12, Minimum: 2}
	plan := func(b *testing.B, kept string) {
		b.Helper()
		c := cache.New(st, cache.Options{Dir: kept, Name: "test", Group: catalog.KeptUnder, Clock: clock.System(), Failed: func(err error) { b.Fatal(err) }})
		locks, err := lock.New(c, clock.System())
		if err != nil {
			b.Fatal(err)
		}
		s, err := Look(b.Context(), SurveyOptions{Objects: objects.Through(c), Locks: locks, Cluster: p.Cluster, Clock: clock.System()})
		if err != nil {
			b.Fatal(err)
		}
		d := retention.Decide(policy, s.History, now)
		if plans := s.Plans(d); len(d.Backups) != backups || len(plans[0].Backups) < backups/2 || len(plans[0].WAL) < segments/2 {
			b.Fatal(len(d.Backups), len(plans[0].Backups), len(plans[0].WAL))
		}
	}
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			plan(b, filepath.Join(kept, fmt.Sprint(n)))
		}
	})
	b.Run("warm", func(b *testing.B) {
		plan(b, kept)
		b.ReportAllocs()
		for b.Loop() {
			plan(b, kept)
		}
	})
}

// put writes a file of no meaning.
func put(b *testing.B, path string) {
	b.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("not opened"), 0o640); err != nil {
		b.Fatal(err)
	}
}
