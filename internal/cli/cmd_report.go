package cli

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

func reportCommand(s *session) *cobra.Command {
	return group("report", "Reports for people who were not there", groupDaily, reportRecoveryCommand(s))
}

// Forms of reports.
const (
	formatMarkdown = "md"
	formatHTML     = "html"
	formatJSON     = "json"
)

func reportRecoveryCommand(s *session) *cobra.Command {
	var from, to, format, name string
	cmd := &cobra.Command{
		Use: "recovery", Short: "Report what restores and verifications have shown", Args: positional(),
		Long: `Report what restores and verifications of a time have shown, by their signed
records: how many backups were proven and to which level, how long restores took,
and each record with its checks. The report says what that proves and what not.

HTML is one file that needs no other. With -o json or -o yaml the report is a
document, whatever --format says.`,
	}
	fl := cmd.Flags()
	fl.StringVar(&from, "from", "", "first `time`, RFC 3339, or a day in UTC as 2026-11-24 (else all)")
	fl.StringVar(&to, "to", "", "`time` before which it ends, or its last day (else now)")
	choiceVar(cmd, &format, "format", []string{formatMarkdown, formatHTML, formatJSON}, "how the report is written")
	fl.StringVar(&name, "repo", "", "`name` of the repository (else all)")
	cmd.RunE = s.run(func(ctx context.Context, _ []string) error {
		begin, err := parseBound("from", from, 0)
		if err != nil {
			return err
		}
		end, err := parseBound("to", to, 24*time.Hour)
		if err != nil {
			return err
		}
		if !begin.IsZero() && !end.IsZero() && !begin.Before(end) {
			return usageError("", "--from %s is not before --to %s", from, to)
		}
		return s.reportRecovery(ctx, name, begin, end, format)
	})
	return cmd
}

// parseBound reads an end of a time: a moment, or a day in UTC, to which is added what
// its end is later than its beginning. "" is no end.
func parseBound(option, s string, day time.Duration) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t.Add(day), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, usageError("write it as 2026-11-24T06:51:00Z, or 2026-11-24 for the day in UTC", "--%s: %q is not a time", option, s)
	}
	return t, nil
}

func (s *session) reportRecovery(ctx context.Context, name string, from, to time.Time, format string) error {
	c, err := s.config()
	if err != nil {
		return err
	}
	keys := s.trustedKeys(ctx, c)
	proofs, unreadable, err := s.allProofs(ctx, c, name, keys)
	if err != nil {
		return err
	}
	backups, lost, err := s.allBackups(ctx, c, name)
	if err != nil {
		return err
	}
	proofs = slices.DeleteFunc(proofs, func(p foundProof) bool {
		return p.StartedAt.Before(from) || !to.IsZero() && !p.StartedAt.Before(to)
	})
	r := newRecoveryReport(c.Cluster, proofs, backups, time.Duration(c.Objectives.Database.RTO))
	r.GeneratedAt, r.From, r.To, r.Program = stamp(s.clock.Now()), stamp(from), stamp(to), versionOf(s.version, s.commit, readBuild()).Version
	for _, k := range keys {
		r.TrustedKeys = append(r.TrustedKeys, k.ID())
	}
	for _, err := range append(unreadable, lost...) {
		r.Unreadable = append(r.Unreadable, err.Error())
	}
	switch {
	case s.output != outputTable:
		err = s.out.document(r, nil)
	case format == formatJSON:
		err = (&printer{w: s.stdout, format: outputJSON}).document(r, nil)
	case format == formatHTML:
		err = written(r.writeHTML(s.stdout))
	default:
		err = written(r.writeMarkdown(s.stdout))
	}
	if err != nil {
		return err
	}
	if len(r.Unreadable) > 0 {
		return foundProblem("the report is of the others", "%d backups or proofs cannot be read: %w", len(r.Unreadable), errors.Join(append(unreadable, lost...)...))
	}
	return nil
}
