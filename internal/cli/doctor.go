package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
)

func doctorCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "doctor",
		Short:   "Test every part of the set-up, and name the fix for what is wrong",
		GroupID: groupSetup,
		Long: `Test the configuration, the server, the repositories and archiving, one by one,
and say of each what was tested, why it matters and what mends it. At the end a
WAL segment makes the whole way: the server archives it, and it is fetched back
and compared.

Run it on the server's host, as root or as PostgreSQL's user. It changes nothing
but that the server begins a new WAL segment. Exit 3 says that a problem was
found; warnings alone are exit 0.`,
		Args: positional(),
		RunE: s.run(func(ctx context.Context, _ []string) error { return s.doctor(ctx) }),
	}
}

// outcome is how a check ended.
type outcome string

// The outcomes, from the mildest on.
const (
	checkOK      outcome = "ok"
	checkSkipped outcome = "skipped"
	checkWarning outcome = "warning"
	checkProblem outcome = "problem"
)

// check is one thing to test.
type check struct {
	name  string // stable, for programs
	title string // what is tested
	why   string // it matters
	// needs are the checks without which this one says nothing: it is skipped if
	// one of them found a problem or was skipped.
	needs []string
	each  bool // once for every repository
	probe func(context.Context, *examination, *examined, *verdict)
}

// doctorChecks are all checks, in order.
func doctorChecks() []check {
	return slices.Concat(configurationChecks(), serverChecks(), repositoryChecks(), archivingChecks(), recoveryChecks(),
		[]check{roundTripCheck()})
}

// verdict collects what a check found. Without a word of harm it is ok.
type verdict struct {
	result  outcome
	details []string
	fixes   []string
}

// say adds what is good to know.
func (v *verdict) say(format string, args ...any) {
	v.details = append(v.details, fmt.Sprintf(format, args...))
}

// skip says why the check could not be made.
func (v *verdict) skip(format string, args ...any) { v.add(checkSkipped, "", format, args...) }

// warn says what should be better.
func (v *verdict) warn(fix, format string, args ...any) { v.add(checkWarning, fix, format, args...) }

// problem says what is wrong.
func (v *verdict) problem(fix, format string, args ...any) {
	v.add(checkProblem, fix, format, args...)
}

// fail takes an error for a problem, with its hint as the fix.
func (v *verdict) fail(err error) {
	f := classify(err)
	v.problem(f.hint, "%s", f.message)
}

func (v *verdict) add(o outcome, fix, format string, args ...any) {
	order := []outcome{checkOK, checkSkipped, checkWarning, checkProblem}
	if slices.Index(order, o) > slices.Index(order, v.result) {
		v.result = o
	}
	v.say(format, args...)
	if fix = strings.TrimSpace(fix); fix != "" && !slices.Contains(v.fixes, fix) {
		v.fixes = append(v.fixes, fix)
	}
}

// examination is what the checks share: the earlier ones find out what the later
// ones test.
type examination struct {
	*session
	path    string         // of the configuration
	c       *config.Config // nil while it is not known to be valid
	account *account       // who runs archive_command; nil if that is not known
	db      *conn.Conn
	server  conn.Server
	control datadir.Control
	repos   []*examined

	found map[string]outcome // by what key gives
}

// examined is a repository in examination.
type examined struct {
	config.Repository
	open *repository   // nil if it does not open
	took time.Duration // to open it
}

func (e *examination) close() {
	if e.db != nil {
		e.db.Close()
	}
	for _, r := range e.repos {
		if r.open != nil {
			r.open.close()
		}
	}
}

// opened are the repositories that opened.
func (e *examination) opened() []*examined {
	return slices.DeleteFunc(slices.Clone(e.repos), func(r *examined) bool { return r.open == nil })
}

// doctorView is an examination in documents.
type doctorView struct {
	OK     bool        `json:"ok"`
	Checks []checkView `json:"checks"`
}

type checkView struct {
	Name       string  `json:"name"`
	Repository string  `json:"repository,omitempty"`
	Title      string  `json:"title"`
	Result     outcome `json:"result"`
	Detail     string  `json:"detail"`
	Why        string  `json:"why"`
	Fix        string  `json:"fix"`
	Seconds    float64 `json:"duration_seconds"`
}

func (s *session) doctor(ctx context.Context) error {
	path, err := config.Find(s.configPath, s.env)
	if err != nil {
		return err // there is nothing to examine
	}
	e := &examination{session: s, path: path, found: map[string]outcome{}}
	defer e.close()
	p := s.progress("doctor")
	v, err := e.examine(ctx, doctorChecks(), p)
	p.close()
	if err != nil {
		return err
	}
	if err := s.out.document(v, v.text()); err != nil {
		return err
	}
	if bad := v.with(checkProblem); len(bad) > 0 {
		return foundProblem("the result names the fix of each", "%d of %d checks found a problem; the first is %s", len(bad), len(v.Checks), bad[0].Title)
	}
	return nil
}

// examine makes the checks, in order.
func (e *examination) examine(ctx context.Context, checks []check, p *progress) (doctorView, error) {
	v := doctorView{}
	for _, c := range checks {
		for _, r := range e.subjects(c) {
			p.update(c.title, 0, 0)
			began := e.clock.Now()
			out := e.check(ctx, c, r)
			if ctx.Err() != nil {
				return v, fmt.Errorf("examining: %w", ctx.Err())
			}
			out.Seconds = seconds(e.clock.Now().Sub(began))
			v.Checks = append(v.Checks, out)
		}
	}
	v.OK = len(v.with(checkProblem)) == 0
	return v, nil
}

// subjects are what a check is made on: the repositories, or the whole (nil).
func (e *examination) subjects(c check) []*examined {
	if !c.each || len(e.repos) == 0 {
		return []*examined{nil}
	}
	return e.repos
}

// check makes one check, or says why it cannot be made.
func (e *examination) check(ctx context.Context, c check, r *examined) checkView {
	out := checkView{Name: c.name, Title: c.title, Why: c.why}
	if c.each {
		out.Title = "repositories: " + c.title
	}
	if r != nil {
		out.Repository, out.Title = r.Name, "repository "+r.Name+": "+c.title
	}
	v := &verdict{result: checkOK}
	if need := e.lacks(c, r); need != "" {
		v.skip("the check %q must be ok first", need)
	} else {
		c.probe(ctx, e, r, v)
	}
	e.found[key(c.name, r)] = v.result
	out.Result, out.Detail, out.Fix = v.result, strings.Join(v.details, "; "), strings.Join(v.fixes, "\n")
	return out
}

// lacks names a check that had to be ok before this one and is not.
func (e *examination) lacks(c check, r *examined) string {
	needs := c.needs
	if c.name != "configuration" {
		needs = append([]string{"configuration"}, needs...)
	}
	for _, name := range needs {
		for _, k := range []string{key(name, nil), key(name, r)} {
			if o := e.found[k]; o == checkProblem || o == checkSkipped {
				return name
			}
		}
	}
	return ""
}

func key(name string, r *examined) string {
	if r == nil {
		return name
	}
	return name + " " + r.Name
}

func (v doctorView) with(o outcome) []checkView {
	return slices.DeleteFunc(slices.Clone(v.Checks), func(c checkView) bool { return c.Result != o })
}

// text is the result for people: a line for each check, and more where it is not ok.
func (v doctorView) text() tabular {
	return lines(func(w io.Writer) {
		width := 0
		for _, c := range v.Checks {
			width = max(width, len(c.Title))
		}
		for _, c := range v.Checks {
			first, rest, _ := strings.Cut(c.Detail, "\n")
			fmt.Fprintf(w, "%s  %s  %s\n", pad(string(c.Result), len(checkWarning), false), pad(c.Title, width, false), first)
			if rest != "" {
				fmt.Fprintf(w, "%s\n", indented("", rest))
			}
			if c.Result == checkWarning || c.Result == checkProblem {
				fmt.Fprintf(w, "%s\n", indented("why: ", c.Why))
				if c.Fix != "" {
					fmt.Fprintf(w, "%s\n", indented("fix: ", c.Fix))
				}
			}
		}
		fmt.Fprintf(w, "\n%d problems, %d warnings, %d ok, %d skipped\n",
			len(v.with(checkProblem)), len(v.with(checkWarning)), len(v.with(checkOK)), len(v.with(checkSkipped)))
	})
}

// indented puts text under a check's title, its first line behind a word.
func indented(word, text string) string {
	margin := strings.Repeat(" ", len(checkWarning)+2)
	return margin + word + strings.ReplaceAll(text, "\n", "\n"+margin+strings.Repeat(" ", len(word)))
}
