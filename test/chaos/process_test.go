package chaos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Exit codes of the command line's contract.
const (
	exitDone       = 0
	exitFailed     = 1
	exitNotNow     = 4
	exitNotFound   = 5
	exitAbsent     = 6
	exitRepository = 7
)

// patience is how long one command may take before it counts as hung.
const patience = 3 * time.Minute

// result is how a command ended.
type result struct {
	command string
	code    int // negative: the signal that ended it
	sent    syscall.Signal
	stdout  string
	stderr  string
	took    time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("salvor %s: exit %d after %s\n%s%s", r.command, r.code, r.took.Round(time.Millisecond), r.stdout, r.stderr)
}

// done says whether the command has reported success.
func (r result) done() bool { return r.code == exitDone }

// cut says whether the command ended as the signal that it got demands: by it, or
// for a signal that can be caught, with the exit code that the contract names.
func (r result) cut() bool {
	switch r.sent {
	case syscall.SIGKILL:
		return r.code == -int(syscall.SIGKILL)
	case syscall.SIGINT, syscall.SIGTERM:
		if r.code == 128+int(r.sent) {
			return true
		}
		// wal fetch dies by the signal, and so does a process that has hardly begun.
		return r.code == -int(r.sent)
	}
	return false
}

// document reads the first line of standard output, and says whether there is a
// whole one.
func (r result) document(v any) bool {
	line, _, whole := strings.Cut(r.stdout, "\n")
	return whole && json.Unmarshal([]byte(line), v) == nil
}

// process is a command under way, in a process group of its own.
type process struct {
	cmd      *exec.Cmd
	text     string
	out, err bytes.Buffer
	began    time.Time
	sent     syscall.Signal
	ended    chan struct{}
	res      result
}

// start runs salvor as the server's user.
func (s *site) start(args ...string) *process {
	s.t.Helper()
	p := &process{text: strings.Join(args, " "), ended: make(chan struct{})}
	p.cmd = s.cluster.Command(program, append([]string{"-c", s.config}, args...)...)
	p.cmd.SysProcAttr.Setpgid = true
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.WaitDelay = 10 * time.Second
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		s.failf("starting salvor: %v", err)
	}
	go p.wait()
	return p
}

func (p *process) wait() {
	defer close(p.ended)
	err := p.cmd.Wait()
	p.res = result{command: p.text, stdout: p.out.String(), stderr: p.err.String(), took: time.Since(p.began)}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		p.res.code = exit.ExitCode()
		if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
			p.res.code = -int(st.Signal())
		}
	case err != nil:
		p.res.code = -1
		p.res.stderr += err.Error()
	}
}

// signal sends to the whole group. One that has ended is fine.
func (p *process) signal(sig syscall.Signal) error {
	p.sent = sig
	if err := syscall.Kill(-p.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return os.NewSyscallError("kill", err)
	}
	return nil
}

// finish waits for the end.
func (s *site) finish(p *process) result {
	s.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.signal(syscall.SIGQUIT) // with all stacks, if it can
		time.Sleep(time.Second)
		_ = p.signal(syscall.SIGKILL)
		<-p.ended
		s.failf("it hung: %s", p.res)
	}
	p.res.sent = p.sent
	return p.res
}

// run runs salvor to its end.
func (s *site) run(args ...string) result {
	s.t.Helper()
	return s.finish(s.start(args...))
}

// ok runs salvor and fails the test unless it succeeds.
func (s *site) ok(args ...string) result {
	s.t.Helper()
	r := s.run(args...)
	if !r.done() {
		s.failf("want success of: %s", r)
	}
	return r
}
