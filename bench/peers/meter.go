//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/salvor-dr/salvor/internal/clock"
)

// meterArgument makes this program a meter. The argument after it is an order.
const meterArgument = "-meter"

const (
	// meterOutput is the descriptor that a meter writes its usage to.
	meterOutput = 3
	// sampleEvery is how often the tree's memory is summed up.
	sampleEvery = 100 * time.Millisecond
	// killAfter is how long a tree has to go when it is told to.
	killAfter = 10 * time.Second
)

// order tells a meter what to run. The environment and the working directory are
// the meter's own.
type order struct {
	Argv   []string
	Become *syscall.Credential
}

// usage is what a command and everything that it started took.
type usage struct {
	Exit        int     // as a shell gives it: 128 and the signal for a death by one
	Wall        float64 // seconds until the last process was gone
	CPU         float64 // seconds, user and system
	Kernel      float64 // seconds of it in the system
	Largest     int64   // bytes: the largest process. Not below the meter's own, about 10 MB
	Tree        int64   // bytes: the largest sum over the tree, shared pages counted once (PSS); sampled
	Read, Wrote int64   // bytes through read and write calls, cached or not
}

// meter runs a command as an order says and writes its usage, all as this process's
// own exit code tells.
func meter(text string) int {
	var o order
	err := json.Unmarshal([]byte(text), &o)
	var u usage
	if err == nil {
		u, err = measureTree(o, clock.System())
	}
	if err == nil {
		err = json.NewEncoder(os.NewFile(meterOutput, "usage")).Encode(u)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "meter:", err)
		return 1
	}
	return 0
}

// measureTree runs the command and waits for all of its descendants. The kernel
// hands us those whose parent is gone, and adds to our accounts what each process
// took when we reap it, with what it had reaped itself.
func measureTree(o order, c clock.Clock) (usage, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return usage{}, fmt.Errorf("becoming the reaper: %w", err)
	}
	syscall.CloseOnExec(meterOutput)
	endTreeOnSignal(c)
	path, err := lookPath(o.Argv[0])
	if err != nil {
		return usage{}, err
	}
	before, err := readIO("self")
	if err != nil {
		return usage{}, err
	}
	began := c.Now()
	pid, err := syscall.ForkExec(path, o.Argv, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Credential: o.Become, Setsid: true},
	})
	if err != nil {
		return usage{}, fmt.Errorf("starting %s: %w", path, err)
	}
	stop := sampleTree(c)
	status, err := reapAll(pid)
	u := usage{Wall: c.Now().Sub(began).Seconds(), Exit: exitCode(status), Tree: stop()}
	if err != nil {
		return u, err
	}
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &r); err != nil {
		return u, err
	}
	u.CPU, u.Kernel = seconds(r.Utime)+seconds(r.Stime), seconds(r.Stime)
	u.Largest = r.Maxrss << 10
	u.Tree = max(u.Tree, u.Largest)
	after, err := readIO("self")
	u.Read, u.Wrote = after.read-before.read, after.wrote-before.wrote
	return u, err
}

// reapAll waits until no descendant is left, and gives how the first one ended.
func reapAll(first int) (syscall.WaitStatus, error) {
	var status syscall.WaitStatus
	for {
		var s syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &s, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err == syscall.ECHILD:
			return status, nil
		case err != nil:
			return status, fmt.Errorf("waiting for the command: %w", err)
		case pid == first:
			status = s
		}
	}
}

func exitCode(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

func seconds(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }

// sampleTree sums up the memory of our descendants from time to time; the function
// it gives ends that and tells the largest sum.
func sampleTree(c clock.Clock) func() int64 {
	var peak atomic.Int64
	done := make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-c.After(sampleEvery):
			}
			var sum int64
			for _, pid := range descendants(os.Getpid()) {
				sum += readPSS(pid)
			}
			peak.Store(max(peak.Load(), sum))
		}
	})
	return func() int64 {
		close(done)
		g.Wait()
		return peak.Load()
	}
}

// endTreeOnSignal ends all descendants when we are told to end; reapAll then returns.
func endTreeOnSignal(c clock.Clock) {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-told
		signalTree(syscall.SIGTERM)
		for {
			<-c.After(killAfter)
			signalTree(syscall.SIGKILL)
		}
	}()
}

func signalTree(sig syscall.Signal) {
	for _, pid := range descendants(os.Getpid()) {
		_ = syscall.Kill(pid, sig) // it may have ended by itself
	}
}

// readUsage reads what a meter wrote.
func readUsage(r io.Reader) (usage, error) {
	var u usage
	err := json.NewDecoder(r).Decode(&u)
	if errors.Is(err, io.EOF) {
		err = errors.New("the meter ended without a word")
	}
	return u, err
}
