package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docsRoot is where the pages are, seen from this package.
const docsRoot = "../.."

// TestDocumentedCommands gives every command line of salvor that stands in the
// documentation to the parser: commands and options must exist, and their values
// and arguments be such as are taken. Nothing is run.
func TestDocumentedCommands(t *testing.T) {
	whole, mentioned := 0, 0
	for _, page := range pages(t) {
		text := readPage(t, page)
		blocks, prose := split(text)
		for _, b := range blocks {
			for _, args := range b.commands() {
				whole++
				if err := parses(args, true); err != nil {
					t.Errorf("%s:%d: salvor %s: %v", page, b.line, strings.Join(args, " "), err)
				}
			}
		}
		for _, span := range spans(prose) {
			mentioned++
			if err := parses(span, false); err != nil {
				t.Errorf("%s: `salvor %s`: %v", page, strings.Join(span, " "), err)
			}
		}
	}
	if whole < 40 || mentioned < 40 {
		t.Errorf("found only %d command lines and %d mentions: does this test still read the pages?", whole, mentioned)
	}
}

// TestDocumentedCommandsFindsFaults shows that the test above would see a fault.
func TestDocumentedCommandsFindsFaults(t *testing.T) {
	t.Parallel()
	for line, fault := range map[string]string{
		"sudo -u postgres salvor backup --knd full":                  "--knd",
		"salvor -c x.yaml restor --to DIR":                           "restor",
		"if ! salvor status; then salvor wal stat; fi":               "stat",
		"ID=$(salvor backups lst -o json | jq -r .id)":               "lst",
		"salvor restore --to d --at 2026-11-24T06:51:00Z --latest":   "at latest",
		"archive_command = '/usr/bin/salvor -c \"a b\" wal psh %p'":  "psh",
		"30 2 * * * postgres /usr/local/bin/salvor backup -o xml":    "xml",
		"ExecStart=/usr/local/bin/salvor backup --workers many":      "many",
		"salvor backups show":                                        "needs ID",
		"salvor restore --to d \\\n  --port http":                    "http",
		"cp salvor /usr/local/bin && salvor version --all # nothing": "--all",
	} {
		found := block{text: line}.commands()
		var all error
		for _, args := range found {
			all = errors.Join(all, parses(args, true))
		}
		if all == nil || !strings.Contains(all.Error(), fault) {
			t.Errorf("%q: found %q, fault %v, want one about %q", line, found, all, fault)
		}
	}
	fine := "sudo install salvor /usr/local/bin\ncat > x <<END\nsalvor nothing\nEND\nPGPORT=1 salvor wal status --repo 'a b' > out 2>&1\n"
	found := block{text: fine}.commands()
	if len(found) != 1 || parses(found[0], true) != nil || found[0][3] != "a b" {
		t.Errorf("found %q in lines that are fine", found)
	}
}

// TestDocumentedLinks follows every link between pages, and to files of the project.
func TestDocumentedLinks(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	followed := 0
	for _, page := range pages(t) {
		_, prose := split(readPage(t, page))
		for _, m := range link.FindAllStringSubmatch(prose, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue // to the world
			}
			path := filepath.Join(docsRoot, filepath.Dir(page), target)
			if target == "" {
				path = filepath.Join(docsRoot, page)
			}
			followed++
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", page, m[1])
				continue
			}
			if anchor == "" || !strings.HasSuffix(path, ".md") {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !anchors(string(text))[anchor] {
				t.Errorf("%s: %s has no heading for #%s", page, path, anchor)
			}
		}
	}
	if followed < 60 {
		t.Errorf("found only %d links", followed)
	}
}

// pages are all pages for readers, relative to the project.
func pages(t *testing.T) []string {
	t.Helper()
	list := []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/swifteats/README.md"}
	err := filepath.WalkDir(filepath.Join(docsRoot, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			rel, relErr := filepath.Rel(docsRoot, path)
			list, err = append(list, rel), relErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func readPage(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docsRoot, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block is a block of code whose commands a reader may copy.
type block struct {
	line int
	text string
}

// split takes the blocks of code out of a page. Only those whose language says that
// they hold commands or settings are given: output and pictures are not.
func split(page string) (blocks []block, prose string) {
	var out strings.Builder
	var b *block
	inside := false
	for n, line := range strings.Split(page, "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimLeft(line, " "), "```")
		switch {
		case isFence && !inside:
			inside, b = true, nil
			switch fence {
			case "sh", "ini", "sql", "cron", "conf":
				b = &block{line: n + 2}
			}
		case isFence:
			inside = false
			if b != nil {
				blocks = append(blocks, *b)
			}
		case inside && b != nil:
			b.text += line + "\n"
		case !inside:
			out.WriteString(line + "\n")
		}
	}
	return blocks, out.String()
}

// spans are the mentions of commands in prose, without the word salvor. What stands
// for something else, as DIR or …, ends them.
func spans(prose string) [][]string {
	var list [][]string
	for _, m := range regexp.MustCompile("`((?:sudo -u postgres )?salvor [^`]+)`").FindAllStringSubmatch(prose, -1) {
		list = append(list, block{text: m[1]}.commands()...)
	}
	return list
}

// settingCommand is a command inside a setting of PostgreSQL.
var settingCommand = regexp.MustCompile(`(?:archive|restore)_command\s*=\s*'((?:[^']|'')*)'`)

// commands are the arguments of each call of salvor in the block.
func (b block) commands() [][]string {
	text := strings.ReplaceAll(b.text, "\\\n", " ") + "\n"
	for _, m := range settingCommand.FindAllStringSubmatch(text, -1) {
		text += strings.ReplaceAll(m[1], "''", "'") + "\n"
	}
	var all [][]string
	until := "" // the end of a here-document
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if until != "" {
			if strings.TrimSpace(line) == until {
				until = ""
			}
			continue
		}
		if m := regexp.MustCompile(`<<-?\s*['"]?(\w+)`).FindStringSubmatch(line); m != nil {
			until = m[1]
		}
		for _, simple := range shell(line) {
			if args := callOf(simple); args != nil {
				all = append(all, args)
			}
		}
	}
	return all
}

// before is a word that can stand before a command.
var before = regexp.MustCompile(`^(sudo|-[uH]|postgres|env|exec|time|if|!|then|else|do|while|until|[A-Z_]+=.*|[*0-9/,-]+)$`)

// callOf gives the arguments of salvor, if the simple command calls it.
func callOf(words []string) []string {
	for i, w := range words {
		w = strings.TrimPrefix(w, "ExecStart=")
		switch {
		case w == "salvor" || strings.HasSuffix(w, "/salvor"):
			return append([]string{}, words[i+1:]...)
		case !before.MatchString(w):
			return nil
		}
	}
	return nil
}

// shell cuts a line into simple commands and these into words, as far as the pages
// need it: quotes, comments, redirections, operators, and $(…), whose commands are
// listed too.
func shell(line string) (all [][]string) {
	var words []string
	var word strings.Builder
	begun, skip := false, false
	endWord := func() {
		if begun && !skip {
			words = append(words, word.String())
		}
		skip = skip && !begun
		word.Reset()
		begun = false
	}
	endCommand := func() {
		endWord()
		if len(words) > 0 {
			all = append(all, words)
		}
		words = nil
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\'' || c == '"':
			end := strings.IndexByte(line[i+1:], c)
			if end < 0 {
				end = len(line) - i - 1
			}
			word.WriteString(line[i+1 : i+1+end])
			begun = true
			i += end + 1
		case strings.HasPrefix(line[i:], "$("):
			end := strings.IndexByte(line[i:], ')')
			if end < 0 {
				end = len(line) - i
			}
			all = append(all, shell(line[i+2:i+end])...)
			word.WriteString("value")
			begun = true
			i += end
		case c == '#' && !begun:
			i = len(line)
		case c == '>' || c == '<':
			if strings.Trim(word.String(), "0123456789") == "" {
				word.Reset() // the number of a stream
				begun = false
			}
			endWord()
			for i+1 < len(line) && strings.IndexByte("<>&", line[i+1]) >= 0 {
				i++
			}
			skip = true
		case strings.IndexByte(";|&()", c) >= 0:
			endCommand()
		case c == ' ' || c == '\t':
			endWord()
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	endCommand()
	return all
}

// placeholder is a word that stands for something else in a mention.
var placeholder = regexp.MustCompile(`^(\[.*|…|\.\.\.|[A-Z]+(=[A-Z]+)?)$`)

// parses says what the parser of the command line finds wrong. Of a mention, which is
// no whole command line, only commands and options are looked at.
func parses(args []string, whole bool) error {
	if !whole {
		for i, a := range args {
			if placeholder.MatchString(a) && (i == 0 || !strings.HasPrefix(args[i-1], "-")) {
				args = args[:i]
				break
			}
		}
	}
	root := commandTree()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		if !whole && strings.Contains(err.Error(), "needs an argument") {
			return nil
		}
		return flagError(cmd, err)
	}
	left := cmd.Flags().Args()
	if cmd.HasSubCommands() && len(left) > 0 {
		return fmt.Errorf("%q has no command %q", cmd.CommandPath(), left[0])
	}
	if !whole {
		return nil
	}
	return errors.Join(cmd.ValidateArgs(left), cmd.ValidateFlagGroups())
}

// anchors are the names that a page's headings have in links.
func anchors(page string) map[string]bool {
	_, prose := split(page)
	names := map[string]bool{}
	for line := range strings.Lines(prose) {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			continue
		}
		var b strings.Builder
		for _, r := range strings.ToLower(strings.TrimSpace(title)) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case r == '-' || r == '_' || r > 127 && r != '…' && r != '→' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
				b.WriteRune(r)
			}
		}
		names[b.String()] = true
	}
	return names
}
