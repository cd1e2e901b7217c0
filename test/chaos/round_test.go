package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// cut is how a command is ended.
type cut struct {
	signal syscall.Signal
	after  time.Duration // since the start, or since the step
	step   *step
	times  int
}

func (c cut) String() string {
	if c.signal == 0 {
		return "not cut"
	}
	name := map[syscall.Signal]string{syscall.SIGKILL: "kill -9", syscall.SIGTERM: "SIGTERM", syscall.SIGINT: "SIGINT"}[c.signal]
	if c.step == nil {
		return fmt.Sprintf("%s after %s", name, c.after)
	}
	return fmt.Sprintf("%s %s after %q, time %d", name, c.after, c.step.name, c.times)
}

// anyCut draws an end for a job.
func (s *site) anyCut(j *job) cut {
	c := cut{signal: syscall.SIGKILL}
	switch s.rng.IntN(6) {
	case 0:
		c.signal = syscall.SIGTERM
	case 1:
		c.signal = syscall.SIGINT
	}
	if s.rng.IntN(4) == 0 {
		c.after = time.Duration(s.rng.Int64N(int64(s.usual[j.name]) + int64(20*time.Millisecond)))
		return c
	}
	c.step = &j.steps[s.rng.IntN(len(j.steps))]
	c.times = 1 + s.rng.IntN(c.step.most)
	if s.rng.IntN(2) == 0 {
		c.after = time.Duration(s.rng.Int64N(int64(3 * time.Millisecond)))
	}
	return c
}

// begin starts a job, and cuts it as drawn; the result comes from finish.
func (s *site) begin(j *job, c cut) *process {
	s.t.Helper()
	var met <-chan struct{}
	if c.step != nil {
		met = s.watch.await(*c.step, c.times)
	}
	p := s.start(j.args...)
	if c.signal == 0 {
		return p
	}
	var late <-chan time.Time
	if j.endless {
		late = time.After(s.usual[j.name])
	}
	go func() {
		if c.step != nil {
			select {
			case <-met:
			case <-late:
			case <-p.ended:
				return
			}
		}
		select {
		case <-time.After(c.after):
			if err := p.signal(c.signal); err != nil {
				s.t.Errorf("%v", err)
			}
		case <-p.ended:
		}
	}()
	return p
}

// ended judges how a job ended, whatever it left.
func (s *site) ended(j *job, c cut, res result) {
	s.t.Helper()
	switch {
	case res.done():
		s.usual[j.name] = (3*s.usual[j.name] + res.took) / 4
		s.tally[j.name+": done before"]++
	case !res.cut():
		s.failf("it was not to end so: %s", res)
	case c.step != nil:
		s.tally[j.name+": "+c.step.name]++
	default:
		s.tally[j.name+": any moment"]++
	}
}

// round does what its seed says.
func (s *site) round(n int, seed uint64) {
	s.t.Helper()
	s.rng = rand.New(rand.NewPCG(seed, 1))
	s.doing = fmt.Sprintf("round %d, seed %d, ", n, seed)
	switch n := s.rng.IntN(25); {
	case n == 0:
		s.archiverRound()
	case n < 6:
		s.pairRound()
	default:
		s.oneRound()
	}
}

// oneRound cuts one operation.
func (s *site) oneRound() {
	s.t.Helper()
	before := s.temporary()
	j := s.draw()
	c := s.anyCut(j)
	s.doing += fmt.Sprintf("%s, %s", j.name, c)
	s.t.Log(s.doing)
	res := s.finish(s.begin(j, c))
	s.ended(j, c, res)
	s.doing += ":\n" + res.String()
	j.after(res)
	s.checkBackups() // before the next run can mend anything
	if res.sent != syscall.SIGKILL {
		s.checkTidy(before, j)
	}
	j.again()
	if j.end != nil {
		j.end()
	}
	s.check()
}

// checkTidy sees that a command that was told to stop took its temporary files with
// it.
func (s *site) checkTidy(before []string, j *job) {
	s.t.Helper()
	more := func() []string {
		return slices.DeleteFunc(s.temporary(), func(f string) bool { return slices.Contains(before, f) })
	}
	// The server archives all the time: its files go, others stay.
	s.await("no temporary file is left by "+j.name, func() bool { return len(more()) == 0 })
}
