package expire

import (
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/retention"
)

// A leap is told while the window reaches back to it and something goes for it.
func TestLeap(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(n float64) time.Time { return begin.Add(time.Duration(n * float64(day))) }
	for what, c := range map[string]struct {
		window  int
		backups []float64 // days on which they ended
		wal     []float64 // and WAL came
		gone    int       // so many backups go
		goneWAL int
		from    float64 // 0 is none
	}{
		"each day":                      {7, []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, nil, 2, 0, 0},
		"each week, and a small window": {1, []float64{7, 14, 21}, nil, 2, 0, 0},
		"a jump":                        {7, []float64{1, 2, 3, 4, 369}, nil, 3, 0, 4},
		"a jump, and on from there":     {7, []float64{1, 2, 3, 4, 369, 370, 371}, nil, 3, 0, 4},
		"long after a jump":             {7, []float64{1, 2, 3, 4, 369, 377}, nil, 3, 0, 0},
		"a jump with WAL":               {7, []float64{4, 369}, []float64{1, 2, 3, 369, 369.1}, 0, 2, 4},
		"a jump that takes nothing":     {7, []float64{1, 2, 3, 4, 369}, nil, 0, 0, 0},
		"what was old before":           {7, []float64{1, 20, 21, 369}, nil, 1, 0, 0},
		"WAL all the time":              {3, []float64{1, 18}, []float64{1, 3, 5, 7, 9, 11, 13, 15, 17}, 0, 5, 0},
		"no window":                     {0, []float64{1, 20, 40}, nil, 2, 0, 0},
		"nothing there":                 {7, nil, nil, 0, 0, 0},
	} {
		s, d, plan := &Survey{wal: map[catalog.Place][]catalog.WALObject{}}, retention.Decisions{}, Plan{}
		var newest time.Time
		for i, n := range c.backups {
			one := retention.Decision{Backup: retention.Backup{Head: &catalog.Head{StoppedAt: at(n)}}, KeptBy: []retention.Rule{retention.Last}}
			if i < c.gone {
				one.KeptBy = nil
			}
			d.Backups = append(d.Backups, one)
			newest = at(n)
		}
		for i, n := range c.wal {
			o := catalog.WALObject{ModTime: at(n)}
			s.wal[catalog.Place{}] = append(s.wal[catalog.Place{}], o)
			if i < c.goneWAL {
				plan.WAL = append(plan.WAL, o)
			}
		}
		window := time.Duration(c.window) * day
		d.Since = newest.Add(-window)
		got := s.Leap(window, d, []Plan{plan})
		if c.from == 0 && got != (Leap{}) || c.from != 0 && !got.From.Equal(at(c.from)) {
			t.Errorf("%s: %+v", what, got)
		}
	}
}
