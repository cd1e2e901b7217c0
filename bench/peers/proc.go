//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// lookPath finds a program. Unlike exec.Command it does so before a user is taken on.
func lookPath(name string) (string, error) {
	p, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	return filepath.Abs(p)
}

// processStat is what is needed of /proc/PID/stat (proc_pid_stat(5)). Times are in
// ticks; those of children are of children that were reaped.
type processStat struct {
	parent        int
	own, ofReaped int64 // ticks, user and system
}

// ticksPerSecond is USER_HZ, which Linux has as 100 on all systems that Go runs on.
const ticksPerSecond = 100

// parseStat reads a line of /proc/PID/stat. The name in parentheses may hold anything.
func parseStat(line string) (processStat, error) {
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 0 || end < open {
		return processStat{}, fmt.Errorf("%q has no name in it", line)
	}
	f := strings.Fields(line[end+1:])
	if len(f) < 15 {
		return processStat{}, fmt.Errorf("%q has only %d fields", line, len(f))
	}
	var s processStat
	var err error
	if s.parent, err = strconv.Atoi(f[1]); err != nil {
		return s, err
	}
	for i, to := range []*int64{&s.own, &s.own, &s.ofReaped, &s.ofReaped} {
		n, err := strconv.ParseInt(f[11+i], 10, 64)
		if err != nil {
			return s, err
		}
		*to += n
	}
	return s, nil
}

// processes reads all of them. Those that end meanwhile are left out.
func processes() map[int]processStat {
	all := map[int]processStat{}
	names, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			continue
		}
		line, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if s, err := parseStat(string(line)); err == nil {
			all[pid] = s
		}
	}
	return all
}

// descendants gives the processes below pid.
func descendants(pid int) []int {
	below := map[int][]int{}
	for p, s := range processes() {
		below[s.parent] = append(below[s.parent], p)
	}
	found := below[pid]
	for i := 0; i < len(found); i++ {
		found = append(found, below[found[i]]...)
	}
	return found
}

// serverCPU gives the processor time of a server so far, in seconds: of its
// postmaster, what that has reaped, and its children.
func serverCPU(postmaster int) float64 {
	var ticks int64
	for pid, s := range processes() {
		switch {
		case pid == postmaster:
			ticks += s.own + s.ofReaped
		case s.parent == postmaster:
			ticks += s.own
		}
	}
	return float64(ticks) / ticksPerSecond
}

// ioCount is what passed through the read and write calls of a process and of what
// it reaped.
type ioCount struct{ read, wrote int64 }

func readIO(pid string) (ioCount, error) {
	data, err := os.ReadFile("/proc/" + pid + "/io")
	if err != nil {
		return ioCount{}, err
	}
	var c ioCount
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		if err != nil {
			return c, fmt.Errorf("reading /proc/%s/io: %w", pid, err)
		}
		switch name {
		case "rchar":
			c.read = n
		case "wchar":
			c.wrote = n
		}
	}
	return c, nil
}

// readPSS gives a process's memory in bytes, each shared page divided by how many
// share it; 0 if the process is gone.
func readPSS(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	return parsePSS(string(data))
}

func parsePSS(text string) int64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}
