// Package cli is the salvor command line: options, output, errors, signals and
// one file for each command.
//
// # Adding a command
//
// A command is a function that takes the session and gives a *cobra.Command,
// in a file cmd_<verb>.go, and one line in commands():
//
//	func expireCommand(s *session) *cobra.Command {
//		var plan bool
//		cmd := &cobra.Command{
//			Use:     "expire",
//			Short:   "Apply the retention policy",
//			GroupID: groupDaily,
//			Args:    positional(),
//			RunE: s.run(func(ctx context.Context, args []string) error {
//				c, err := s.config()
//				if err != nil {
//					return err
//				}
//				... build the engine, feed s.progress("expire").update ...
//				return s.out.document(result, details{{"removed", ...}})
//			}),
//		}
//		planFlag(cmd, &plan)
//		return cmd
//	}
//
// Verbs that belong together go into group("wal", …), which refuses what it
// does not know.
//
// What a command has in the session: s.config(), s.log, s.out (results, on
// stdout), s.progress (stderr), s.confirm (before destroying), s.clock. It
// returns an error and prints none. The context ends at the first SIGINT or
// SIGTERM.
//
// # Invariants
//
//   - Every failure goes through classify, which gives exit code, code, message
//     and hint; Main alone prints it. Sentinels of engines get a line there.
//   - What the parser of the command line refuses is a usage error, exit 2; so
//     is what a command refuses with usageError.
//   - Every option has a variable SALVOR_<OPTION>, for free.
//   - A JSON document is one line, with format_version first, and the last line
//     of stdout. YAML is the same document. Views are structs with json tags,
//     units at the end of names; stamp is how a time is written, seconds a
//     duration.
//   - A check that found a problem prints its result and returns foundProblem,
//     exit 3, which adds nothing to stdout.
//   - wal fetch is made by fetchCommand, which ends the process as fetch.go says.
//   - PostgreSQL runs this binary for every WAL segment: no package may do work
//     when it is initialised, and startup_test.go holds the whole to a bound.
package cli
