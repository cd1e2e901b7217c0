package cli

import (
	"context"
	"errors"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// How wal fetch ends. PostgreSQL takes any exit from 1 to 125 as "there is no
// such file", ends recovery there and opens the database with transactions
// missing (RestoreArchivedFile, xlogarchive.c). So wal fetch ends with
//
//	0    the file is at its destination
//	6    it is proven that there is no such file
//	126  any fault: PostgreSQL stops and does not take it for the end
//	1    with --standby: a fault while fetching a segment; the standby goes on
//	     and asks again. A history file is a fault all the same: taken for
//	     absent, its timeline would be used a second time.
//
// or dies by a signal, which PostgreSQL takes as 126: by the signal that
// stopped it, or by SIGABRT for a bug. Go ends a panic with exit 2, which is
// why crashBySignal comes first.
const (
	exitFetchFault   = 126
	exitStandbyFault = 1
)

// fetchFunc puts the WAL segment or history file name at the path dest. For a
// file that is proven absent, and only then, it gives an error that classify
// makes exitAbsent.
type fetchFunc func(ctx context.Context, name, dest string, standby bool) error

// fetching is the request that wal fetch was given.
type fetching struct {
	name    string
	standby bool
}

// fetchCommand makes wal fetch, which does fetch.
func fetchCommand(s *session, fetch fetchFunc) *cobra.Command {
	var standby bool
	cmd := &cobra.Command{
		Use:   "fetch NAME DEST",
		Short: "Fetch a WAL segment or history file (restore_command)",
		Long: `Fetch a WAL segment or history file from a repository. PostgreSQL runs this:

    restore_command = 'salvor -c /etc/salvor/salvor.yaml wal fetch %f %p'

It exits 0 when the file is there, 6 when it is proven absent, and 126 on every
fault, since PostgreSQL takes what is below that as the end of the archive.`,
		Args: positional("NAME", "DEST"),
		RunE: s.run(func(ctx context.Context, args []string) error {
			s.fetching = &fetching{name: args[0], standby: standby}
			return fetch(ctx, args[0], args[1], standby)
		}),
	}
	cmd.Flags().BoolVar(&standby, "standby", false, "a fault on a segment exits 1, so that a standby asks again")
	return cmd
}

// endFetch prints what went wrong, if anything did, and ends wal fetch.
func (s *session) endFetch(ctx context.Context, err error, asked request) int {
	if err == nil {
		return 0
	}
	f := classify(err)
	standby := s.fetching != nil && s.fetching.standby
	var stopped stoppedBy
	var bug *panicError
	switch {
	case errors.As(err, &bug):
		s.print(f, err, asked)
		dieBy(syscall.SIGABRT)
	case errors.As(context.Cause(ctx), &stopped):
		s.print(stopped.failure(err), err, asked)
		if stopped.signal == syscall.SIGQUIT {
			dieBy(syscall.SIGTERM) // Go ends SIGQUIT with stacks and exit 2
		}
		dieBy(stopped.signal)
	case s.fetching != nil && f.exit == exitAbsent:
		// A standby asks for the next segment every few seconds: no news.
		if !standby || asked.output == outputJSON {
			s.print(f, err, asked)
		}
		return exitAbsent
	case standby && isSegmentName(s.fetching.name):
		s.print(f, err, asked)
		return exitStandbyFault
	default:
		s.print(f, err, asked)
	}
	return exitFetchFault // also if this process cannot die by the signal
}

// isSegmentName tells a segment's name from a history file's. The size of the
// segments, which a full check needs, is not known here.
func isSegmentName(name string) bool {
	return len(name) == 24 && strings.Trim(name, "0123456789ABCDEF") == ""
}

// crashBySignal makes a panic in any goroutine, and any fatal error of the
// runtime, end the process by SIGABRT and not with exit 2. No core is dumped:
// the directory is PostgreSQL's, and keys would be in it.
func crashBySignal() {
	debug.SetTraceback("crash")
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // lowering it cannot fail
}

// dieBy ends the process by the signal, and returns only if it is ignored.
func dieBy(sig syscall.Signal) {
	signal.Reset(sig)
	forgetHandler(sig)
	if err := syscall.Kill(syscall.Getpid(), sig); err != nil {
		return
	}
	time.Sleep(time.Second) // the signal comes at once
}
