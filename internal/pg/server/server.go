package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// pollEvery is how often a starting or promoting server's pid file is read.
// The server announces its states in that file and in pg_control.
const pollEvery = 10 * time.Millisecond

// pause waits until the next look at a pid file.
func pause(ctx context.Context) error {
	t := time.NewTimer(pollEvery)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// giveUpAfter bounds how long a server that has to be ended, because the wait
// for it was given up, may take over an immediate shutdown before it is killed.
const giveUpAfter = 5 * time.Second

// Start runs postgres on a data directory and waits until it is up (see
// Status.Up), or as StartOptions.Until says. The server then belongs to
// nobody: it is ended by Stop or by pg_ctl, by this program or another.
//
// If the server ends first, the error is an *ExitError. If ctx or the timeout
// ends the wait, the server is shut down at once, so that after any error
// nothing runs that Start began. ErrRunning means that a server was there
// before; it is left alone.
func Start(ctx context.Context, o StartOptions) (Status, error) {
	if err := o.validate(); err != nil {
		return Status{}, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	if o.Until == nil {
		o.Until = Status.Up
	}
	st, err := Probe(o.DataDir)
	if err == nil && st.Running {
		err = fmt.Errorf("process %d: %w", st.PID, ErrRunning)
	}
	if err != nil {
		return Status{}, fmt.Errorf("starting PostgreSQL on %s: %w", o.DataDir, err)
	}
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("not ready after %s", o.Timeout))
		defer cancel()
	}
	st, err = start(ctx, &o)
	if err != nil {
		return Status{}, fmt.Errorf("starting PostgreSQL on %s: %w", o.DataDir, err)
	}
	return st, nil
}

func start(ctx context.Context, o *StartOptions) (Status, error) {
	cred, err := credentialFor(o.DataDir)
	if err != nil {
		return Status{}, err
	}
	log, logStart, err := openLog(o.LogFile, cred)
	if err != nil {
		return Status{}, err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(o.BinDir, "postgres"), o.args()...)
	cmd.Dir = "/"
	cmd.Env = append(cleanEnv(os.Environ()), o.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: cred}
	if o.NoNetwork {
		noNetwork(cmd.SysProcAttr)
	}
	exited, err := launch(cmd, o.Guarded)
	if o.NoNetwork && refused(err) {
		return Status{}, fmt.Errorf("%w: %w", ErrNoIsolation, err)
	}
	if err != nil {
		return Status{}, err
	}

	st, err := await(ctx, o, cmd.Process.Pid, exited)
	var exit *ExitError
	switch {
	case err == nil:
		return st, nil
	case errors.As(err, &exit):
		exit.Log = tail(o.LogFile, logStart)
	default:
		endNow(cmd.Process, exited)
	}
	return Status{}, err
}

// launch starts the server. It must be reaped if it ends while this program still
// runs: a zombie keeps its pid.
func launch(cmd *exec.Cmd, guarded bool) (exited <-chan error, err error) {
	began, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		if guarded {
			guard(cmd.SysProcAttr)
			// The signal comes when the thread ends that began the server, so it has to
			// stay until the server has ended.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
		}
		err := cmd.Start()
		began <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	return ended, <-began
}

// await watches the pid file until the server that we started is far enough,
// has ended, or ctx is done.
func await(ctx context.Context, o *StartOptions, pid int, exited <-chan error) (Status, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-exited:
			status := "exit status 0"
			if err != nil {
				status = err.Error()
			}
			return Status{}, &ExitError{DataDir: o.DataDir, Status: status}
		case <-ctx.Done():
			return Status{}, context.Cause(ctx)
		case <-tick.C:
		}
		// A pid file that can't be read now was caught half written; if there is
		// worse behind it, the server finds that out itself and ends.
		if st, err := Probe(o.DataDir); err == nil && st.Running && st.PID == pid && o.Until(st) {
			return st, nil
		}
	}
}

// endNow shuts a server down without a checkpoint, and kills it if it does not go.
func endNow(p *os.Process, exited <-chan error) {
	t := time.NewTimer(giveUpAfter)
	defer t.Stop()
	_ = p.Signal(syscall.SIGQUIT) // the only possible error: it has ended already
	select {
	case <-exited:
	case <-t.C:
		_ = p.Kill()
		<-exited
	}
}

// cleanEnv leaves out the variables that would change what postgres does.
func cleanEnv(env []string) []string {
	out := make([]string, 0, len(env))
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		switch {
		case strings.HasPrefix(name, "PG"), strings.HasPrefix(name, "LISTEN_"), strings.HasPrefix(name, "WATCHDOG_"), name == "NOTIFY_SOCKET":
		default:
			out = append(out, e)
		}
	}
	return out
}

// openLog opens the log for appending and gives its present length.
func openLog(name string, cred *syscall.Credential) (*os.File, int64, error) {
	if name == "" {
		f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		return f, 0, err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, err
	}
	fi, err := f.Stat()
	if err == nil && cred != nil && fi.Size() == 0 {
		err = f.Chown(int(cred.Uid), int(cred.Gid))
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, fi.Size(), nil
}

// tailMax bounds the lines of a log that go into an error.
const tailMax = 2 << 10

// tail gives the end of what was written to the log since it was from bytes long.
func tail(name string, from int64) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return ""
	}
	from = max(from, fi.Size()-tailMax)
	data, err := io.ReadAll(io.NewSectionReader(f, from, tailMax))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
