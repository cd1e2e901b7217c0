package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// relists is how often the archive is listed anew when WAL has come meanwhile.
const relists = 3

// wal looks at the WAL from each backup's start to its stop, and from there to the
// archive's newest.
func (v *verification) wal(ctx context.Context) error {
	v.Events.Phase("WAL")
	var plan *walPlan
	for try := 0; ; try++ {
		if err := v.readArchive(ctx); err != nil {
			return err
		}
		plan = v.planWAL()
		late, err := v.cameMeanwhile(ctx, plan)
		if err != nil {
			return err
		}
		if !late || try == relists {
			break
		}
	}
	for _, b := range plan.backups {
		for _, p := range b.problems {
			b.backup.add(walStage, p)
		}
	}
	for _, p := range plan.problems {
		v.others.add(p)
	}
	found, err := v.segments(ctx, plan)
	if err != nil {
		return err
	}
	if err := v.share(ctx, plan, found); err != nil {
		return err
	}
	if err := v.includedWAL(ctx); err != nil {
		return err
	}
	return v.markers(ctx)
}

// readArchive lists the archive, with that of the lives that this one continues.
func (v *verification) readArchive(ctx context.Context) error {
	life, err := catalog.ReadLife(ctx, v.Objects, v.origin)
	if err == nil || !unreadable(err) && !errors.Is(err, catalog.ErrNoPlace) {
		v.archive = life.Archive
		return err
	}
	p, perr := v.problem(ctx, v.Place.Prefix(), err)
	if perr != nil {
		return perr
	}
	v.others.add(p)
	v.archive, err = catalog.ReadArchive(ctx, v.Objects, v.origin)
	return err
}

// walPlan is which WAL is to be looked at, and what the list of it says already.
type walPlan struct {
	backups  []*walBackup
	paths    []catalog.Path // to every newest segment
	problems []catalog.Problem
	holes    []string // objects that are not there
}

// walBackup is the WAL that a backup is consistent with.
type walBackup struct {
	backup   *backup
	steps    []catalog.Step
	problems []catalog.Problem
}

// planWAL finds the ways through the archive.
func (v *verification) planWAL() *walPlan {
	p := &walPlan{}
	v.lines(p)
	for _, b := range v.backups {
		if b.head == nil || b.head.Sizes.WALSegment == 0 {
			continue
		}
		w := &walBackup{backup: b}
		p.backups = append(p.backups, w)
		if !b.head.WALIncluded {
			v.own(p, w)
		}
	}
	for _, l := range v.archive.Lines {
		if l.History != nil {
			v.onward(p, *l.History)
		}
	}
	return p
}

// lines tells of histories that are missing or cannot be read.
func (v *verification) lines(p *walPlan) {
	for _, l := range v.archive.Lines {
		object := l.Place.WALName(l.Timeline, l.Timeline.HistoryName())
		switch {
		case l.Unreadable != nil:
			p.problems = append(p.problems, catalog.Problem{Kind: Damaged, Object: object, Detail: detail(l.Unreadable)})
		case l.History == nil:
			p.holes = append(p.holes, object)
			p.problems = append(p.problems, catalog.Problem{Kind: Missing, Object: object, Detail: fmt.Sprintf("the archive has WAL of timeline %d, and not its history", l.Timeline)})
		}
	}
}

// own finds the WAL of a backup on its own timeline.
func (v *verification) own(p *walPlan, w *walBackup) {
	h := w.backup.head
	line, ok := v.archive.Find(h.Timeline)
	history := line.History
	if !ok && h.Timeline == 1 {
		history = &pg.History{Timeline: 1}
	}
	if history == nil {
		object := v.Place.WALName(h.Timeline, h.Timeline.HistoryName())
		one := catalog.Problem{Kind: Missing, Object: object, Detail: fmt.Sprintf("the history of timeline %d is missing, and the backup is of it", h.Timeline)}
		if line.Unreadable != nil {
			one.Kind, one.Detail = Damaged, detail(line.Unreadable)
		}
		w.problems = append(w.problems, one)
		return
	}
	way := v.archive.Path(*history, h.StartLSN)
	for _, s := range way.Steps {
		if s.Segment.Start(v.archive.SegmentSize) < h.StopLSN {
			w.steps = append(w.steps, s)
		}
	}
	if way.End() >= h.StopLSN && len(way.Steps) > 0 {
		return
	}
	object := v.object(way.Missing)
	p.holes = append(p.holes, object)
	w.problems = append(w.problems, catalog.Problem{Kind: WALHole, Object: object,
		Detail: fmt.Sprintf("segment %s is not in the archive, and the backup needs WAL from %s to %s", way.Missing.Name(v.archive.SegmentSize), h.StartLSN, h.StopLSN)})
}

// object is the name of a segment's object.
func (v *verification) object(s pg.Segment) string {
	place := v.Place
	if l, ok := v.archive.Find(s.Timeline); ok {
		place = l.Place
	}
	return place.WALName(s.Timeline, s.Name(v.archive.SegmentSize))
}

// onward finds the ways from the backups to the end of a history.
func (v *verification) onward(p *walPlan, history pg.History) {
	reached := pg.LSN(0) // by the ways found until now
	for _, w := range slices.SortedStableFunc(slices.Values(p.backups), func(a, b *walBackup) int {
		return int(min(1, max(-1, int64(a.backup.head.StartLSN)-int64(b.backup.head.StartLSN))))
	}) {
		h := w.backup.head
		if !history.Contains(h.Timeline, h.StopLSN) || h.StartLSN < reached {
			continue
		}
		way := v.archive.Path(history, h.StartLSN)
		if h.WALIncluded && len(way.Steps) == 0 {
			continue // its WAL is in itself, from before the archive began
		}
		p.paths = append(p.paths, way)
		reached = way.End()
		if !way.Hole || way.End() < h.StopLSN || v.purged(way.Missing) {
			continue // a hole before the stop is the backup's own
		}
		object := v.object(way.Missing)
		p.holes = append(p.holes, object)
		p.problems = append(p.problems, catalog.Problem{Kind: WALHole, Object: object,
			Detail: fmt.Sprintf("segment %s is not in the archive, which goes on after it: backup %s and those before it cannot be recovered past %s", way.Missing.Name(v.archive.SegmentSize), h.ID, way.End())})
	}
}

// purged says whether a segment was removed since nothing needs it any more.
func (v *verification) purged(s pg.Segment) bool {
	l, ok := v.archive.Find(s.Timeline)
	return ok && s.End(v.archive.SegmentSize) <= l.Purged
}

// cameMeanwhile says whether something that was not listed is there by now.
func (v *verification) cameMeanwhile(ctx context.Context, p *walPlan) (bool, error) {
	for _, object := range p.holes {
		if there, err := v.Objects.Exists(ctx, object); err != nil || there {
			return there, err
		}
	}
	return false, nil
}

// share gives the problems of segments to the backups that need them, and the others to
// the archive, except of what was removed since nothing needs it any more. What a backup
// needs that is still there was not.
func (v *verification) share(ctx context.Context, plan *walPlan, found map[judged]catalog.Problem) error {
	missing := func(p catalog.Problem) bool { return p.Kind == Missing }
	if slices.ContainsFunc(slices.Collect(maps.Values(found)), missing) {
		if err := v.readPurged(ctx); err != nil {
			return err
		}
	}
	taken := map[string]bool{}
	for _, w := range plan.backups {
		for _, s := range w.steps {
			object := s.Name(v.archive)
			if p, is := found[judged{object, s.End}]; is {
				w.backup.add(walStage, p)
				taken[object] = true
			}
		}
	}
	for at, p := range found {
		if !taken[at.object] && !(missing(p) && v.purgedObject(at.object)) {
			v.others.add(p)
		}
	}
	return nil
}

// readPurged notes anew what was removed since nothing needs it any more.
func (v *verification) readPurged(ctx context.Context) error {
	read := map[catalog.Place]map[pg.Timeline]pg.LSN{}
	for i, l := range v.archive.Lines {
		before, ok := read[l.Place]
		if !ok {
			var err error
			if before, err = catalog.ReadPurged(ctx, v.Objects, l.Place); err != nil {
				return err
			}
			read[l.Place] = before
		}
		v.archive.Lines[i].Purged = max(l.Purged, before[l.Timeline])
	}
	return nil
}

// purgedObject is purged of a segment's object, also if it is a partial one.
func (v *verification) purgedObject(object string) bool {
	f, err := pg.ParseWALFile(path.Base(object), v.archive.SegmentSize)
	return err == nil && v.purged(f.Segment)
}

// markers reads the backup history files of the archive. No restore needs them, but what
// damaged them may damage more.
func (v *verification) markers(ctx context.Context) error {
	if !v.data() {
		return nil
	}
	prefix := v.Place.Prefix() + "wal/"
	for o, err := range v.Objects.Store().List(ctx, prefix, store.ListOptions{}) {
		if err != nil {
			return fmt.Errorf("listing %s: %w", prefix, err)
		}
		f, err := pg.ParseWALFile(path.Base(o.Key), v.archive.SegmentSize)
		if err != nil || f.Kind != pg.WALBackupMarker {
			continue
		}
		_, err = v.Objects.Get(ctx, o.Key, seal.WALSmall)
		switch {
		case err == nil, errors.Is(err, store.ErrNotFound): // or removed since the list
		case !unreadable(err):
			return err
		default:
			p, err := v.problem(ctx, o.Key, err)
			if err != nil {
				return err
			}
			v.others.add(p)
		}
	}
	return nil
}
