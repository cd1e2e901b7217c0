package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// budget is how long the rounds go on when nobody says how many.
const budget = 40 * time.Second

// proveEvery is after how many rounds all backups are restored.
const proveEvery = 25

func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: kills take a minute")
	}
	seed, rounds := uint64(time.Now().UnixNano()), 0
	for name, set := range map[string]func(string) error{
		"SALVOR_TEST_SEED":    func(v string) (err error) { seed, err = strconv.ParseUint(v, 10, 64); return err },
		"SALVOR_CHAOS_ROUNDS": func(v string) (err error) { rounds, err = strconv.Atoi(v); return err },
	} {
		if v := os.Getenv(name); v != "" {
			if err := set(v); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	t.Logf("SALVOR_TEST_SEED=%d", seed)
	s := newSite(t)
	s.warmUp(seed)
	began := time.Now()
	n := 0
	for ; rounds == 0 && time.Since(began) < budget || n < rounds; n++ {
		s.round(n, seed+uint64(n))
		if n%proveEvery == proveEvery-1 && rounds > 0 {
			s.doing = fmt.Sprintf("after round %d, seed %d", n, seed)
			s.proveAll()
		}
	}
	s.doing = fmt.Sprintf("after %d rounds from seed %d", n, seed)
	t.Log(s.doing)
	for _, name := range sortedKeys(s.tally) {
		t.Logf("%5d  %s", s.tally[name], name)
	}
	s.last()
}

func sortedKeys(m map[string]int) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// warmUp runs every operation once to its end, which also tells how long it takes.
func (s *site) warmUp(seed uint64) {
	s.t.Helper()
	s.rng = rand.New(rand.NewPCG(seed, 2))
	s.load.WaitFor(50)
	s.archive()
	s.noteSegments()
	jobs := []func() *job{
		func() *job { return s.backupOf(s.repos[0], false) },
		func() *job { return s.backupOf(s.repos[1], false) },
		func() *job { return s.backupOf(s.repos[1], true) },
	}
	for _, o := range operations()[3:] {
		jobs = append(jobs, func() *job {
			for {
				if j := o.make(s); j != nil {
					return j
				}
			}
		})
	}
	for _, make := range jobs {
		j := make()
		s.doing = "before the rounds, " + j.name
		res := s.ok(j.args...)
		s.usual[j.name] = res.took
		j.after(res)
		if j.end != nil {
			j.end()
		}
	}
	s.check()
}

// last proves everything, and then that nothing is left that has no purpose.
func (s *site) last() {
	s.t.Helper()
	s.proveAll()
	for name := range s.wal {
		s.checkSegment(name)
	}
	s.load.Stop()
	s.checkLeftovers()
}

// grace is longer than anything is kept for a backup that may still want it.
const grace = 60 * 24 * time.Hour

// checkLeftovers makes what killed operations have left look old: after the next
// backups nothing of it is there.
func (s *site) checkLeftovers() {
	s.t.Helper()
	s.age(s.temporary(), grace)
	for _, r := range s.repos {
		for range 2 { // one may mark what the next removes
			files, err := r.files(r.place.Prefix())
			if err != nil {
				s.failf("%v", err)
			}
			s.age(files, grace)
			j := s.backupOf(r, false)
			j.after(s.ok(j.args...))
			// The first has seen to both repositories.
			if left := s.temporary(); len(left) > 0 {
				s.failf("temporary files are left: %q", left)
			}
		}
		s.checkNamed(r)
		s.checkNone(r, "locks", r.below("running"), r.below("tombstones"))
	}
	s.check()
}

// checkNamed sees that every object of a backup is one that some backup needs.
func (s *site) checkNamed(r *repository) {
	s.t.Helper()
	named, err := r.whole(s.t.Context())
	if err != nil {
		s.failf("%v", err)
	}
	for _, folder := range []string{"packs", "backups"} {
		files, err := r.files(r.below(folder))
		if err != nil {
			s.failf("%v", err)
		}
		for _, path := range files {
			if key, err := filepath.Rel(r.root, path); err != nil || !named[key] {
				s.t.Errorf("%s: repository %s has %s, which no backup names: %v", s.doing, r.name, key, err)
			}
		}
	}
	if s.t.Failed() {
		s.t.FailNow()
	}
}
