package chaos

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// pair is two jobs that run at once.
type pair struct {
	name string
	one  *job
	two  *job
	// codes are those that each may end with when it was not cut.
	codes []int
	// winners is how many succeed when none was cut; 0: that is not known.
	winners int
}

// pairs prepare two jobs each, or give nil.
func pairs() []func(*site) *pair {
	return []func(*site) *pair{
		func(s *site) *pair {
			r := s.anyRepository()
			return pairOf("two backups", s.backupJob(r, false), s.backupJob(r, false), 1, exitDone, exitNotNow)
		},
		func(s *site) *pair {
			return pairOf("a backup in each repository", s.backupJob(s.repos[0], false), s.backupJob(s.repos[1], false), 2, exitDone)
		},
		func(s *site) *pair {
			one := s.deleteJob()
			if one == nil {
				return nil
			}
			return pairOf("a delete and a backup", one, s.backupJob(one.repo, false), 0, exitDone, exitNotNow)
		},
		func(s *site) *pair {
			one := s.deleteJob()
			if one == nil {
				return nil
			}
			two := *one
			return pairOf("two deletes", one, &two, 0, exitDone, exitNotNow, exitNotFound)
		},
		func(s *site) *pair {
			one := s.pushJob()
			two := *one
			two.end = nil
			return pairOf("two pushes", one, &two, 2, exitDone)
		},
		func(s *site) *pair {
			one := s.fetchJob(s.anySegment(), filepath.Join(s.freshDir(), "RECOVERYXLOG"))
			two := *one
			two.end = nil
			return pairOf("two fetches", one, &two, 2, exitDone)
		},
		func(s *site) *pair {
			one := s.restoreJob(false)
			if one == nil {
				return nil
			}
			two := *one
			two.end = nil
			return pairOf("two restores to one directory", one, &two, 1, exitDone, exitNotNow)
		},
		func(s *site) *pair {
			r := s.anyRepository()
			b := s.anyBackup(r, 2)
			if b == nil {
				return nil
			}
			// Without its packs the restore cannot go on; then it says so.
			return pairOf("a delete and a restore", s.deleteOf(r, b), s.restoreOf(r, b, false), 0, exitDone, exitFailed, exitNotNow, exitNotFound, exitRepository)
		},
	}
}

func pairOf(name string, one, two *job, winners int, codes ...int) *pair {
	if one == nil || two == nil {
		return nil
	}
	return &pair{name, one, two, codes, winners}
}

func (s *site) drawPair() *pair {
	all := pairs()
	for {
		if p := all[s.rng.IntN(len(all))](s); p != nil {
			return p
		}
	}
}

// pairRound starts two operations at once. One time in two one of them is cut.
func (s *site) pairRound() {
	s.t.Helper()
	p := s.drawPair()
	jobs := []*job{p.one, p.two}
	var c cut
	if s.rng.IntN(2) == 0 {
		c = s.anyCut(p.one)
		s.rng.Shuffle(2, func(i, j int) { jobs[i], jobs[j] = jobs[j], jobs[i] })
	}
	s.doing += fmt.Sprintf("two at once: %s, of which %s (%s) was %s", p.name, p.one.name, map[bool]string{true: "first", false: "second"}[jobs[0] == p.one], c)
	s.t.Log(s.doing)
	started := map[*job]*process{}
	for _, j := range jobs {
		one := c
		if j != p.one {
			one = cut{}
		}
		started[j] = s.begin(j, one)
		time.Sleep(time.Duration(s.rng.Int64N(int64(30 * time.Millisecond))))
	}
	first, second := s.finish(started[p.one]), s.finish(started[p.two])
	s.doing += ":\n" + first.String() + second.String()
	won := 0
	for _, res := range []result{first, second} {
		if !slices.Contains(p.codes, res.code) && !res.cut() {
			s.failf("it was not to end so: %s", res)
		}
		if res.done() {
			won++
		}
	}
	if p.winners > 0 && first.sent == 0 && second.sent == 0 && won != p.winners {
		s.failf("want %d to succeed", p.winners)
	}
	s.tally["pair: "+p.name]++
	s.settlePair(p, first, second)
}

// settlePair judges what both left, and goes on as after one.
func (s *site) settlePair(p *pair, first, second result) {
	s.t.Helper()
	// Who has succeeded is judged first: what the other may have left counts against it.
	order := []func(){func() { p.one.after(first) }, func() { p.two.after(second) }}
	if second.done() {
		slices.Reverse(order)
	}
	for _, f := range order {
		f()
	}
	s.checkBackups() // before the next run can mend anything
	p.one.again()
	for _, j := range []*job{p.one, p.two} {
		if j.end != nil {
			j.end()
		}
	}
	s.check()
}
