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
	if s.rng.IntN(5) < 2 {
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
	go func() {
		if c.step != nil {
			select {
			case <-met:
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

// round cuts one operation, or two at once, and checks what is left.
func (s *site) round(n int, seed uint64) {
	s.t.Helper()
	s.rng = rand.New(rand.NewPCG(seed, 1))
	if s.rng.IntN(5) == 0 {
		s.doing = fmt.Sprintf("round %d, seed %d, two at once", n, seed)
		s.pairRound()
		return
	}
	s.doing = fmt.Sprintf("round %d, seed %d", n, seed)
	before := s.temporary()
	j := s.draw()
	c := s.anyCut(j)
	s.doing = fmt.Sprintf("round %d, seed %d, %s, %s", n, seed, j.name, c)
	s.t.Log(s.doing)
	res := s.finish(s.begin(j, c))
	s.ended(j, c, res)
	s.doing += ":\n" + res.String()
	j.after(res)
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
	s.cluster.Eventually("no temporary file is left by "+j.name, func() bool { return len(more()) == 0 })
}
