package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// table is a list of results. Columns are as wide as their widest cell.
type table struct {
	columns []column
	rows    [][]string // each with one cell for a column
	empty   string     // said when there are no rows, with what to do about it
}

// column is one of a table's.
type column struct {
	title string
	right bool // for numbers
}

func (t table) writeTo(w io.Writer) error {
	if len(t.rows) == 0 && t.empty != "" {
		_, err := fmt.Fprintln(w, t.empty)
		return err
	}
	widths := make([]int, len(t.columns))
	header := make([]string, len(t.columns))
	for i, c := range t.columns {
		header[i] = strings.ToUpper(c.title)
	}
	all := append([][]string{header}, t.rows...)
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range all {
		var line strings.Builder
		for i, cell := range row {
			if i > 0 {
				line.WriteString("  ")
			}
			line.WriteString(pad(cell, widths[i], t.columns[i].right))
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func pad(s string, width int, right bool) string {
	space := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
	if right {
		return space + s
	}
	return s + space
}

// details is one result: a line for each thing there is to say about it.
// Lines without a value are left out.
type details []detail

type detail struct{ name, value string }

func (d details) writeTo(w io.Writer) error {
	width := 0
	for _, line := range d {
		width = max(width, utf8.RuneCountInString(line.name))
	}
	var b strings.Builder
	for _, line := range d {
		if line.value != "" {
			fmt.Fprintf(&b, "%s  %s\n", pad(line.name, width, false), line.value)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// text is a result that is printed as it is.
type text []byte

func (t text) writeTo(w io.Writer) error {
	_, err := w.Write(t)
	return err
}

// formatBytes gives a size for people: 512 B, 1.5 KiB, 310 MiB.
func formatBytes(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n)/1024, 0
	for size >= 1023.95 && unit < len(units)-1 {
		size, unit = size/1024, unit+1
	}
	if size < 99.95 {
		return fmt.Sprintf("%.1f %ciB", size, units[unit])
	}
	return fmt.Sprintf("%.0f %ciB", size, units[unit])
}

// formatDuration gives a duration for people: 350ms, 4.2s, 4m12s, 3h05m, 2d03h.
func formatDuration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + formatDuration(-d)
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 59950*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour-time.Second/2:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour-time.Minute/2:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	d = d.Round(time.Hour)
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// formatMoment gives a time that is a limit, exactly, so that --at takes it.
func formatMoment(s stamp) string {
	if s.IsZero() {
		return ""
	}
	return s.String()
}

// formatTime gives a time for people, in the form that --at takes. The zero
// time is not known: empty.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

// secondsOf makes a duration of a number of seconds.
func secondsOf(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// lines is a result that a function writes.
type lines func(w io.Writer)

func (l lines) writeTo(w io.Writer) error {
	var b strings.Builder
	l(&b)
	_, err := io.WriteString(w, b.String())
	return err
}
