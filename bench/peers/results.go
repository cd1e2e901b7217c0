//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// What is measured. Sizes are in bytes, times in seconds.
const (
	metricWall      = "wall_seconds"       // the command, and what it left running
	metricNet       = "net_seconds"        // without waits
	metricWait      = "wait_seconds"       // for checkpoint and archiving
	metricCPU       = "cpu_seconds"        // user and system, of the whole tree
	metricKernel    = "kernel_seconds"     // the part of it that is system time
	metricServerCPU = "server_cpu_seconds" // of the server meanwhile, archiving included
	metricMemory    = "largest_process_bytes"
	metricTree      = "tree_bytes"
	metricRead      = "read_bytes"
	metricWrote     = "written_bytes"
	metricStored    = "stored_bytes"
	metricSync      = "sync_seconds" // a sync of the file system just after
	metricData      = "data_bytes"   // what was backed up, restored, pushed or fetched
	metricRate      = "bytes_per_second"

	// of an incremental backup
	metricChanged   = "changed_pages"   // since the one before, by comparing all
	metricPagesRead = "pages_read"      // of relations, by the tool's own account
	metricReadShare = "read_share"      // pages read to pages changed
	metricBound     = "bound_bytes"     // the changed pages, compressed by our codec of that kind
	metricForwarded = "forwarded_bytes" // unchanged pages that were stored anew, before compression
	metricShare     = "stored_share"    // stored to bound, with the same for forwarded pages

	// of the long chain
	metricBackups = "backups"          // that are kept
	metricRepo    = "repository_bytes" // packs, lists and heads
	metricFiles   = "file_table_bytes" // of the backup
)

// line is one line of the results. One field is set.
type line struct {
	Run      *runInfo     `json:"run,omitempty"`
	Limit    *limit       `json:"limit,omitempty"`
	Measured *measurement `json:"measured,omitempty"`
}

// runInfo is what a run was made with.
type runInfo struct {
	At       time.Time         `json:"at"`
	Machine  []string          `json:"machine"`
	Versions map[string]string `json:"versions"`
	Scale    int               `json:"scale"`
	Orders   int               `json:"orders"`
	Repeats  int               `json:"repeats"`
	Workers  int               `json:"workers"`
	WALMB    int               `json:"wal_mb"`
	Rounds   int               `json:"rounds,omitempty"`
	Changes  int               `json:"changes,omitempty"`
	Chain    int               `json:"chain_rounds,omitempty"`
	Missing  []string          `json:"missing,omitempty"`
}

// limit is what the machine does at best.
type limit struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
}

// measurement is one step of one tool, once.
type measurement struct {
	Step      string             `json:"step"`
	Tool      string             `json:"tool"`
	Codec     string             `json:"codec"`
	Encrypted bool               `json:"encrypted"`
	Baseline  bool               `json:"baseline,omitempty"`
	Repeat    int                `json:"repeat"`
	GB        float64            `json:"gb,omitempty"` // of the measurement of sizes
	Values    map[string]float64 `json:"values"`
}

// results are all lines of a run, and what was joined to it.
type results struct {
	Run      runInfo
	Joined   []joined // further runs, of other steps
	Limits   []limit
	Measured []measurement
}

func (r *results) add(l line) {
	switch {
	case l.Run != nil:
		r.Run = *l.Run
	case l.Limit != nil:
		r.Limits = append(r.Limits, *l.Limit)
	case l.Measured != nil:
		r.Measured = append(r.Measured, *l.Measured)
	}
}

// joined is a run that other steps were taken from.
type joined struct {
	Run   runInfo
	Steps []string // titles
}

// join adds the steps of another run that this one lacks.
func (r *results) join(o *results) {
	have := map[string]bool{}
	for _, m := range r.Measured {
		have[m.key()] = true
	}
	j := joined{Run: o.Run}
	for _, m := range o.Measured {
		if have[m.key()] {
			continue
		}
		r.Measured = append(r.Measured, m)
		if title := m.title(); !slices.Contains(j.Steps, title) {
			j.Steps = append(j.Steps, title)
		}
	}
	if len(j.Steps) == 0 {
		return
	}
	r.Joined = append(r.Joined, j)
	r.Run.Rounds, r.Run.Chain = max(r.Run.Rounds, o.roundsOf("incremental")), max(r.Run.Chain, o.roundsOf("chain"))
}

// key is one for all measurements that belong together.
func (m *measurement) key() string { return fmt.Sprint(m.Step, m.GB > 0) }

// title names what the measurement is of, in a sentence.
func (m *measurement) title() string {
	switch {
	case m.GB > 0:
		return m.Step + " by size"
	case strings.HasPrefix(m.Step, "chain"):
		return "a long chain"
	case stepTitles[m.Step] != "":
		return strings.ToLower(stepTitles[m.Step][:1]) + stepTitles[m.Step][1:]
	}
	return m.Step
}

// roundsOf tells how many rounds a step had.
func (r *results) roundsOf(step string) int {
	n := 0
	for _, m := range r.Measured {
		if m.Step == step && m.GB == 0 {
			n = max(n, m.Repeat)
		}
	}
	return n
}

// readResults reads what a run has recorded.
func readResults(in io.Reader) (*results, error) {
	var r results
	for d := json.NewDecoder(bufio.NewReader(in)); ; {
		var l line
		switch err := d.Decode(&l); {
		case err == io.EOF && r.Run.At.IsZero():
			return nil, errors.New("there is no run in it")
		case err == io.EOF:
			return &r, nil
		case err != nil:
			return nil, err
		}
		r.add(l)
	}
}

// group is all repeats of one step of one tool.
type group struct {
	measurement             // the first
	repeats     int         // how many
	values      metricTable // medians
	ratios      metricTable // medians of the ratios to the baseline; empty without one
}

type metricTable map[string]float64

// groups sums up, in the order in which things were measured.
func (r *results) groups() []group {
	type key struct {
		step, tool string
		gb         float64
	}
	var order []key
	rows := map[key][]measurement{}
	for _, m := range r.Measured {
		k := key{m.Step, m.Tool, m.GB}
		if rows[k] == nil {
			order = append(order, k)
		}
		rows[k] = append(rows[k], m)
	}
	var out []group
	for _, k := range order {
		g := group{measurement: rows[k][0], repeats: len(rows[k]), values: medians(rows[k])}
		for _, other := range order {
			if b := rows[other]; other.step == k.step && other.gb == k.gb && b[0].Baseline && b[0].Codec == g.Codec {
				g.ratios = ratios(rows[k], b)
			}
		}
		out = append(out, g)
	}
	return out
}

// medians gives the median of each metric over the repeats.
func medians(rows []measurement) metricTable {
	all := map[string][]float64{}
	for _, m := range rows {
		for name, v := range m.Values {
			all[name] = append(all[name], v)
		}
	}
	out := metricTable{}
	for name, v := range all {
		out[name] = median(v)
	}
	return out
}

// ratios gives for each metric the median, over the repeats, of a tool's value
// divided by the baseline's of the same repeat.
func ratios(rows, baseline []measurement) metricTable {
	all := map[string][]float64{}
	for _, m := range rows {
		i := slices.IndexFunc(baseline, func(b measurement) bool { return b.Repeat == m.Repeat })
		if i < 0 {
			continue
		}
		for name, v := range m.Values {
			if by := baseline[i].Values[name]; by > 0 {
				all[name] = append(all[name], v/by)
			}
		}
	}
	out := metricTable{}
	for name, v := range all {
		out[name] = median(v)
	}
	return out
}

// median of at least one number; of an even count the mean of the middle two.
func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}
