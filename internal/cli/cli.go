package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/config"
)

// Process is what the command line needs of the process it runs in.
type Process struct {
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Env     config.Env // looks a variable up, as os.LookupEnv
	Version string     // of a release; empty if the build does not say
	Commit  string     // it was built from; empty if the build does not say
}

// Main runs the command that args (without the program's name) ask for, until
// it is done or the process is told to stop, and gives the exit code. For wal
// fetch it may end the process by a signal instead.
func Main(args []string, p Process) int { return run(args, p, commands) }

// run is Main with the commands as an argument.
func run(args []string, p Process, commands func(*session) []*cobra.Command) int {
	asked := scan(args, p.Env)
	if asked.fetch {
		crashBySignal()
	}
	s := newSession(p)
	ctx, stop := untilSignal(context.Background())
	defer stop()
	err := s.execute(ctx, args, commands)
	if asked.fetch || s.fetching != nil {
		return s.endFetch(ctx, err, asked)
	}
	return s.report(ctx, err, asked)
}

// execute runs the command. A panic in it becomes an error.
func (s *session) execute(ctx context.Context, args []string, commands func(*session) []*cobra.Command) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	root := newRoot(s, commands(s))
	root.SetArgs(append([]string{}, args...)) // nil would mean os.Args
	root.SetIn(s.stdin)
	root.SetOut(s.stdout)
	root.SetErr(s.stderr)
	err = root.ExecuteContext(ctx)
	var known *failed
	if err != nil && !s.started && !errors.As(err, &known) {
		return usageError("", "%w", err)
	}
	return err
}

// panicError is a panic of a command: a bug in Salvor.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("internal error: %v", e.value) }

// report prints what went wrong, if anything did, and gives the exit code.
func (s *session) report(ctx context.Context, err error, asked request) int {
	if err == nil {
		return 0
	}
	f := failureOf(ctx, err)
	s.print(f, err, asked)
	return f.exit
}

// print tells a failure to whoever asked: as JSON on stdout, or in words on
// stderr. What a check has found is in its result already, so nothing is added
// to that on stdout.
func (s *session) print(f failure, err error, asked request) {
	var p *panicError
	if asked.debug && errors.As(err, &p) {
		fmt.Fprintf(s.stderr, "%s", p.stack)
	}
	if asked.output == outputJSON && f.exit != exitProblem {
		if err := writeFailure(s.stdout, f); err == nil {
			return
		}
	}
	fmt.Fprintf(s.stderr, "salvor: %s\n", f.message)
	if f.hint != "" {
		fmt.Fprintf(s.stderr, "hint: %s\n", f.hint)
	}
}
