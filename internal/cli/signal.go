package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// stoppedBy is why a context ended: the process was told to stop.
type stoppedBy struct{ signal syscall.Signal }

func (s stoppedBy) Error() string { return "stopped by " + unix.SignalName(s.signal) }

// failure is how a command ends that stopped because of the signal: with 128
// and its number, as a shell reports a process that died by it.
func (s stoppedBy) failure(err error) failure {
	code := "interrupted"
	if s.signal != syscall.SIGINT {
		code = "terminated"
	}
	f := failure{exit: 128 + int(s.signal), code: code, message: s.Error()}
	if !errors.Is(err, context.Canceled) && !errors.As(err, new(stoppedBy)) {
		f.message = fmt.Sprintf("%s; %v", s, err)
	}
	return f
}

// untilSignal gives a context that ends at the first SIGINT, SIGTERM or SIGQUIT, with
// stoppedBy as its cause. From then on these signals have their usual effect,
// so a second one kills. A signal that the parent made this process ignore, as
// nohup and a shell's & do, stays ignored.
func untilSignal(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	arrived := make(chan os.Signal, 1)
	// SIGQUIT is what PostgreSQL's immediate shutdown sends to archive_command: Go's
	// answer to it, all its stacks, would only fill the server's log.
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT} {
		if !signal.Ignored(sig) {
			signal.Notify(arrived, sig)
		}
	}
	done := make(chan struct{})
	go func() {
		select {
		case sig := <-arrived:
			signal.Stop(arrived)
			if number, ok := sig.(syscall.Signal); ok {
				cancel(stoppedBy{number})
			}
		case <-done:
		}
	}()
	return ctx, func() {
		signal.Stop(arrived)
		close(done)
		cancel(nil)
	}
}
