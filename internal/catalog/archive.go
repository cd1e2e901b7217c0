package catalog

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// Archive is the WAL of one place.
type Archive struct {
	Place       Place
	SegmentSize uint32
	Lines       []Line // by timeline, rising
}

// Line is the WAL of one timeline.
type Line struct {
	Timeline pg.Timeline
	Place    Place       // that has it: the archive's, or one that it continues
	Segments []uint64    // numbers of the whole segments, rising
	Partials []uint64    // numbers of the segments cut off by a promotion, rising
	History  *pg.History // nil if its history file is missing; timeline 1 has none and needs none
	// Unreadable is why the history file that is there cannot be read, nil if it can: it
	// is not known then which timelines this one left, and where.
	Unreadable error
	// Newest is when the last of its segments came into the store, by the store's clock;
	// zero if it has none.
	Newest time.Time
	// Purged is up to where WAL was removed that no backup needed any more: what is
	// missing before is not lost. It is 0 if none was.
	Purged pg.LSN
}

// WALObject is an object of an archive: a segment, whole or cut off, a history or a
// backup's marker.
type WALObject struct {
	Key     string // in the store
	File    pg.WALFile
	Size    int64 // as stored
	ModTime time.Time
}

// ReadArchive lists the WAL of a place and reads its histories. One that cannot be read is
// noted with its line: it must not keep the other timelines from being restored.
func ReadArchive(ctx context.Context, objects *seal.Objects, o Origin) (Archive, error) {
	return WalkArchive(ctx, objects, o, func(WALObject) {})
}

// WalkArchive is ReadArchive, which shows each object of the archive itself to visit, in
// the order of timelines and names.
func WalkArchive(ctx context.Context, objects *seal.Objects, o Origin, visit func(WALObject)) (Archive, error) {
	a := Archive{Place: o.Place(), SegmentSize: o.Sizes.WALSegment}
	prefix := a.Place.walPrefix()
	for obj, err := range objects.Store().List(ctx, prefix, store.ListOptions{}) {
		if err != nil {
			return Archive{}, fmt.Errorf("listing %s: %w", prefix, err)
		}
		dir, name, _ := strings.Cut(strings.TrimPrefix(obj.Key, prefix), "/")
		f, err := pg.ParseWALFile(name, a.SegmentSize)
		if err != nil || f.Timeline.Hex() != dir {
			continue // not WAL of this cluster
		}
		visit(WALObject{obj.Key, f, obj.Size, obj.ModTime})
		line := a.line(f.Timeline)
		if f.Kind == pg.WALSegment || f.Kind == pg.WALPartial {
			line.Newest = latest(line.Newest, obj.ModTime)
		}
		switch f.Kind {
		case pg.WALSegment:
			line.Segments = append(line.Segments, f.Segment.Number)
		case pg.WALPartial:
			line.Partials = append(line.Partials, f.Segment.Number)
		case pg.WALHistory:
			h, err := readHistory(ctx, objects, obj.Key, f.Timeline)
			switch {
			case repo.Unreadable(err):
				line.Unreadable = &UnreadableHistory{f.Timeline, err}
			case err != nil:
				return Archive{}, err
			default:
				line.History = &h
			}
		}
	}
	a.finish()
	return a, a.readPurged(ctx, objects)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Continuing gives the archive of a life with the timelines of the one before it that
// lead to it.
func (a Archive) Continuing(before Archive) Archive {
	a.Lines = continuedLines(a, before)
	return a
}

func readHistory(ctx context.Context, objects *seal.Objects, name string, tli pg.Timeline) (pg.History, error) {
	data, err := objects.Get(ctx, name, seal.WALSmall)
	if err != nil {
		return pg.History{}, err
	}
	h, err := pg.ParseHistory(tli, data)
	if err != nil {
		return pg.History{}, repo.Damaged(name, "%v", err)
	}
	return h, nil
}

// Unreadable gives why histories cannot be read, each as an *UnreadableHistory.
func (a Archive) Unreadable() (all []error) {
	for _, l := range a.Lines {
		if l.Unreadable != nil {
			all = append(all, l.Unreadable)
		}
	}
	return all
}

// leftUnknown says whether a timeline may have left tli at a place that is not known,
// since its history cannot be read.
func (a Archive) leftUnknown(tli pg.Timeline) bool {
	return slices.ContainsFunc(a.Lines, func(l Line) bool { return l.Unreadable != nil && l.Timeline > tli })
}

// line gives the line of a timeline, made if need be. Listings rise, so a new one
// belongs at the end.
func (a *Archive) line(tli pg.Timeline) *Line {
	if n := len(a.Lines); n == 0 || a.Lines[n-1].Timeline != tli {
		a.Lines = append(a.Lines, Line{Timeline: tli, Place: a.Place})
	}
	return &a.Lines[len(a.Lines)-1]
}

func (a *Archive) finish() {
	for i := range a.Lines {
		l := &a.Lines[i]
		slices.Sort(l.Segments)
		slices.Sort(l.Partials)
		if l.History == nil && l.Unreadable == nil && l.Timeline == 1 {
			l.History = &pg.History{Timeline: 1}
		}
	}
}

// Find gives the line of a timeline, and false if the archive has none.
func (a Archive) Find(tli pg.Timeline) (Line, bool) {
	for _, l := range a.Lines {
		if l.Timeline == tli {
			return l, true
		}
	}
	return Line{}, false
}

// Newest is the highest timeline in the archive, 0 if it is empty.
func (a Archive) Newest() pg.Timeline {
	if len(a.Lines) == 0 {
		return 0
	}
	return a.Lines[len(a.Lines)-1].Timeline
}

// ForkOf gives the lowest position at which any timeline of a known history left tli,
// and false if none did.
func (a Archive) ForkOf(tli pg.Timeline) (fork pg.LSN, ok bool) {
	for _, l := range a.Lines {
		if l.History == nil {
			continue
		}
		if at, left := l.History.ForkAfter(tli); left && (!ok || at < fork) {
			fork, ok = at, true
		}
	}
	return fork, ok
}

// Step is one segment on a path.
type Step struct {
	Place   Place // that has it
	Segment pg.Segment
	Partial bool
	End     pg.LSN // WAL on the path goes to here, at most the segment's end
}

// Path is unbroken WAL along one history.
type Path struct {
	History pg.History
	From    pg.LSN // as asked for
	Steps   []Step
	// Missing is the segment that is not there, right after the last step.
	Missing pg.Segment
	// Hole says that later WAL of this history is there, so that Missing is lost
	// and not yet to come.
	Hole bool
}

// End is the position up to which the segments of the path go: From if there is
// none. The WAL in the last may end before.
func (p Path) End() pg.LSN {
	if len(p.Steps) == 0 {
		return p.From
	}
	return p.Steps[len(p.Steps)-1].End
}

// Path follows a history through the archive, from the segment that holds from.
//
// A segment in which a timeline begins was copied from its parent up to the fork,
// so it is looked for on the child first, as PostgreSQL does (XLogFileReadAnyTLI,
// xlogrecovery.c). The parent's serves up to the fork.
func (a Archive) Path(h pg.History, from pg.LSN) Path {
	p := Path{History: h, From: from}
	for n := pg.SegmentAt(h.Timeline, from, a.SegmentSize).Number; ; n++ {
		step, ok := a.step(h, n)
		if !ok {
			p.Missing = pg.Segment{Timeline: h.At(pg.Segment{Number: n}.End(a.SegmentSize) - 1), Number: n}
			p.Hole = a.laterThan(h, n)
			return p
		}
		p.Steps = append(p.Steps, step)
		if step.End < step.Segment.End(a.SegmentSize) {
			p.Missing = pg.Segment{Timeline: h.At(step.End), Number: n}
			p.Hole = a.laterThan(h, n)
			return p
		}
	}
}

// Reaches says whether the archive has all WAL of a history between two positions.
func (a Archive) Reaches(h pg.History, from, to pg.LSN) bool {
	for from < to {
		step, ok := a.step(h, pg.SegmentAt(h.Timeline, from, a.SegmentSize).Number)
		if !ok || step.End <= from {
			return false
		}
		from = step.End
	}
	return true
}

// step finds segment n on the way to h.Timeline.
func (a Archive) step(h pg.History, n uint64) (Step, bool) {
	seg := pg.Segment{Number: n}
	start, end := seg.Start(a.SegmentSize), seg.End(a.SegmentSize)
	lines := []pg.Timeline{h.At(end - 1)}
	for i := len(h.Forks) - 1; i >= 0; i-- {
		if f := h.Forks[i]; f.At > start && f.At < end {
			lines = append(lines, f.Timeline)
		}
	}
	for _, tli := range lines {
		until := end
		if at, left := h.ForkAfter(tli); left && at < end {
			until = at
		}
		line, _ := a.Find(tli)
		seg.Timeline = tli
		if _, ok := slices.BinarySearch(line.Segments, n); ok {
			return Step{line.Place, seg, false, until}, true
		}
		if _, ok := slices.BinarySearch(line.Partials, n); ok {
			// Nobody says how far it goes but the fork that cut it off: with a history
			// that cannot be read there may be one before.
			if at, left := a.ForkOf(tli); left && at > start && at < end && !a.leftUnknown(tli) {
				return Step{line.Place, seg, true, min(until, at)}, true
			}
		}
	}
	return Step{}, false
}

// laterThan says whether the archive has WAL of this history after segment n.
func (a Archive) laterThan(h pg.History, n uint64) bool {
	for _, l := range a.Lines {
		at, left := h.ForkAfter(l.Timeline)
		if l.Timeline != h.Timeline && !left {
			continue
		}
		for _, s := range slices.Concat(l.Segments, l.Partials) {
			if s > n && (!left || pg.Segment{Number: s}.Start(a.SegmentSize) < at) {
				return true
			}
		}
	}
	return false
}

// Range is a stretch of one timeline, found or lost.
type Range struct {
	From, To pg.LSN
	Lost     bool
}

// Ranges gives the stretches of a line: what is there, and the holes between. What was
// removed because nothing needed it is no hole. A hole from the segment on in which the timeline was left is none: its successor has
// a copy of that segment, and a server that came back after a failover may have
// archived on.
func (a Archive) Ranges(l Line) []Range {
	fork, left := a.ForkOf(l.Timeline)
	fork = pg.SegmentAt(l.Timeline, fork, a.SegmentSize).Start(a.SegmentSize)
	var out []Range
	for _, n := range l.Segments {
		s := pg.Segment{Timeline: l.Timeline, Number: n}
		r := Range{From: s.Start(a.SegmentSize), To: s.End(a.SegmentSize)}
		if k := len(out); k > 0 && out[k-1].To == r.From {
			out[k-1].To = r.To
			continue
		} else if k > 0 && !(left && out[k-1].To >= fork) && r.From > l.Purged {
			out = append(out, Range{From: max(out[k-1].To, l.Purged), To: r.From, Lost: true})
		}
		out = append(out, r)
	}
	return out
}

// After gives a segment, whole or partial, that comes after seg in a history that seg
// is part of, and false if the archive has none: then seg, if it is absent, is the
// archive's end.
func (a Archive) After(seg pg.Segment) (pg.Segment, bool) {
	fork, left := a.ForkOf(seg.Timeline)
	if left && (fork <= seg.Start(a.SegmentSize) || a.leftUnknown(seg.Timeline)) {
		left = false // seg lies past the fork itself, or may: all of its timeline counts
	}
	own, _ := a.Find(seg.Timeline)
	for _, n := range slices.Concat(own.Segments, own.Partials) {
		later := pg.Segment{Timeline: seg.Timeline, Number: n}
		if n > seg.Number && (!left || later.Start(a.SegmentSize) < fork) {
			return later, true
		}
	}
	for _, l := range a.Lines {
		if !a.mayFollow(l, seg) {
			continue
		}
		for _, n := range slices.Concat(l.Segments, l.Partials) {
			if n > seg.Number {
				return pg.Segment{Timeline: l.Timeline, Number: n}, true
			}
		}
	}
	return pg.Segment{}, false
}

// mayFollow says whether a timeline left that of seg after seg, or may have.
func (a Archive) mayFollow(l Line, seg pg.Segment) bool {
	if l.Unreadable != nil {
		return l.Timeline > seg.Timeline &&
			!slices.ContainsFunc(slices.Concat(l.Segments, l.Partials), func(n uint64) bool { return n <= seg.Number })
	}
	if l.History == nil {
		return false
	}
	// A timeline that left within seg has a copy of it.
	at, is := l.History.ForkAfter(seg.Timeline)
	return is && at >= seg.End(a.SegmentSize)
}
