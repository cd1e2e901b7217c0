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

// Options of other types than flags knows, such as config.Size, config.Duration
// or pg.LSN, are declared with Flags().TextVar.

// choice is an option that has one of a few values.
type choice struct {
	value   *string
	allowed []string
}

func (c choice) String() string {
	if c.value == nil {
		return "" // pflag makes an empty one to compare with
	}
	return *c.value
}

func (c choice) Type() string { return strings.Join(c.allowed, "|") }

func (c choice) Set(s string) error {
	if !slices.Contains(c.allowed, s) {
		return fmt.Errorf("want one of %s", strings.Join(c.allowed, ", "))
	}
	*c.value = s
	return nil
}

// choiceVar declares an option of cmd with a few values; the first is its
// default.
func choiceVar(cmd *cobra.Command, value *string, name string, allowed []string, usage string) {
	choiceVarP(cmd, cmd.Flags(), value, name, "", allowed, usage)
}

func choiceVarP(cmd *cobra.Command, flags *pflag.FlagSet, value *string, name, short string, allowed []string, usage string) {
	*value = allowed[0]
	flags.VarP(choice{value, allowed}, name, short, usage)
	err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag is there: it was declared on the line before
	}
}

// planFlag declares --plan, which every command has that changes something.
func planFlag(cmd *cobra.Command, plan *bool) {
	cmd.Flags().BoolVar(plan, "plan", false, "say what would be done, and change nothing")
}

// optionsFromEnv sets every option of cmd that was not given from its variable,
// if that is set and not empty. Lists are separated by commas.
func optionsFromEnv(cmd *cobra.Command, env config.Env) error {
	var problem error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" || f.Name == "version" || problem != nil {
			return
		}
		name := config.EnvName(f.Name)
		text, _ := env(name)
		if text == "" {
			return
		}
		if err := setFromEnv(cmd.Flags(), f, text); err != nil {
			problem = usageError("the variable stands for --"+f.Name, "%s=%q: %w", name, text, err)
		}
	})
	return problem
}

func setFromEnv(flags *pflag.FlagSet, f *pflag.Flag, text string) error {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		if err := list.Replace(strings.Split(text, ",")); err != nil {
			return err
		}
		f.Changed = true
		return nil
	}
	if f.Value.Type() == "bool" {
		switch strings.ToLower(text) {
		case "1", "true", "yes", "on":
			text = "true"
		case "0", "false", "no", "off":
			text = "false"
		default:
			return errors.New("want yes or no")
		}
	}
	if err := f.Value.Set(text); err != nil {
		return err
	}
	// Set again through the set of options, which keeps books of what was given.
	return flags.Set(f.Name, text)
}
