package expire

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/retention"
)

// SurveyOptions say what to look at.
type SurveyOptions struct {
	Objects *seal.Objects
	Locks   *lock.Locks
	Cluster string
	Clock   clock.Clock

	// Heads are the backups of places, if they were read already; else they are read.
	Heads map[catalog.Place][]*catalog.Head
	// Proven is what proofs tell, if they were read already.
	Proven catalog.Verifications
}

// Survey is what a repository has of a cluster, as far as it matters to what is kept.
type Survey struct {
	History retention.History
	Holds   map[string]catalog.Hold // by backup
	// Unreadable says of each backup that is there and cannot be read why; it stays.
	Unreadable []error
	// Doubts says of each proof that cannot be read why.
	Doubts []error

	wal  map[catalog.Place][]catalog.WALObject
	read map[catalog.Place][]string // backups that are read
}

// Look makes a survey. It fails if a place cannot be read: it may continue any other, and
// need what that has.
func Look(ctx context.Context, o SurveyOptions) (*Survey, error) {
	origins, err := catalog.Places(ctx, o.Objects, o.Cluster)
	if err != nil {
		return nil, err
	}
	s := &Survey{Holds: map[string]catalog.Hold{}, wal: map[catalog.Place][]catalog.WALObject{}, read: map[catalog.Place][]string{}}
	// Listed before heads: of a backup that ends meanwhile the WAL seems to be missing at
	// most, and what began meanwhile is not to be removed.
	g, gctx := errgroup.WithContext(ctx)
	archives := make([]catalog.Archive, len(origins))
	objects := make([][]catalog.WALObject, len(origins))
	g.Go(func() (err error) {
		for i, origin := range origins {
			archives[i], err = catalog.WalkArchive(gctx, o.Objects, origin, func(w catalog.WALObject) { objects[i] = append(objects[i], w) })
			if err != nil {
				return err
			}
		}
		return nil
	})
	proven := o.Proven
	g.Go(func() (err error) {
		if proven != nil {
			return nil
		}
		proven, s.Doubts, err = catalog.ReadVerifications(gctx, o.Objects, o.Cluster)
		return err
	})
	places := make([]retention.Place, len(origins))
	g.Go(func() error {
		for i, origin := range origins {
			if err := s.backups(gctx, o, origin.Place(), &places[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i := range s.History.Backups {
		b := &s.History.Backups[i]
		switch v := proven[b.ID]; {
		case v.Failed.ID != "":
			b.Verdict = retention.Damaged
		case v.Best.ID != "":
			b.Verdict, b.Level = retention.Sound, v.Best.Level
		}
	}
	for i, origin := range origins {
		s.wal[origin.Place()] = objects[i]
		places[i].Own = archives[i]
	}
	for i := range places {
		connect(&places[i], i, origins, places)
	}
	s.History.Places = places
	return s, nil
}

// backups adds those of a place, with what is known of who uses them.
func (s *Survey) backups(ctx context.Context, o SurveyOptions, p catalog.Place, place *retention.Place) error {
	opt := Options{Objects: o.Objects, Locks: o.Locks, Place: p, Clock: o.Clock}
	holds, err := catalog.ReadHolds(ctx, o.Objects, p)
	if err != nil {
		return err
	}
	reading, err := readings(ctx, opt)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	if err := parents(ctx, opt, func(b catalog.Running) { used[b.Parent] = true }); err != nil {
		return err
	}
	running, err := catalog.ReadRunning(ctx, o.Objects, p)
	if err != nil {
		return err
	}
	for _, b := range running {
		place.Running = append(place.Running, startOf(b))
	}
	// After the marks: of a backup that ends meanwhile both are seen, and not neither.
	heads, known := o.Heads[p]
	var unreadable []error
	if !known {
		if heads, unreadable, err = catalog.ListHeads(ctx, o.Objects, p); err != nil {
			return err
		}
	}
	s.Unreadable = append(s.Unreadable, unreadable...)
	place.Unreadable = len(unreadable) > 0
	for id, h := range holds {
		s.Holds[id] = h
	}
	for id := range reading {
		s.read[p] = append(s.read[p], id)
	}
	s.History.Backups = slices.Grow(s.History.Backups, len(heads))
	for _, h := range heads {
		_, held := holds[h.ID]
		_, read := reading[h.ID]
		s.History.Backups = append(s.History.Backups, retention.Backup{Head: h, Held: held, InUse: read, Parent: used[h.ID]})
	}
	return nil
}

// startOf says when a backup under way began; of a damaged mark its name tells.
func startOf(b catalog.Running) time.Time {
	at, err := time.Parse("20060102T150405Z", b.ID[:min(len(b.ID), len("20060102T150405Z"))])
	if b.StartedAt.IsZero() && err == nil {
		return at
	}
	return b.StartedAt
}

// maxParents bounds the chain of takeovers that is followed, as in catalog.
const maxParents = 64

// connect gives a place the lives that it continues.
func connect(p *retention.Place, i int, origins []catalog.Origin, places []retention.Place) {
	p.Life = p.Own
	for range maxParents {
		parent := origins[i].Place()
		parent.Incarnation = origins[i].Parent
		if i = slices.IndexFunc(origins, func(o catalog.Origin) bool { return o.Place() == parent }); i < 0 {
			return
		}
		p.Before = append(p.Before, parent)
		p.Life = p.Life.Continuing(places[i].Own)
		p.Unreadable = p.Unreadable || places[i].Unreadable
	}
}

// Plans gives what is to go by decisions about this survey's history.
func (s *Survey) Plans(d retention.Decisions) []Plan {
	var plans []Plan
	for _, p := range s.History.Places {
		plan := Plan{Place: p.Own.Place, Purged: map[pg.Timeline]pg.LSN{}, Read: s.read[p.Own.Place]}
		for _, b := range d.Backups {
			if !b.Kept() && b.Place() == plan.Place {
				plan.Backups = append(plan.Backups, b.ID)
			}
		}
		lines := map[pg.Timeline]retention.Line{}
		for _, l := range d.WAL {
			if l.Place == plan.Place {
				lines[l.Timeline] = l
			}
		}
		for _, o := range s.wal[plan.Place] {
			l, known := lines[o.File.Timeline]
			if !known || o.File.Kind == pg.WALHistory || l.Keeps(o.File.Segment.Number) {
				continue
			}
			plan.WAL = append(plan.WAL, o)
			plan.Purged[l.Timeline] = max(plan.Purged[l.Timeline], o.File.Segment.End(p.Own.SegmentSize))
			if l.From != retention.NoSegment {
				plan.Purged[l.Timeline] = pg.Segment{Number: l.From}.Start(p.Own.SegmentSize)
			}
		}
		plans = append(plans, plan)
	}
	return plans
}
