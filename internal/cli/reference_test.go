package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/salvor-dr/salvor/internal/config"
)

// referencePage is the page that TestCommandReference keeps.
const referencePage = "../../docs/reference/cli.md"

const referenceHead = `# Command line

<!-- Made from the commands themselves. After a change there:
     go test ./internal/cli -run TestCommandReference -update -->

Results go to stdout, the log and progress to stderr. How commands end is on the page about
[exit codes](exit-codes.md), what they print with ` + "`-o json`" + ` on the page about
[JSON documents](json.md). Every option has a variable, named in the tables; an option that is
given wins over its variable, and that over the [configuration](configuration.md).

`

// TestCommandReference keeps the page equal to what the commands say of
// themselves.
func TestCommandReference(t *testing.T) {
	root := commandTree()
	var page strings.Builder
	page.WriteString(referenceHead)
	walk(root, func(cmd *cobra.Command) {
		if cmd.HasParent() {
			name := cmd.CommandPath()
			fmt.Fprintf(&page, "- [`%s`](#%s): %s\n", name, strings.ReplaceAll(name, " ", "-"), cmd.Short)
		}
	})
	page.WriteString("\n## Options of every command\n\n")
	optionTable(&page, root.PersistentFlags())
	walk(root, func(cmd *cobra.Command) {
		if cmd.HasParent() {
			describe(&page, cmd)
		}
	})
	if *update {
		if err := os.WriteFile(referencePage, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referencePage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(page.String(), string(got)); diff != "" {
		t.Errorf("%s is out of date: run go test ./internal/cli -run TestCommandReference -update\n%s", referencePage, diff)
	}
}

// commandTree is salvor as it parses command lines; nothing in it is run.
func commandTree() *cobra.Command {
	s := newSession(Process{Env: func(string) (string, bool) { return "", false }})
	return newRoot(s, commands(s))
}

// walk visits a command and all that are below it, as the help shows them.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			walk(c, visit)
		}
	}
}

func describe(w *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(w, "\n## %s\n\n", cmd.CommandPath())
	about := cmd.Long
	if about == "" {
		about = cmd.Short + "."
	}
	w.WriteString(markdown(about))
	fmt.Fprintf(w, "\n```\n%s\n```\n", cmd.UseLine())
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	own.AddFlagSet(cmd.LocalFlags())
	for up := cmd.Parent(); up.HasParent(); up = up.Parent() {
		own.AddFlagSet(up.PersistentFlags())
	}
	if own.HasAvailableFlags() {
		w.WriteByte('\n')
		optionTable(w, own)
	}
}

// markdown turns a help text into Markdown: paragraphs stay, and those that are
// indented are examples.
func markdown(text string) string {
	var b strings.Builder
	for i, paragraph := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		if !strings.HasPrefix(paragraph, "    ") {
			b.WriteString(paragraph + "\n")
			continue
		}
		b.WriteString("```\n")
		for line := range strings.Lines(paragraph) {
			b.WriteString(strings.TrimPrefix(line, "    "))
		}
		b.WriteString("\n```\n")
	}
	return b.String()
}

func optionTable(w *strings.Builder, flags *pflag.FlagSet) {
	w.WriteString("| option | variable | default | meaning |\n|---|---|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		if value != "" {
			name = strings.TrimSuffix(name, "`") + " " + strings.ReplaceAll(strings.TrimPrefix(value, "|"), "|", `\|`) + "`"
		}
		fallback := ""
		if d := f.DefValue; d != "" && d != "false" && d != "[]" && d != "0" {
			fallback = "`" + d + "`"
		}
		fmt.Fprintf(w, "| %s | `%s` | %s | %s |\n", name, config.EnvName(f.Name), fallback, strings.ReplaceAll(usage, "|", `\|`))
	})
}
