package cli

import (
	"os/exec"
	"slices"
	"testing"
	"time"
)

const (
	startRounds = 40

	// startBudget is how much more processor time a start may take than a
	// program's that does nothing. PostgreSQL runs salvor once for every WAL
	// segment, one after the other: at 30 segments a second this is what is
	// left to hand a segment over. The bound is generous, for busy machines;
	// what a start really costs is in the test's log. When it grows,
	// GODEBUG=inittrace=1 salvor version tells which package it is.
	startBudget = 15 * time.Millisecond

	// startRatio lets a start cost more than that on a machine on which
	// everything does: both programs are slowed down alike.
	startRatio = 3
)

// TestStartIsCheap compares start to exit of salvor with that of a program
// that does nothing. Runs alternate, so that both see the same machine.
func TestStartIsCheap(t *testing.T) {
	salvor, hello := binary(t, "salvor"), binary(t, "hello")
	for _, args := range [][]string{
		{"version"},
		{"wal", "fetch"}, // refused, but through the same door
	} {
		var c startCost
		for range 3 { // a machine that is busy with other things gets another chance
			c = startCosts(t, salvor, args, hello)
			t.Logf("%v: processor %v, of a program that does nothing %v, ratio %.1f; wall %v and %v",
				args, c.salvor, c.hello, float64(c.salvor)/float64(c.hello), c.salvorWall, c.helloWall)
			if c.cheap() {
				break
			}
		}
		if !c.cheap() {
			t.Errorf("salvor %v takes %v of processor time to start, a program that does nothing %v: want at most %v more", args, c.salvor, c.hello, startBudget)
		}
	}
}

// startCost holds medians.
type startCost struct{ salvor, hello, salvorWall, helloWall time.Duration }

func (c startCost) cheap() bool {
	return c.salvor <= c.hello+startBudget || c.salvor <= startRatio*c.hello
}

func startCosts(t *testing.T, salvor string, args []string, hello string) startCost {
	var cpu, wall [2][]time.Duration
	for range startRounds {
		for i, cmd := range []*exec.Cmd{exec.CommandContext(t.Context(), salvor, args...), exec.CommandContext(t.Context(), hello)} {
			began := time.Now()
			if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
				t.Fatal(err)
			}
			wall[i] = append(wall[i], time.Since(began))
			cpu[i] = append(cpu[i], cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		}
	}
	return startCost{median(cpu[0]), median(cpu[1]), median(wall[0]), median(wall[1])}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
