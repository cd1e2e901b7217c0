package cli

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/repo"
)

func TestOrdinaryFailures(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want result
	}{
		{[]string{"work", "succeed"}, result{0, "fine\n", ""}},
		{[]string{"work", "succeed", "-o", "json"}, result{0, `{"format_version":1,"ok":true}` + "\n", ""}},
		{[]string{"work", "fail"}, result{1, "", "salvor: reading page 7 of base/1/1259: unexpected EOF\n"}},
		{[]string{"work", "fail", "-o", "json"}, result{1,
			`{"error":{"code":"failed","message":"reading page 7 of base/1/1259: unexpected EOF","hint":""}}` + "\n", ""}},
		{[]string{"work", "fail", "-o", "yaml"}, result{1, "", "salvor: reading page 7 of base/1/1259: unexpected EOF\n"}},
		{[]string{"work", "problem"}, result{3, "one page is damaged\n",
			"salvor: 1 of 3 backups is damaged\nhint: `salvor verify --repair` mends it\n"}},
		{[]string{"work", "problem", "-o", "json"}, result{3, `{"format_version":1,"ok":false}` + "\n",
			"salvor: 1 of 3 backups is damaged\nhint: `salvor verify --repair` mends it\n"}},
		{[]string{"work", "wrong-key", "-o", "json"}, result{7,
			`{"error":{"code":"wrong_key","message":"opening repository local: the key does not open this repository","hint":"try the other key"}}` + "\n", ""}},
		{[]string{"work", "confirm", "-o", "json"}, result{2,
			`{"error":{"code":"confirmation_required","message":"not done, since nobody is there to confirm it: This deletes the backup b1","hint":"--yes does it without asking"}}` + "\n", ""}},
		{[]string{"work", "confirm", "--yes"}, result{0, "", ""}},
		{[]string{"work", "panic"}, result{1, "",
			"salvor: internal error: no such state\nhint: this is a bug in salvor; run it again with --log-level debug and report what it prints\n"}},
		{[]string{"work", "nil", "-o", "json"}, result{1,
			`{"error":{"code":"internal","message":"internal error: runtime error: invalid memory address or nil pointer dereference","hint":"this is a bug in salvor; run it again with --log-level debug and report what it prints"}}` + "\n", ""}},
		{[]string{"wal"}, result{2, "", "salvor: wal needs a command: fetch\nhint: `salvor wal --help` explains it\n"}},
		{nil, inProcess(misbehaving, nil, "help")},
	} {
		if diff := cmp.Diff(tc.want, inProcess(misbehaving, nil, tc.args...), cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tc.args, diff)
		}
	}
}

func TestEveryOptionHasAVariable(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		vars []string
		args []string
		want string
	}{
		{nil, nil, "false auto 0 []\n"},
		{[]string{"SALVOR_PLAN=yes", "SALVOR_KIND=full", "SALVOR_RATE_LIMIT=64MiB", "SALVOR_ANNOTATE=a=1,b=2"}, nil, "true full 64MiB [a=1,b=2]\n"},
		{[]string{"SALVOR_PLAN=Off", "SALVOR_KIND=", "SALVOR_RATE_LIMIT=1"}, []string{"--rate-limit", "2kB"}, "false auto 2kB []\n"},
		{[]string{"SALVOR_ANNOTATE=a=1"}, []string{"--annotate", "c=3"}, "false auto 0 [c=3]\n"},
	} {
		r := inProcess(misbehaving, tc.vars, append([]string{"options"}, tc.args...)...)
		if r.stdout != tc.want || r.exit != 0 {
			t.Errorf("%v %v: %+v, want %q", tc.vars, tc.args, r, tc.want)
		}
	}
	for _, bad := range []string{"SALVOR_PLAN=maybe", "SALVOR_KIND=half", "SALVOR_RATE_LIMIT=fast"} {
		r := inProcess(misbehaving, []string{bad}, "options")
		name, _, _ := strings.Cut(bad, "=")
		if r.exit != exitUsage || !strings.Contains(r.stderr, name+"=") {
			t.Errorf("%s: %+v, want a usage error that names it", bad, r)
		}
	}
}

func TestScan(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]request{
		"":                              {},
		"backup -o json":                {output: "json"},
		"backup -ojson":                 {output: "json"},
		"backup -o=json":                {output: "json"},
		"--output=yaml backup":          {output: "yaml"},
		"--output":                      {},
		"-o json -o table backup":       {output: "table"},
		"backup --log-level debug":      {debug: true},
		"backup --log-level=debug":      {debug: true},
		"backup -- -o json":             {},
		"wal fetch a b":                 {fetch: true},
		"-c x wal fetch a b":            {fetch: true},
		"-c=x wal fetch":                {fetch: true},
		"--config x wal -o json fetch":  {fetch: true, output: "json"},
		"--bogus wal --bogus fetch":     {fetch: true},
		"--bogus value wal fetch":       {fetch: true},
		"--quiet wal --log-level debug": {debug: true},
		"wal -- fetch":                  {fetch: true},
		"wal push fetch":                {},
		"backup wal":                    {},
		"help wal fetch":                {},
		"__complete wal fetch x":        {},
		"-c wal fetch":                  {},
	} {
		if got := scan(strings.Fields(line), nil2env()); got != want {
			t.Errorf("scan(%q) = %+v, want %+v", line, got, want)
		}
	}
	env := func(name string) (string, bool) {
		return map[string]string{"SALVOR_OUTPUT": "json", "SALVOR_LOG_LEVEL": "debug"}[name], true
	}
	if got, want := scan([]string{"x"}, env), (request{output: "json", debug: true}); got != want {
		t.Errorf("from variables: %+v, want %+v", got, want)
	}
	if got := scan([]string{"x", "--output", "table"}, env); got.output != "table" {
		t.Errorf("an option does not win over its variable: %+v", got)
	}
}

func nil2env() config.Env { return func(string) (string, bool) { return "", false } }

// FuzzScan wants that wal fetch is seen whenever the parser sees it.
func FuzzScan(f *testing.F) {
	for _, s := range []string{"wal fetch a b", "-c x wal fetch a succeed", "wal -q fetch --standby a b", "-o json wal fetch", "--log-level=debug wal fetch x y", "-qyc x wal fetch a b", "-qo json wal fetch a b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Fields(line)
		var ran bool
		s := newSession(Process{Stdin: strings.NewReader(""), Stdout: &strings.Builder{}, Stderr: &strings.Builder{}, Env: nil2env()})
		_ = s.execute(t.Context(), args, func(s *session) []*cobra.Command {
			return []*cobra.Command{group("wal", "", "", fetchCommand(s, func(context.Context, string, string, bool) error {
				ran = true
				return nil
			}))}
		})
		if ran && !scan(args, nil2env()).fetch {
			t.Errorf("wal fetch was not seen in %q", args)
		}
	})
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		exit int
		code string
	}{
		{errors.New("x"), 1, "failed"},
		{usageError("", "x"), 2, "usage"},
		{fmt.Errorf("doing it: %w", usageError("", "x")), 2, "usage"},
		{&config.Error{Problems: []config.Problem{{}}}, 2, "config_invalid"},
		{&config.NotFoundError{Looked: []string{"a"}}, 2, "config_not_found"},
		{foundProblem("", "x"), 3, "problem_found"},
		{fmt.Errorf("x: %w", repo.ErrWrongKey), 7, "wrong_key"},
		{fmt.Errorf("x: %w", repo.ErrUnknownFormat), 7, "unknown_format"},
		{fmt.Errorf("x: %w", repo.ErrNoRepository), 7, "no_repository"},
		{repo.Damaged("packs/1", "x"), 7, "damaged"},
		{context.DeadlineExceeded, 1, "timeout"},
		{withHint(fmt.Errorf("x: %w", repo.ErrWrongKey), "y"), 7, "wrong_key"},
		{&panicError{value: 1}, 1, "internal"},
	} {
		f := classify(tc.err)
		if f.exit != tc.exit || f.code != tc.code || f.message != tc.err.Error() {
			t.Errorf("%v: %+v, want exit %d, code %s", tc.err, f, tc.exit, tc.code)
		}
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]bool{"b1\n": true, " b1 \r\n": true, "b1": true, "B1\n": false, "yes\n": false, "\n": false, "": false, "b1 b1\n": false} {
		var said strings.Builder
		s := newSession(Process{Stdin: strings.NewReader(typed), Stderr: &said})
		s.isTerminal = func(any) bool { return true }
		err := s.confirm("This deletes the backup", "b1")
		if (err == nil) != want {
			t.Errorf("%q typed: %v, want done: %v", typed, err, want)
		}
		if err != nil && classify(err).exit != exitUsage {
			t.Errorf("%q typed: exit %d, want 2", typed, classify(err).exit)
		}
		if want := "This deletes the backup b1.\nType b1 to go on: "; said.String() != want {
			t.Errorf("it asks %q, want %q", said.String(), want)
		}
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for shell, want := range map[string]string{"bash": "complete -o default -F __start_salvor salvor", "zsh": "#compdef salvor", "fish": "complete -c salvor", "powershell": "Register-ArgumentCompleter"} {
		r := inProcess(commands, nil, "completion", shell)
		if r.exit != 0 || r.stderr != "" || !strings.Contains(r.stdout, want) {
			t.Errorf("%s: exit %d, %q; want %q in %d bytes", shell, r.exit, r.stderr, want, len(r.stdout))
		}
	}
	for line, want := range map[string]string{
		"__complete con":           "config\t",
		"__complete config s":      "show\t",
		"__complete version -o j":  "json\n",
		"__complete completion f":  "fish\n",
		"__complete config show -": "--effective\t",
	} {
		if r := inProcess(commands, nil, strings.Fields(line)...); r.exit != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("%s: %+v, want %q", line, r, want)
		}
	}
}

func TestSchemaIsPrinted(t *testing.T) {
	t.Parallel()
	for _, output := range []string{"table", "json"} {
		if r := inProcess(commands, nil, "config", "schema", "-o", output); r.exit != 0 || r.stdout != string(config.Schema()) {
			t.Errorf("-o %s: exit %d, %d bytes", output, r.exit, len(r.stdout))
		}
	}
}

func TestVersionOf(t *testing.T) {
	t.Parallel()
	build := &debug.BuildInfo{GoVersion: "go1.26.8", Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-11-24T07:00:00Z"}, {Key: "vcs.modified", Value: "true"}}}
	v := versionOf("", "", build)
	if v.Version != "(devel)" || v.Commit != "abc" || !v.Modified || v.CommittedAt != "2026-11-24T07:00:00Z" || v.Go != "1.26.8" {
		t.Errorf("a checkout: %+v", v)
	}
	build.Main.Version = "v1.4.0"
	if v := versionOf("", "", build); v.Version != "1.4.0" {
		t.Errorf("go install: %+v", v)
	}
	if v := versionOf("v2.0.0", "def", build); v.Version != "2.0.0" || v.Commit != "def" {
		t.Errorf("a release: %+v", v)
	}
}

// TestEveryCommandExplainsItself walks the tree that users see.
func TestEveryCommandExplainsItself(t *testing.T) {
	t.Parallel()
	s := newSession(Process{Env: nil2env()})
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s has no short help, or one that ends in a dot: %q", c.CommandPath(), c.Short)
		}
		if c.RunE == nil || c.Run != nil || c.Args == nil && c.Name() != "help" {
			t.Errorf("%s must have RunE and a check of its arguments", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(s, commands(s)))
}
