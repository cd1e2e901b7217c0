//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// column is a metric in a table.
type column struct {
	title  string
	metric string
	scale  float64 // what a value is divided by
	digits int
	ratio  bool // show the ratio to the baseline beside
}

// The columns of each step. A column that no tool has is left out.
var columns = []column{
	{"wall s", metricNet, 1, 2, true},
	{"CPU s", metricCPU, 1, 2, true},
	{"of it kernel s", metricKernel, 1, 2, false},
	{"server CPU s", metricServerCPU, 1, 2, false},
	{"MB/s", metricRate, 1e6, 0, true},
	{"stored MB", metricStored, 1e6, 1, true},
	{"largest process MB", metricMemory, 1e6, 0, true},
	{"all processes MB", metricTree, 1e6, 0, true},
	{"pages changed", metricChanged, 1, 0, false},
	{"pages read / changed", metricReadShare, 1, 2, false},
	{"bound MB", metricBound, 1e6, 1, false},
	{"stored / bound", metricShare, 1, 2, false},
	{"forwarded MB", metricForwarded, 1e6, 1, false},
	{"read MB", metricRead, 1e6, 0, false},
	{"written MB", metricWrote, 1e6, 0, false},
	{"waited s", metricWait, 1, 2, false},
	{"sync s", metricSync, 1, 2, false},
}

var stepTitles = map[string]string{
	"backup":  "Full backup",
	"restore": "Restore",
	"verify":  "Verify, of the backup and its WAL",
	"push":    "WAL push, one segment a command",
	"fetch":   "WAL fetch, one segment a command",

	"incremental":  "Incremental backup",
	"restore-last": "Restore of the last incremental backup",
	"restore-full": "Restore of a full backup of the same moment",
}

// write prints the tables, and makes the page if it has a name.
func (r *results) write(w io.Writer, page string) error {
	for _, step := range r.steps() {
		fmt.Fprintf(w, "\n%s\n", stepTitles[step])
		if err := printTable(w, table(r.of(step, false))); err != nil {
			return err
		}
	}
	for _, t := range r.moreTables() {
		fmt.Fprintf(w, "\n%s\n", t.title)
		if err := printTable(w, t.rows); err != nil {
			return err
		}
	}
	if page == "" {
		return nil
	}
	return os.WriteFile(page, []byte(r.page()), 0o644)
}

func printTable(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t")+"\t")
	}
	return t.Flush()
}

// steps gives those that were measured, in order.
func (r *results) steps() []string {
	var out []string
	for _, m := range r.Measured {
		if m.GB == 0 && stepTitles[m.Step] != "" && !slices.Contains(out, m.Step) {
			out = append(out, m.Step)
		}
	}
	return out
}

// of gives the groups of a step, those with the same codec together.
func (r *results) of(step string, sizes bool) []group {
	out := slices.DeleteFunc(r.groups(), func(g group) bool { return g.Step != step || (g.GB > 0) != sizes })
	slices.SortStableFunc(out, func(a, b group) int { return -strings.Compare(a.Codec, b.Codec) })
	return out
}

// table makes rows of cells, the titles first.
func table(groups []group) [][]string {
	shown := slices.DeleteFunc(slices.Clone(columns), func(c column) bool {
		return !slices.ContainsFunc(groups, func(g group) bool { _, ok := g.values[c.metric]; return ok })
	})
	head := []string{"tool", "encrypted"}
	for _, c := range shown {
		head = append(head, c.title)
	}
	rows := [][]string{head}
	for _, g := range groups {
		row := []string{g.Tool, map[bool]string{true: "yes", false: "no"}[g.Encrypted]}
		for _, c := range shown {
			row = append(row, c.cell(g))
		}
		rows = append(rows, row)
	}
	return rows
}

func (c column) cell(g group) string {
	v, ok := g.values[c.metric]
	if !ok {
		return ""
	}
	text := fmt.Sprintf("%.*f", c.digits, v/c.scale)
	if q, ok := g.ratios[c.metric]; ok && c.ratio && !g.Baseline {
		text += fmt.Sprintf(" (%.2f)", q)
	}
	return text
}

// sizeTable shows how memory and cost grow with the database.
func (r *results) sizeTable() [][]string {
	rows := [][]string{{"tool", "step", "GB", "largest process MB", "all processes MB", "wall s", "CPU s", "of it kernel s", "read MB", "stored MB"}}
	for _, g := range r.groups() {
		if g.GB == 0 {
			continue
		}
		row := []string{g.Tool, g.Step, fmt.Sprintf("%.2f", g.values[metricData]/1e9)}
		for _, metric := range []string{metricMemory, metricTree, metricNet, metricCPU, metricKernel, metricRead, metricStored} {
			i := slices.IndexFunc(columns, func(c column) bool { return c.metric == metric })
			c := columns[i]
			c.ratio = false
			row = append(row, c.cell(g))
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows[1:], func(a, b []string) int { return strings.Compare(a[0]+a[1], b[0]+b[1]) })
	return rows
}

// losses tells where Salvor is worse than a pgBackRest with the same kind of codec,
// synchronous or not.
func (r *results) losses() []string {
	var out []string
	all := r.groups()
	for _, g := range all {
		if g.GB > 0 || !strings.HasPrefix(g.Tool, "salvor ") {
			continue
		}
		for _, by := range all {
			if by.Step != g.Step || by.GB > 0 || by.Codec != g.Codec || !by.Baseline && !strings.HasSuffix(by.Tool, " async") {
				continue
			}
			for _, c := range columns {
				if text, lost := c.loss(g, by); lost {
					out = append(out, text)
				}
			}
		}
	}
	return out
}

// loss says by how much g is worse than by, if it is. The rate is left out: it is the
// wall time again.
func (c column) loss(g, by group) (string, bool) {
	v, w := g.values[c.metric], by.values[c.metric]
	if !c.ratio || c.metric == metricRate || w <= 0 {
		return "", false
	}
	q := v / w
	if by.Baseline {
		q = g.ratios[c.metric]
	}
	return fmt.Sprintf("%s, %s: %s %.2f times %s's (medians: %.*f against %.*f)", stepTitles[g.Step], g.Tool, c.title, q, by.Tool,
		c.digits, v/c.scale, c.digits, w/c.scale), q > 1.005
}

// made tells what a run was made with.
func (i *runInfo) made() string {
	text := fmt.Sprintf("%s by %s, with %d repeats of fulls and restores, %d workers for each tool, pgbench at scale %d and %d SwiftEats orders, %d MB of WAL",
		i.At.Format("2006-01-02"), i.Versions["Salvor"], i.Repeats, i.Workers, i.Scale, i.Orders, i.WALMB)
	if i.Changes > 0 {
		text += fmt.Sprintf(", %d transactions in a round", i.Changes)
	}
	for _, m := range i.Machine {
		if load, ok := strings.CutPrefix(m, "load average before the run: "); ok {
			text += ", load average " + load
		}
	}
	return text
}

// page is the Markdown page.
func (r *results) page() string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say(pageTop)
	say("Measured %s.\n", r.Run.made())
	for _, j := range r.Joined {
		say("Measured by another run, %s: %s.\n", j.Run.made(), strings.Join(j.Steps, ", "))
	}
	for _, step := range r.steps() {
		say("### %s\n", stepTitles[step])
		say("%s", markdown(table(r.of(step, false))))
	}
	say("A number in parentheses is the ratio to pgBackRest with the same kind of codec and encryption, in the same repeat: below 1 is less, which for MB/s is worse and for all else better. `pgbackrest … async` and all others stand against pgBackRest's synchronous configuration.\n")
	for _, t := range r.moreTables() {
		say("### %s\n\n%s\n", t.title, t.text)
		say("%s", markdown(t.rows))
	}
	say("%s", pageRelations)
	say("%s", pageTrial)
	say("## What we lose\n")
	losses := r.losses()
	if len(losses) == 0 {
		say("In this run, nothing that has a ratio.")
	}
	for _, l := range losses {
		say("- %s", l)
	}
	say("\n%s", pageLosses)
	say("## The machine\n")
	for _, m := range r.Run.Machine {
		say("- %s", m)
	}
	say("\nIts limits, measured by the same run in one thread; those in memory are per second of processor time:\n")
	rows := [][]string{{"limit", "", "unit"}}
	for _, l := range r.Limits {
		rows = append(rows, []string{l.Name, fmt.Sprintf("%.*f", map[bool]int{true: 2, false: 0}[l.Value < 100], l.Value), l.Unit})
	}
	say("%s", markdown(rows))
	say("## Versions\n")
	for _, name := range slices.Sorted(maps.Keys(r.Run.Versions)) {
		say("- %s: %s", name, r.Run.Versions[name])
	}
	said := maps.Clone(r.Run.Versions)
	for _, j := range r.Joined {
		for _, name := range slices.Sorted(maps.Keys(j.Run.Versions)) {
			if v := j.Run.Versions[name]; v != said[name] && name != "Salvor" {
				say("- %s: %s", name, v)
				said[name] = v
			}
		}
	}
	for _, m := range r.Run.Missing {
		say("- %s", m)
	}
	say("%s", pageEnd)
	return b.String()
}

func markdown(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&b, "|%s\n", strings.Repeat("---|", len(row)))
		}
	}
	return b.String()
}
