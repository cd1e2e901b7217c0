//go:build linux

package main

import (
	"fmt"
	"slices"
)

// titled is a table that is not one row for each tool of one step.
type titled struct {
	title, text string
	rows        [][]string
}

// moreTables gives those that have something to show.
func (r *results) moreTables() []titled {
	all := []titled{
		{"The last incremental beside a full", textBeside, r.besideTable()},
		{"A long chain", textChain, r.chainTable()},
		{"By size", textSizes, r.sizeTable()},
	}
	return slices.DeleteFunc(all, func(t titled) bool { return len(t.rows) < 2 })
}

// besideTable compares restores of the last incremental backup with those of a full of
// the same moment.
func (r *results) besideTable() [][]string {
	rows := [][]string{{"tool", "after", "wall times", "CPU times", "read times", "restore of the last: wall s", "of a full: wall s"}}
	groups := r.groups()
	for _, p := range []struct {
		last, full string
		rounds     int
	}{{"restore-last", "restore-full", r.Run.Rounds}, {"chain-restore-last", "chain-restore-full", r.Run.Chain}} {
		for _, g := range groups {
			i := slices.IndexFunc(groups, func(f group) bool { return f.Step == p.full && f.Tool == g.Tool && f.GB == 0 })
			if g.Step != p.last || g.GB > 0 || i < 0 {
				continue
			}
			row := []string{g.Tool, fmt.Sprintf("%d rounds", p.rounds)}
			for _, metric := range []string{metricNet, metricCPU, metricRead} {
				row = append(row, fmt.Sprintf("%.2f", g.values[metric]/groups[i].values[metric]))
			}
			rows = append(rows, append(row, fmt.Sprintf("%.2f", g.values[metricNet]), fmt.Sprintf("%.2f", groups[i].values[metricNet])))
		}
	}
	return rows
}

// chainEvery is of how many rounds of the long chain one is shown.
const chainEvery = 10

// chainTable shows how the long chain went on, and what a full takes that is made at its end.
func (r *results) chainTable() [][]string {
	rows := [][]string{{"round", "CPU s", "pages read / changed", "stored MB", "stored / bound", "forwarded MB", "file table MB", "backups", "repository MB"}}
	find := func(step string, round int) (metricTable, bool) {
		i := slices.IndexFunc(r.Measured, func(m measurement) bool { return m.Step == step && m.Repeat == round })
		if i < 0 {
			return nil, false
		}
		return r.Measured[i].Values, true
	}
	for round := 1; round <= r.Run.Chain; round++ {
		v, ok := find("chain", round)
		w, also := find("chain-repository", round)
		if !ok || !also || round != 1 && round%chainEvery != 0 {
			continue
		}
		rows = append(rows, []string{
			fmt.Sprint(round), fmt.Sprintf("%.2f", v[metricCPU]), fmt.Sprintf("%.2f", v[metricReadShare]), fmt.Sprintf("%.1f", v[metricStored]/1e6),
			fmt.Sprintf("%.2f", v[metricShare]), fmt.Sprintf("%.1f", v[metricForwarded]/1e6), fmt.Sprintf("%.2f", w[metricFiles]/1e6),
			fmt.Sprintf("%.0f", w[metricBackups]), fmt.Sprintf("%.1f", w[metricRepo]/1e6),
		})
	}
	if v, ok := find("chain-full", 1); ok {
		rows = append(rows, []string{"a full, then", "", "", fmt.Sprintf("%.1f", v[metricStored]/1e6), "", "", "", "", ""})
	}
	return rows
}
