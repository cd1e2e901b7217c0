package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/salvor-dr/salvor/internal/config"
)

// Groups of commands in the help.
const (
	groupDaily = "daily"
	groupSetup = "setup"
)

// commands are all commands there are.
func commands(s *session) []*cobra.Command {
	return []*cobra.Command{
		backupCommand(s),
		backupsCommand(s),
		jobCommand(s),
		proofCommand(s),
		reportCommand(s),
		restoreCmd(s),
		verifyCommand(s),
		expireCommand(s),
		statusCommand(s),
		walCommand(s),
		initCommand(s),
		doctorCommand(s),
		notifyCommand(s),
		demoCommand(s),
		configCommand(s),
		completionCommand(s),
		versionCommand(s),
	}
}

func newRoot(s *session, members []*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "salvor",
		Short: "Disaster recovery for PostgreSQL",
		Long: `Salvor backs up PostgreSQL, archives its WAL, restores it to any moment, and
proves that it can.

Every option can be given as a variable, as SALVOR_LOG_LEVEL for --log-level.`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              unknownCommand,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return s.prepare(cmd) },
	}
	var version bool
	root.Flags().BoolVar(&version, "version", false, "print the version, as the command does")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if version {
			return s.printVersion()
		}
		return cmd.Help()
	}
	help := helpCommand()
	root.SetHelpCommand(help)
	addCommands(root, append(members, help))
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	f := root.PersistentFlags()
	f.SortFlags = false
	f.StringVarP(&s.configPath, "config", "c", "", "configuration `file` (else ./salvor.yaml, /etc/salvor/salvor.yaml)")
	choiceVarP(root, f, &s.output, "output", "o", []string{outputTable, outputJSON, outputYAML}, "how results are printed")
	choiceVarP(root, f, &s.logLevel, "log-level", "", []string{"info", "debug", "warn", "error"}, "least level that is logged")
	choiceVarP(root, f, &s.logFormat, "log-format", "", []string{"text", "json"}, "how log lines are written")
	f.StringVar(&s.cacheDir, "cache-dir", "", "local cache of what never changes: a `directory` (else $XDG_CACHE_HOME/salvor, ~/.cache/salvor)")
	f.BoolVar(&s.noCache, "no-cache", false, "use no local cache")
	f.BoolVarP(&s.quiet, "quiet", "q", false, "no progress, and only warnings and errors in the log")
	f.BoolVarP(&s.yes, "yes", "y", false, "do not ask before destroying something")
	return root
}

// addCommands adds the commands, and the headings that they need.
func addCommands(root *cobra.Command, members []*cobra.Command) {
	for _, g := range []*cobra.Group{
		{ID: groupDaily, Title: "Daily work:"},
		{ID: groupSetup, Title: "Setting up and looking:"},
	} {
		if slices.ContainsFunc(members, func(c *cobra.Command) bool { return c.GroupID == g.ID }) {
			root.AddGroup(g)
		}
	}
	root.AddCommand(members...)
}

// group makes a command that only holds others.
func group(use, short, groupID string, members ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, GroupID: groupID,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError(seeHelp(cmd), "%s needs a command: %s", called(cmd), strings.Join(names(cmd), ", "))
		},
	}
	cmd.AddCommand(members...)
	return cmd
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Help on a command",
		GroupID: groupSetup,
		RunE: func(cmd *cobra.Command, args []string) error {
			at := cmd.Root()
			for _, name := range args {
				next := member(at, name)
				if next == nil {
					return unknownCommand(at, []string{name})
				}
				at = next
			}
			at.InitDefaultHelpFlag()
			return at.Help()
		},
	}
}

func member(cmd *cobra.Command, name string) *cobra.Command {
	for _, c := range cmd.Commands() {
		if c.Name() == name || c.HasAlias(name) {
			return c
		}
	}
	return nil
}

// names are the members that the help shows.
func names(cmd *cobra.Command) []string {
	var list []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			list = append(list, c.Name())
		}
	}
	return list
}

// called is the command as messages name it, which begin with salvor already.
func called(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

func seeHelp(cmd *cobra.Command) string {
	return fmt.Sprintf("`%s --help` explains it", cmd.CommandPath())
}

// unknownCommand is the check of arguments of a command that has members and
// takes nothing else.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := seeHelp(cmd)
	if near := config.Nearest(args[0], names(cmd)); near != "" {
		hint = fmt.Sprintf("did you mean `%s %s`?", cmd.CommandPath(), near)
	}
	if !cmd.HasParent() {
		return usageError(hint, "unknown command %q", args[0])
	}
	return usageError(hint, "unknown command %q of %q", args[0], called(cmd))
}

// positional is the check of arguments of a command that takes exactly these;
// the last may be optional, as [ID], or repeated, as [ID...].
func positional(wanted ...string) cobra.PositionalArgs {
	least, most := len(wanted), len(wanted)
	if n := len(wanted); n > 0 && strings.HasPrefix(wanted[n-1], "[") {
		least--
		if strings.HasSuffix(wanted[n-1], "...]") {
			most = int(^uint(0) >> 1)
		}
	}
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usageError(seeHelp(cmd), "%s needs %s", called(cmd), strings.Join(wanted[len(args):least], " and "))
		case len(args) > most && most == 0:
			return usageError(seeHelp(cmd), "%s takes no arguments, but got %q", called(cmd), args[0])
		case len(args) > most:
			return usageError(seeHelp(cmd), "%s takes only %s, but got %q too", called(cmd), strings.Join(wanted, " "), args[most])
		}
		return nil
	}
}

// flagError turns what the parser of options says into a usage error with a
// suggestion. If a command before the option is unknown, that is the error.
func flagError(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return unknownCommand(cmd, cmd.Flags().Args())
	}
	hint := seeHelp(cmd)
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				known = append(known, f.Name)
			}
		})
		if near := config.Nearest(unknown.GetSpecifiedName(), known); near != "" {
			hint = fmt.Sprintf("did you mean --%s?", near)
		}
	}
	if !cmd.HasParent() {
		return usageError(hint, "%w", err)
	}
	return usageError(hint, "%s: %w", called(cmd), err)
}
