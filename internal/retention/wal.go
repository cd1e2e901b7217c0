package retention

import (
	"cmp"
	"math"
	"slices"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
)

// Line is what becomes of the WAL of one timeline.
type Line struct {
	Place    catalog.Place
	Timeline pg.Timeline
	// From is the number of the segment from which on all are kept: 0 keeps all, and
	// NoSegment none.
	From uint64
	// Pieces are what older backups need, rising, apart from each other.
	Pieces []Piece
}

// NoSegment is after all segments.
const NoSegment = math.MaxUint64

// Piece is a stretch of segments, with its ends.
type Piece struct{ First, Last uint64 }

// Keeps says whether the segment of that number is kept.
func (l Line) Keeps(n uint64) bool {
	if n >= l.From {
		return true
	}
	i, found := slices.BinarySearchFunc(l.Pieces, n, func(p Piece, n uint64) int { return cmp.Compare(p.First, n) })
	return found || i > 0 && n <= l.Pieces[i-1].Last
}

type lineKey struct {
	place    catalog.Place
	timeline pg.Timeline
}

// window keeps what ended in the window, what recovery to a moment in it begins with, and
// all WAL from there on.
func (d *decider) window() {
	recent := map[lineKey]bool{} // timelines with a backup in the window
	begin := d.since.Add(-skew)
	for i, b := range d.backups {
		if !b.StoppedAt.Before(begin) {
			recent[lineKey{b.Place(), b.Timeline}] = true
		}
		if d.policy.Window > 0 && b.StoppedAt.After(d.since) && i < d.past {
			d.keep(i, ByWindow)
		}
	}
	for _, p := range d.history.Places {
		for _, l := range p.Life.Lines {
			if len(l.Segments)+len(l.Partials) == 0 {
				continue
			}
			if l.Newest.IsZero() || !l.Newest.Before(begin) || recent[lineKey{l.Place, l.Timeline}] {
				d.anchor(p, l)
			}
		}
		if p.Unreadable || !d.hasBackup(p) {
			d.keepAll(p)
		}
	}
}

// anchor keeps the backup from which recovery goes along the timeline into the window.
func (d *decider) anchor(p Place, l catalog.Line) {
	if l.History == nil {
		// Which timelines it left is not known: it may be any of those before.
		d.keepAll(p)
		for _, before := range p.Life.Lines {
			if i := d.before(p, before); before.Timeline <= l.Timeline && i >= 0 {
				d.keep(i, ByWindow)
			}
		}
		return
	}
	i := d.before(p, l)
	if i < 0 {
		d.floor(l.Place, l.Timeline, 0)
		return
	}
	d.keep(i, ByWindow)
	d.follow(p, d.backups[i], l)
}

// before gives the newest backup before the window that leads to the timeline, of those
// that are good if there is one, and -1 if there is none.
func (d *decider) before(p Place, l catalog.Line) int {
	found := -1
	for i := d.past - 1; i >= 0; i-- {
		b := d.backups[i]
		if b.StoppedAt.After(d.since) || d.quality[i] == broken || found >= 0 && d.quality[i] < good || !leads(p, b, l) {
			continue
		}
		if d.quality[i] >= good {
			return i
		}
		found = i
	}
	return found
}

// leads says whether recovery from the backup can go along the timeline.
func leads(p Place, b Backup, l catalog.Line) bool {
	if b.Place() != p.Own.Place {
		at, ok := p.Life.Find(b.Timeline)
		if !slices.Contains(p.Before, b.Place()) || !ok || at.Place != b.Place() {
			return false // the life before went on, and this is what it did then
		}
	}
	return historyOf(p.Life, l.Timeline).Contains(b.Timeline, b.StopLSN)
}

// historyOf gives the history of a timeline; one that is not known is taken for one
// without ancestors.
func historyOf(a catalog.Archive, tli pg.Timeline) pg.History {
	if l, ok := a.Find(tli); ok && l.History != nil {
		return *l.History
	}
	return pg.History{Timeline: tli}
}

// follow keeps all WAL from the backup on along the timeline.
func (d *decider) follow(p Place, b Backup, l catalog.Line) {
	history := historyOf(p.Life, l.Timeline)
	for _, m := range p.Life.Lines {
		_, ancestor := history.ForkAfter(m.Timeline)
		switch {
		case m.Timeline == b.Timeline:
			d.floor(m.Place, m.Timeline, pg.SegmentAt(m.Timeline, b.StartLSN, p.Own.SegmentSize).Number)
		case m.Timeline > b.Timeline && (ancestor || m.Timeline == l.Timeline):
			d.floor(m.Place, m.Timeline, 0)
		}
	}
}

// floor keeps all segments of a timeline from n on.
func (d *decider) floor(p catalog.Place, tli pg.Timeline, n uint64) {
	k := lineKey{p, tli}
	if was, ok := d.floors[k]; !ok || n < was {
		d.floors[k] = n
	}
}

func (d *decider) keepAll(p Place) {
	for _, l := range p.Life.Lines {
		d.floor(l.Place, l.Timeline, 0)
	}
}

func (d *decider) hasBackup(p Place) bool {
	return slices.ContainsFunc(d.backups, func(b Backup) bool {
		return b.Place() == p.Own.Place || slices.Contains(p.Before, b.Place())
	})
}

// lines gives what becomes of the WAL, when it is known which backups are kept.
func (d *decider) lines() []Line {
	var out []Line
	for _, p := range d.history.Places {
		pieces := d.pieces(p.Own)
		for _, l := range p.Own.Lines {
			from, ok := d.floors[lineKey{p.Own.Place, l.Timeline}]
			if !ok {
				from = NoSegment
			}
			out = append(out, Line{p.Own.Place, l.Timeline, from, pieces})
		}
	}
	return out
}

// pieces are the segments that the kept backups of a place need by themselves. They are
// kept on each of its timelines: where one left another within a segment, both have it.
func (d *decider) pieces(a catalog.Archive) []Piece {
	var all []Piece
	for i, b := range d.backups {
		if len(d.kept[i]) > 0 && b.Place() == a.Place && !b.WALIncluded {
			all = append(all, Piece{pg.SegmentAt(b.Timeline, b.StartLSN, a.SegmentSize).Number, pg.SegmentAt(b.Timeline, b.StopLSN, a.SegmentSize).Number})
		}
	}
	slices.SortFunc(all, func(a, b Piece) int { return cmp.Compare(a.First, b.First) })
	var joined []Piece
	for _, p := range all {
		if n := len(joined); n > 0 && (p.First <= joined[n-1].Last || p.First == joined[n-1].Last+1) {
			joined[n-1].Last = max(joined[n-1].Last, p.Last)
			continue
		}
		joined = append(joined, p)
	}
	return joined
}
