package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/notify"
)

func notifyCommand(s *session) *cobra.Command {
	test := &cobra.Command{
		Use: "test", Short: "Tell everybody whom the configuration names, as a trial", Args: positional(),
		Long: `Tell all that notify in the configuration names that this is a test, whatever
commands and ends they want to know of. It exits 3 if one of them cannot be told.`,
		RunE: s.run(func(ctx context.Context, _ []string) error { return s.testNotify(ctx) }),
	}
	return group("notify", "Tell people and programs what commands did", groupSetup, test)
}

func (s *session) testNotify(ctx context.Context) error {
	c, err := s.config()
	if err != nil {
		return err
	}
	targets := notifyTargets(c)
	if len(targets) == 0 {
		return usageError("docs/how-to/schedule.md shows one", "the configuration names nobody to be told: it has no notify")
	}
	failed := notify.Tell(ctx, targets, notify.Event{Command: "notify", State: notify.Test, Cluster: c.Cluster, Host: c.Node.Name, At: s.clock.Now().UTC()})
	faults := make([]string, len(failed))
	for i, err := range failed {
		faults[i] = err.Error()
	}
	d := details{{"told", fmt.Sprintf("%d of %d", len(targets)-len(failed), len(targets))}}
	for _, f := range faults {
		d = append(d, detail{"problem", f})
	}
	view := struct {
		OK       bool     `json:"ok"`
		Told     int      `json:"told"`
		Problems []string `json:"problems"`
	}{len(failed) == 0, len(targets) - len(failed), faults}
	if err := s.out.document(view, d); err != nil {
		return err
	}
	if len(failed) > 0 {
		return foundProblem("", "%w", errors.Join(failed...))
	}
	return nil
}
