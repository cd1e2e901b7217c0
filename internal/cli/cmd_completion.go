package cli

import (
	"context"

	"github.com/spf13/cobra"
)

func completionCommand(s *session) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	cmd := &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print the completion script for bash, zsh, fish or powershell",
		Long: `Print the completion script for a shell. To have it in every session:

    bash        salvor completion bash > /etc/bash_completion.d/salvor
    zsh         salvor completion zsh > "${fpath[1]}/_salvor"
    fish        salvor completion fish > ~/.config/fish/completions/salvor.fish
    powershell  salvor completion powershell >> $PROFILE`,
		GroupID:   groupSetup,
		ValidArgs: shells,
		Args:      positional("SHELL"),
	}
	cmd.RunE = s.run(func(_ context.Context, args []string) error {
		root := cmd.Root()
		switch args[0] {
		case "bash":
			return root.GenBashCompletionV2(s.stdout, true)
		case "zsh":
			return root.GenZshCompletion(s.stdout)
		case "fish":
			return root.GenFishCompletion(s.stdout, true)
		case "powershell":
			return root.GenPowerShellCompletionWithDesc(s.stdout)
		}
		return usageError("", "no completion for %q, only for bash, zsh, fish and powershell", args[0])
	})
	return cmd
}
