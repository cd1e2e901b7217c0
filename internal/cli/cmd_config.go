package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/config"
)

func configCommand(s *session) *cobra.Command {
	return group("config", "Look at the configuration and check it", groupSetup,
		configShowCommand(s), configValidateCommand(s), configSchemaCommand(s))
}

func configShowCommand(s *session) *cobra.Command {
	var effective bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the configuration, without secrets",
		Long: `Print what the configuration file and the environment set, as a salvor.yaml.
Of a secret only the reference is shown. With --effective defaults are shown
too, and each value that is not the file's own tells where it comes from.`,
		Args: positional(),
		RunE: s.run(func(context.Context, []string) error {
			c, err := s.config()
			if err != nil {
				return err
			}
			show := c.View
			if effective {
				show = c.Effective
			}
			view, err := show()
			if err != nil {
				return fmt.Errorf("showing the configuration: %w", err)
			}
			printed, err := view.YAML()
			if err != nil {
				return fmt.Errorf("showing the configuration: %w", err)
			}
			return s.out.document(view, text(printed))
		}),
	}
	cmd.Flags().BoolVar(&effective, "effective", false, "with defaults, and where each value comes from")
	return cmd
}

func configValidateCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check the configuration and report every mistake",
		Args:  positional(),
		RunE: s.run(func(context.Context, []string) error {
			c, err := s.config()
			if err != nil {
				return err
			}
			return s.out.document(struct {
				OK   bool   `json:"ok"`
				File string `json:"file"`
			}{true, c.File()}, text(c.File()+" is valid\n"))
		}),
	}
}

func configSchemaCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration",
		Args:  positional(),
		RunE: s.run(func(context.Context, []string) error {
			return written(text(config.Schema()).writeTo(s.stdout))
		}),
	}
}
