package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	lineEvery  = 10 * time.Second       // without a terminal
	drawEvery  = 200 * time.Millisecond // on one
	rateWindow = 10 * time.Second       // what a rate is measured over
)

// progress tells how far long work has come: a bar on a terminal, else a line
// in the log every ten seconds. The events of an engine call update.
type progress struct {
	s     *session
	what  string
	width int // of the terminal; 0 without one

	mu    sync.Mutex
	phase string
	done  int64
	total int64
	speed speed

	stop     chan struct{}
	finished chan struct{}
}

// progress begins to tell; close ends it. With --quiet it tells nothing.
func (s *session) progress(what string) *progress {
	p := &progress{s: s, what: what, stop: make(chan struct{}), finished: make(chan struct{})}
	if s.quiet {
		close(p.finished)
		return p
	}
	every := lineEvery
	if s.isTerminal(s.stderr.w) {
		p.width, every = terminalWidth(s.stderr.w), drawEvery
	}
	go p.tell(every)
	return p
}

func terminalWidth(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

// update says that done of total bytes of a phase are done. A total of zero
// means that it is not known. It may be called often and from any goroutine.
func (p *progress) update(phase string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if phase != p.phase {
		p.phase, p.speed = phase, speed{}
		p.speed.add(p.s.clock.Now(), done)
	}
	p.done, p.total = done, total
}

// close ends the telling and takes the bar away.
func (p *progress) close() {
	close(p.stop)
	<-p.finished
	p.s.stderr.bar("")
}

func (p *progress) tell(every time.Duration) {
	defer close(p.finished)
	for {
		select {
		case <-p.stop:
			return
		case <-p.s.clock.After(every):
		}
		now := p.state()
		switch {
		case now.phase == "":
		case p.width > 0:
			p.s.stderr.bar(now.bar(p.width))
		default:
			p.s.log.Info(p.what, now.attributes()...)
		}
	}
}

// state takes a sample.
func (p *progress) state() state {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase == "" {
		return state{}
	}
	p.speed.add(p.s.clock.Now(), p.done)
	return state{p.phase, p.done, p.total, p.speed.bytesPerSecond()}
}

// state is how far a phase has come.
type state struct {
	phase string
	done  int64
	total int64   // 0: not known
	rate  float64 // bytes a second; 0: not known
}

// left is how long the rest takes at the present rate.
func (s state) left() (time.Duration, bool) {
	if s.rate <= 0 || s.total <= 0 || s.done > s.total {
		return 0, false
	}
	left := float64(s.total-s.done) / s.rate
	if left > 1e8 {
		return 0, false // years: the rate says nothing
	}
	return time.Duration(left * float64(time.Second)), true
}

func (s state) attributes() []any {
	list := []any{"phase", s.phase, "done_bytes", s.done}
	if s.total > 0 {
		list = append(list, "total_bytes", s.total)
	}
	list = append(list, "bytes_per_second", int64(s.rate))
	if left, ok := s.left(); ok {
		list = append(list, slog.Float64("eta_seconds", left.Round(time.Second).Seconds()))
	}
	return list
}

// formatLeft is a duration that nobody knows more exactly than to the second.
func formatLeft(d time.Duration) string {
	if d = d.Round(time.Second); d < time.Minute {
		return d.String()
	}
	return formatDuration(d)
}

// bar fits into a line of width columns.
func (s state) bar(width int) string {
	tail := " " + formatBytes(s.done)
	if s.total > 0 {
		tail += " of " + formatBytes(s.total)
	}
	tail += "  " + formatBytes(int64(s.rate)) + "/s"
	if left, ok := s.left(); ok {
		tail += "  ETA " + formatLeft(left)
	}
	line := s.phase + tail
	if s.total > 0 {
		part := min(1, float64(s.done)/float64(s.total))
		percent := fmt.Sprintf("] %3.0f%% ", part*100)
		room := min(16, width-1-len(s.phase)-len(" [")-len(percent)-len(tail))
		if room >= 5 {
			full := int(part * float64(room))
			line = s.phase + " [" + strings.Repeat("=", full) + strings.Repeat(" ", room-full) + percent + tail
		}
	}
	return line[:min(len(line), max(0, width-1))] // the last column makes some terminals wrap
}

// speed measures a rate over the last ten seconds.
type speed struct{ samples []sample }

type sample struct {
	at   time.Time
	done int64
}

func (s *speed) add(at time.Time, done int64) {
	s.samples = append(s.samples, sample{at, done})
	old := 0
	for len(s.samples)-old > 2 && at.Sub(s.samples[old+1].at) >= rateWindow {
		old++
	}
	s.samples = append(s.samples[:0], s.samples[old:]...)
}

func (s *speed) bytesPerSecond() float64 {
	if len(s.samples) < 2 {
		return 0
	}
	first, last := s.samples[0], s.samples[len(s.samples)-1]
	took := last.at.Sub(first.at).Seconds()
	if took <= 0 || last.done < first.done {
		return 0
	}
	return float64(last.done-first.done) / took
}

// screen is stderr, on whose last line a bar may stand. What is written goes
// above the bar.
type screen struct {
	mu    sync.Mutex
	w     io.Writer
	shown string
}

// eraseLine goes to the beginning of the line and empties it (ECMA-48, EL).
const eraseLine = "\r\x1b[K"

// Write takes the bar away, writes p, and puts the bar back if p ended a line.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shown == "" {
		return s.w.Write(p)
	}
	if _, err := io.WriteString(s.w, eraseLine); err != nil {
		return 0, err
	}
	n, err := s.w.Write(p)
	if err == nil && len(p) > 0 && p[len(p)-1] == '\n' {
		_, err = io.WriteString(s.w, s.shown)
	}
	return n, err
}

// bar shows a line instead of the one that is there; empty for none. That it
// cannot be written does not matter: nobody is there to read it.
func (s *screen) bar(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if line == "" && s.shown == "" {
		return
	}
	fmt.Fprint(s.w, eraseLine+line)
	s.shown = line
}
