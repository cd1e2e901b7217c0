package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// story tells what happens, for people.
type story struct {
	w        io.Writer
	chapters *int
}

func (t story) opening(st *stage) {
	fmt.Fprintf(t.w, "SwiftEats delivers food. Today it loses its orders, and gets them back.\n\n")
	_ = details{
		{"PostgreSQL", st.binDir}, {"salvor", st.program}, {"everything is in", st.root}, {"everything runs as", st.username},
	}.writeTo(t.w)
}

func (t story) heading(text string) {
	*t.chapters++
	fmt.Fprintf(t.w, "\n%d. %s\n", *t.chapters, text)
}

func (t story) say(format string, args ...any) { fmt.Fprintf(t.w, "   "+format+"\n", args...) }

func (t story) sql(query string) { t.say("%s=# %s", demoDatabase, query) }

func (t story) block(r tabular) {
	var b strings.Builder
	_ = r.writeTo(&b) // a Builder takes everything
	for line := range strings.Lines(b.String()) {
		fmt.Fprint(t.w, "   "+line)
	}
}

// command shows a command line as one would type it, broken where it gets long.
func (t story) command(program string, args ...string) {
	const width = 96
	line := "   $ " + program
	for i, word := range args {
		word = forShell(word)
		if i > 0 && len(line)+len(word) > width && strings.HasPrefix(word, "-") || len(line) > width {
			fmt.Fprintln(t.w, line+" \\")
			line = "      "
		}
		line += " " + word
	}
	fmt.Fprintln(t.w, line)
}

// kept says where things are.
func (t story) kept(st *stage) {
	as := ""
	if st.become != nil {
		as = "runuser -u " + st.username + " -- "
	}
	fmt.Fprintf(t.w, "\nKept in %s, until you end it:\n", st.root)
	for _, s := range st.servers() {
		t.say("psql -h %s -p %d -U postgres %s", s.SocketDir, s.Port, demoDatabase)
	}
	for _, s := range st.servers() {
		t.say("%s%s/pg_ctl stop -m fast -D %s", as, forShell(st.binDir), forShell(s.DataDir))
	}
	var places []string
	for _, p := range st.places() {
		places = append(places, forShell(p))
	}
	t.say("rm -r %s", strings.Join(places, " "))
}

// forShell quotes a word for a shell alone; shellWord does for PostgreSQL, too.
func forShell(word string) string { return strings.ReplaceAll(shellWord(word), "%%", "%") }

// salvor runs a command of salvor as an operator would type it, shows it, and gives its
// document, also read into result.
func (d *demo) salvor(ctx context.Context, result any, args ...string) (json.RawMessage, error) {
	d.tell.command("salvor", args...)
	return d.ask(ctx, result, args...)
}

// ask is salvor without a word.
func (d *demo) ask(ctx context.Context, result any, args ...string) (json.RawMessage, error) {
	cmd := d.command(ctx, d.program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	doc := bytes.TrimSpace(stdout.Bytes())
	doc = doc[bytes.LastIndexByte(doc, '\n')+1:]
	var said struct {
		Error struct{ Message, Hint string }
	}
	what := "salvor " + strings.Join(args, " ")
	if bad := json.Unmarshal(doc, &said); bad != nil {
		return nil, fmt.Errorf("%s: %w: %s", what, cmp.Or(err, bad), bytes.TrimSpace(stderr.Bytes()))
	}
	if said.Error.Message != "" {
		return nil, withHint(fmt.Errorf("%s: %s", what, said.Error.Message), said.Error.Hint)
	}
	// Exit code 3 is a result, too: wal status has something to say.
	if err != nil && cmd.ProcessState.ExitCode() != exitProblem {
		return nil, fmt.Errorf("%s: %w: %s", what, err, bytes.TrimSpace(stderr.Bytes()))
	}
	if err := json.Unmarshal(doc, result); err != nil {
		return nil, fmt.Errorf("reading what %s says: %w", what, err)
	}
	return doc, nil
}
