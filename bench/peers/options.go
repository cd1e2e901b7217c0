//go:build linux

package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// options say what is measured, and with what.
type options struct {
	dir         string // to work in: new or empty
	binDir      string // PostgreSQL's programs
	salvor      string
	pgbackrests []pgBackRestProgram // the last is the one that others are compared with
	walg        string
	sodium      bool // that WAL-G can encrypt

	scale   int // of pgbench, 15 MB each
	orders  int // of SwiftEats, 0.9 kB each
	repeats int
	workers int
	walMB   int
	rounds  int // of work, each followed by an incremental backup
	changes int // transactions in a round
	chain   int // rounds of the long chain

	tools []string  // patterns of names; none: all
	steps []string  // of allSteps
	sizes []float64 // GB

	out  string // JSON lines
	page string // Markdown; empty: none
	from string // render these files, and measure nothing
}

// The steps that can be asked for. The long chain is Salvor's alone, and takes long.
var (
	allSteps     = []string{"full", "incr", "wal", "chain"}
	defaultSteps = []string{"full", "incr", "wal"}
)

// parseOptions reads the command line. Each option's default is in the environment
// variable that its description names, where that is set.
func parseOptions(args []string, env func(string) string) (options, error) {
	var o options
	f := flag.NewFlagSet("peers", flag.ContinueOnError)
	text := func(p *string, name, variable, def, usage string) {
		f.StringVar(p, name, cmp.Or(env(variable), def), usage+" ($"+variable+")")
	}
	var bad error
	number := func(p *int, name, variable string, def int, usage string) {
		if s := env(variable); s != "" {
			n, err := strconv.Atoi(s)
			if err != nil {
				bad = errors.Join(bad, fmt.Errorf("%s=%s is not a number", variable, s))
			}
			def = n
		}
		f.IntVar(p, name, def, usage+" ($"+variable+")")
	}
	text(&o.dir, "dir", "BENCH_DIR", "", "directory to work in, new or empty; about 8 times the data (default a temporary one in /var/tmp)")
	text(&o.binDir, "pg-bin", "PG_BIN", "/usr/lib/postgresql/15/bin", "PostgreSQL's programs")
	text(&o.salvor, "salvor", "SALVOR", "bin/salvor", "salvor")
	var pgbackrests string
	text(&pgbackrests, "pgbackrest", "PGBACKREST", "pgbackrest", "pgBackRest; several as 2.45=PATH,2.59=PATH, the one to compare with last, those from 2.46 on also with block incrementals")
	text(&o.walg, "walg", "WALG", "", "wal-g for PostgreSQL (default: left out)")
	f.BoolVar(&o.sodium, "walg-sodium", env("WALG_SODIUM") == "1", "wal-g was built with libsodium ($WALG_SODIUM=1)")
	number(&o.scale, "scale", "SCALE", 50, "scale of pgbench's data, 15 MB each")
	number(&o.orders, "orders", "ORDERS", 300_000, "past orders of the SwiftEats data, 0.9 kB each")
	number(&o.repeats, "repeats", "REPEATS", 3, "runs of each step")
	number(&o.workers, "workers", "WORKERS", 2, "workers given to each tool")
	number(&o.walMB, "wal-mb", "WAL_MB", 512, "WAL to push and fetch, in MB")
	number(&o.rounds, "rounds", "ROUNDS", 10, "rounds of work, each followed by an incremental backup")
	number(&o.changes, "changes", "CHANGES", 0, "transactions of a round (0: 70 for each unit of scale, which changes 5 to 6 % of the pages)")
	number(&o.chain, "chain-rounds", "CHAIN_ROUNDS", 50, "rounds of the step chain")
	var tools, steps, sizes string
	text(&tools, "tools", "TOOLS", "", "tools by name, as 'salvor*,pgbackrest*' (default all that are here)")
	text(&steps, "steps", "STEPS", strings.Join(defaultSteps, ","), "what to measure, of "+strings.Join(allSteps, ","))
	text(&sizes, "sizes", "SIZES", "", "also measure memory at these sizes in GB, as 1,2,4")
	text(&o.out, "out", "OUT", "dist/bench-peers.jsonl", "results, one JSON object a line")
	text(&o.page, "page", "PAGE", "", "write this Markdown page too")
	f.StringVar(&o.from, "from", "", "measure nothing: make tables and page from these files of results, the main one first, with commas between; a step is taken from the first that has it")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		bad = errors.Join(bad, fmt.Errorf("%q is not an option", f.Arg(0)))
	}
	o.tools, o.steps, o.pgbackrests = list(tools), list(steps), parsePgBackRests(pgbackrests)
	if o.changes == 0 {
		o.changes = changesPerScale * o.scale
	}
	var err error
	o.sizes, err = parseSizes(sizes)
	return o, errors.Join(bad, err, o.validate())
}

func (o *options) validate() error {
	for _, n := range []int{o.scale, o.orders, o.repeats, o.workers, o.walMB, o.rounds, o.changes, o.chain} {
		if n < 1 {
			return errors.New("-scale, -orders, -repeats, -workers, -wal-mb, -rounds, -changes and -chain-rounds are 1 or more")
		}
	}
	for _, s := range o.steps {
		if !slices.Contains(allSteps, s) {
			return fmt.Errorf("-steps: %q is none of %s", s, strings.Join(allSteps, ", "))
		}
	}
	for _, p := range o.tools {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("-tools: %q: %w", p, err)
		}
	}
	if o.from != "" {
		return nil
	}
	for _, p := range []*string{&o.dir, &o.binDir, &o.salvor} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	if _, err := os.Stat(o.salvor); err != nil {
		return fmt.Errorf("%w (make build makes it)", err)
	}
	return nil
}

// changesPerScale is how many transactions change 5 to 6 % of pgbench's pages, for each
// unit of its scale: each changes a page of the largest table, and one of its index.
const changesPerScale = 70

// parsePgBackRests reads PATH or VERSION=PATH, separated by commas.
func parsePgBackRests(s string) []pgBackRestProgram {
	var out []pgBackRestProgram
	for _, word := range list(s) {
		label, path, ok := strings.Cut(word, "=")
		if !ok {
			label, path = "", word
		}
		out = append(out, pgBackRestProgram{label: label, path: path})
	}
	return out
}

// list splits at commas.
func list(s string) []string {
	var out []string
	for word := range strings.SplitSeq(s, ",") {
		if word = strings.TrimSpace(word); word != "" {
			out = append(out, word)
		}
	}
	return out
}

func parseSizes(s string) ([]float64, error) {
	var out []float64
	for _, word := range list(s) {
		gb, err := strconv.ParseFloat(word, 64)
		if err != nil || !(gb > 0 && gb <= 1000) {
			return nil, fmt.Errorf("-sizes: %q is not a number of GB", word)
		}
		out = append(out, gb)
	}
	return out, nil
}

// chosen says whether a tool of this name is asked for.
func (o *options) chosen(name string) bool {
	for _, p := range o.tools {
		if ok, err := path.Match(p, name); ok && err == nil {
			return true
		}
	}
	return len(o.tools) == 0
}
