package retention

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
)

const segSize = 1 << 20

// world is a cluster that lives: it writes WAL, takes backups, is promoted, taken over
// and upgraded, while its repository is made smaller by policy, or not.
type world struct {
	now    time.Time
	places []*place
	n      int // backups made
	made   []Backup
}

type place struct {
	place  catalog.Place
	before []*place
	lines  []*line
	at     pg.LSN // the primary writes there
}

type line struct {
	tli      pg.Timeline
	history  pg.History
	segments map[uint64]time.Time // when each came
}

func (p *place) current() *line { return p.lines[len(p.lines)-1] }

func newWorld() *world {
	w := &world{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.upgrade()
	return w
}

// upgrade begins a place that has nothing to do with those before.
func (w *world) upgrade() {
	p := &place{place: catalog.Place{Cluster: "shop", SystemID: pg.SystemID(len(w.places) + 1), Incarnation: catalog.Incarnation(fmt.Sprintf("%016x", len(w.places)+1))}, at: segSize + 40}
	p.lines = []*line{{tli: 1, history: pg.History{Timeline: 1}, segments: map[uint64]time.Time{}}}
	w.places = append(w.places, p)
}

func (w *world) primary() *place { return w.places[len(w.places)-1] }

// write writes so many segments of WAL and a bit, and archives what is full.
func (w *world) write(segments int) {
	p := w.primary()
	for range segments {
		p.current().segments[uint64(p.at/segSize)] = w.now
		p.at = (p.at/segSize + 1) * segSize
	}
	p.at += 40
}

func (w *world) promote(p *place) {
	old := p.current()
	h := pg.History{Timeline: old.tli + 1, Forks: append(slices.Clone(old.history.Forks), pg.Fork{Timeline: old.tli, At: p.at})}
	p.lines = append(p.lines, &line{tli: h.Timeline, history: h, segments: map[uint64]time.Time{}})
}

// takeover goes on in a place of its own.
func (w *world) takeover() {
	old := w.primary()
	p := &place{place: old.place, before: append([]*place{old}, old.before...), at: old.at}
	p.place.Incarnation = catalog.Incarnation(fmt.Sprintf("%016x", len(w.places)+1))
	p.lines = []*line{old.current()}
	w.promote(p)
	p.lines = p.lines[1:]
	w.places = append(w.places, p)
}

// backup takes one, which is not good if so wanted.
func (w *world) backup(verdict Verdict, level catalog.VerifyLevel, spots int, held bool) string {
	p := w.primary()
	h := &catalog.Head{ID: fmt.Sprintf("%s-%06x", w.now.UTC().Format("20060102T150405Z"), w.n), Cluster: p.place.Cluster, SystemID: p.place.SystemID, Incarnation: p.place.Incarnation,
		Timeline: p.current().tli, StartedAt: w.now, StoppedAt: w.now, StartLSN: p.at, Damaged: make([]catalog.BadPage, spots)}
	w.write(1)
	h.StopLSN = p.at - 40
	w.n++
	w.made = append(w.made, Backup{Head: h, Verdict: verdict, Level: level, Held: held})
	return h.ID
}

// repository is what is left of what the world has made.
type repository struct {
	gone     map[string]bool          // backups
	segments map[catalog.Place]string // removed, as " timeline/number "
}

func newRepository() *repository {
	return &repository{map[string]bool{}, map[catalog.Place]string{}}
}

func segmentKey(tli pg.Timeline, n uint64) string { return fmt.Sprintf(" %d/%d ", tli, n) }

// history is what the repository has.
func (w *world) history(r *repository) History {
	var h History
	for _, b := range w.made {
		if !r.gone[b.ID] {
			h.Backups = append(h.Backups, b)
		}
	}
	for _, p := range w.places {
		own := w.archive(r, p)
		q := Place{Own: own, Life: own}
		for _, before := range p.before {
			q.Before = append(q.Before, before.place)
			q.Life = q.Life.Continuing(w.archive(r, before))
		}
		h.Places = append(h.Places, q)
	}
	return h
}

func (w *world) archive(r *repository, p *place) catalog.Archive {
	a := catalog.Archive{Place: p.place, SegmentSize: segSize}
	for _, l := range p.lines {
		c := catalog.Line{Timeline: l.tli, Place: p.place, History: &l.history}
		for n, at := range l.segments {
			if !strings.Contains(r.segments[p.place], segmentKey(l.tli, n)) {
				c.Segments = append(c.Segments, n)
				c.Newest = later(c.Newest, at)
			}
		}
		slices.Sort(c.Segments)
		a.Lines = append(a.Lines, c)
	}
	return a
}

// apply removes what a decision removes, and gives how much that was.
func (r *repository) apply(h History, d Decisions) (removed []string) {
	for _, b := range d.Backups {
		if !b.Kept() {
			r.gone[b.ID] = true
			removed = append(removed, b.ID)
		}
	}
	for _, l := range d.WAL {
		for _, p := range h.Places {
			if p.Own.Place != l.Place {
				continue
			}
			own, _ := p.Own.Find(l.Timeline)
			for _, n := range own.Segments {
				if !l.Keeps(n) {
					r.segments[l.Place] += segmentKey(l.Timeline, n)
					removed = append(removed, fmt.Sprint(l.Place, segmentKey(l.Timeline, n)))
				}
			}
		}
	}
	return removed
}

// step lets something happen.
func (w *world) step(t *rapid.T) {
	hours := rapid.SampledFrom([]int{1, 1, 5, 20, 24, 24 * 6, 24 * 40}).Draw(t, "hours")
	w.now = w.now.Add(time.Duration(hours)*time.Hour + time.Duration(rapid.IntRange(0, 3000).Draw(t, "seconds"))*time.Second)
	switch what := rapid.IntRange(0, 19).Draw(t, "what"); {
	case what < 11:
		spots := 0
		if rapid.IntRange(0, 9).Draw(t, "spots") == 0 {
			spots = 1
		}
		verdict := rapid.SampledFrom([]Verdict{Unverified, Unverified, Sound, Damaged}).Draw(t, "verdict")
		level := rapid.SampledFrom([]catalog.VerifyLevel{catalog.VerifyObjects, catalog.VerifyData, catalog.VerifyRestore}).Draw(t, "level")
		w.backup(verdict, level, spots, rapid.IntRange(0, 15).Draw(t, "held") == 0)
	case what < 16:
		w.write(rapid.IntRange(1, 4).Draw(t, "segments"))
	case what < 17:
		w.promote(w.primary())
	case what < 18:
		w.takeover()
	case what < 19:
		w.upgrade()
	default: // WAL is lost
		p := w.primary()
		p.at = (p.at/segSize+1)*segSize + 40
	}
}

func policies(t *rapid.T) Policy {
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"}
	zone, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
	if err != nil {
		t.Fatal(err)
	}
	count := func(name string) int { return rapid.SampledFrom([]int{0, 0, 1, 2, 5}).Draw(t, name) }
	return Policy{Window: time.Duration(rapid.SampledFrom([]int{0, 1, 24, 24 * 7, 24 * 60}).Draw(t, "window")) * time.Hour,
		Hourly: count("hourly"), Daily: count("daily"), Weekly: count("weekly"), Monthly: count("monthly"), Yearly: count("yearly"),
		Minimum: count("minimum"), Zone: zone}
}
