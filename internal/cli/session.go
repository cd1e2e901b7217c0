package cli

import (
	"context"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/logging"
)

// session is one run of the command line: the options that every command has,
// and what a command works with.
type session struct {
	stdin   io.Reader
	stdout  io.Writer
	stderr  *screen // shared by log, progress and messages
	env     config.Env
	version string
	commit  string
	clock   clock.Clock

	// Options.
	configPath string
	output     string
	logLevel   string
	logFormat  string
	cacheDir   string
	noCache    bool
	quiet      bool
	yes        bool

	// Made from the options before a command runs.
	log *slog.Logger
	out *printer

	started    bool      // the command line was understood and the command runs
	fetching   *fetching // the command is wal fetch
	isTerminal func(stream any) bool
}

func newSession(p Process) *session {
	return &session{
		stdin: p.Stdin, stdout: p.Stdout, stderr: &screen{w: p.Stderr},
		env: p.Env, version: p.Version, commit: p.Commit,
		clock: clock.System(), isTerminal: isTerminal,
	}
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// run makes a RunE out of what a command does.
func (s *session) run(do func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		s.started = true
		return do(cmd.Context(), args)
	}
}

// prepare runs between the parser and the command.
func (s *session) prepare(cmd *cobra.Command) error {
	if err := optionsFromEnv(cmd, s.env); err != nil {
		return err
	}
	level, err := logging.ParseLevel(s.logLevel)
	if err != nil {
		return usageError("", "--log-level: %w", err)
	}
	if s.quiet {
		level = max(level, slog.LevelWarn)
	}
	format, err := logging.ParseFormat(s.logFormat)
	if err != nil {
		return usageError("", "--log-format: %w", err)
	}
	s.log = logging.New(s.stderr, level, format)
	s.out = &printer{w: s.stdout, format: s.output}
	return nil
}

// config finds and loads the configuration.
func (s *session) config() (*config.Config, error) {
	path, err := config.Find(s.configPath, s.env)
	if err != nil {
		return nil, err
	}
	return config.Load(path, s.env)
}
