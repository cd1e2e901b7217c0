package expire

import (
	"slices"
	"time"

	"github.com/salvor-dr/salvor/internal/retention"
)

// quiet is how long a repository gets nothing without that being strange: most take a
// backup a week.
const quiet = 8 * 24 * time.Hour

// Leap is a time, longer than the window, in which the repository got nothing, neither a
// backup nor WAL: To is in the window. Either nothing was made then, or a clock has jumped.
type Leap struct{ From, To time.Time }

// Leap finds the newest leap after which a decision takes what the window, counted back
// from before the leap, keeps: the zero Leap if there is none. window is that of the
// policy, and plans are what is to go.
func (s *Survey) Leap(window time.Duration, d retention.Decisions, plans []Plan) Leap {
	var all, gone []time.Time
	for _, b := range d.Backups {
		all = append(all, b.StoppedAt)
		if !b.Kept() {
			gone = append(gone, b.StoppedAt)
		}
	}
	for _, objects := range s.wal {
		for _, o := range objects {
			all = append(all, o.ModTime)
		}
	}
	for _, p := range plans {
		for _, o := range p.WAL {
			gone = append(gone, o.ModTime)
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	for i := len(all) - 1; i > 0 && all[i].After(d.Since); i-- {
		from, to := all[i-1], all[i]
		if to.Sub(from) <= max(window, quiet) {
			continue
		}
		begin := from.Add(-window)
		if slices.ContainsFunc(gone, func(at time.Time) bool { return at.After(begin) && !at.After(from) }) {
			return Leap{from, to}
		}
	}
	return Leap{}
}
