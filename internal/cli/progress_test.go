package cli

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/logging"
)

func progressSession(out *strings.Builder, terminal bool) *session {
	s := newSession(Process{Stderr: out})
	s.log = logging.New(s.stderr, slog.LevelInfo, logging.Text)
	s.isTerminal = func(any) bool { return terminal }
	return s
}

// TestProgressLines works for 25 seconds at 10 MiB/s without a terminal.
func TestProgressLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		p := progressSession(&out, false).progress("backup")
		time.Sleep(time.Second / 2) // so that no line is due when an update is
		for i := range int64(25) {
			p.update("reading", i*10<<20, 500<<20)
			time.Sleep(time.Second)
		}
		p.close()
		var got []string
		for line := range strings.Lines(out.String()) {
			_, after, _ := strings.Cut(line, "msg=")
			got = append(got, after)
		}
		want := []string{
			"backup phase=reading done_bytes=94371840 total_bytes=524288000 bytes_per_second=9933877 eta_seconds=43\n",
			"backup phase=reading done_bytes=199229440 total_bytes=524288000 bytes_per_second=10485760 eta_seconds=31\n",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestProgressBar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		s := progressSession(&out, true)
		p := s.progress("backup")
		time.Sleep(time.Second)
		if out.Len() > 0 {
			t.Errorf("a bar stands before anything is known: %q", out.String())
		}
		time.Sleep(drawEvery / 4) // so that nothing is drawn while an update comes
		for i := range int64(53) {
			p.update("reading", i<<20/10, 10<<20)
			time.Sleep(time.Second / 10)
		}
		s.log.Info("a file vanished")
		p.close()
		if want := eraseLine + "reading [========        ]  51%  5.1 MiB of 10.0 MiB  1014 KiB/s  ETA 5s"; !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
		lines := strings.Split(out.String(), eraseLine)
		if last := lines[len(lines)-1]; last != "" {
			t.Errorf("%q is left on the screen", last)
		}
		if log := lines[len(lines)-2]; !strings.HasPrefix(log, "time=") || !strings.Contains(log, "\nreading [") {
			t.Errorf("%q, want the line of the log, then the bar again", log)
		}
	})
}

func TestQuietProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		s := progressSession(&out, true)
		s.quiet = true
		p := s.progress("backup")
		p.update("reading", 1, 2)
		time.Sleep(time.Minute)
		p.close()
		if out.Len() > 0 {
			t.Errorf("it says %q", out.String())
		}
	})
}

func TestBarFits(t *testing.T) {
	t.Parallel()
	for _, s := range []state{
		{"reading", 5 << 30, 10 << 30, 300 << 20},
		{"reading", 0, 10 << 30, 0},
		{"reading", 11 << 30, 10 << 30, 1},
		{"waiting for WAL", 16 << 20, 0, 5},
		{"reading", 1, 1 << 62, 1},
	} {
		for width := range 130 {
			if bar := s.bar(width); len(bar) > max(0, width-1) {
				t.Fatalf("%+v: %q has more than %d columns", s, bar, width-1)
			}
		}
	}
	for want, s := range map[string]state{
		"reading [========        ]  50%  5.0 GiB of 10.0 GiB  300 MiB/s  ETA 17s":   {"reading", 5 << 30, 10 << 30, 300 << 20},
		"reading [                ]   0%  1.0 GiB of 1.0 TiB  10.0 MiB/s  ETA 1d05h": {"reading", 1 << 30, 1 << 40, 10 << 20},
		"reading [================] 100%  11.0 GiB of 10.0 GiB  1 B/s":               {"reading", 11 << 30, 10 << 30, 1},
		"waiting for WAL 16.0 MiB  5 B/s":                                            {"waiting for WAL", 16 << 20, 0, 5},
	} {
		if got := s.bar(120); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

func TestSpeed(t *testing.T) {
	t.Parallel()
	var s speed
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if got := s.bytesPerSecond(); got != 0 {
		t.Errorf("without samples: %v", got)
	}
	for i := range 1000 { // 100 bytes a second, then 200 from second 50 on
		done := int64(i) * 10
		if i > 500 {
			done += int64(i-500) * 10
		}
		s.add(start.Add(time.Duration(i)*100*time.Millisecond), done)
		if len(s.samples) > 102 {
			t.Fatalf("%d samples are kept", len(s.samples))
		}
		want := 0.0
		switch {
		case i >= 601:
			want = 200
		case i > 0 && i <= 500:
			want = 100
		default:
			continue
		}
		if got := s.bytesPerSecond(); fmt.Sprintf("%.3f", got) != fmt.Sprintf("%.3f", want) {
			t.Fatalf("after sample %d: %v bytes a second, want %v", i, got, want)
		}
	}
	s.add(start.Add(200*time.Second), 0)
	if got := s.bytesPerSecond(); got != 0 {
		t.Errorf("going backwards: %v", got)
	}
}
