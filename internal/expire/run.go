package expire

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

const (
	// keysAtOnce is about how many objects one tombstone names: it is read whole.
	keysAtOnce = 100_000
	// segmentsAtOnce is how many WAL objects are removed at the same time. They go in
	// their order all the same, but for so many.
	segmentsAtOnce = 16
)

// Plan is what is to go from a place.
type Plan struct {
	Place   catalog.Place
	Backups []string // oldest first
	// WAL are objects of the archive, in the order in which they go: the oldest first, so
	// that what is cut off leaves no hole in what is kept.
	WAL []catalog.WALObject
	// Purged is up to where each timeline's WAL goes.
	Purged map[pg.Timeline]pg.LSN
	// Read are backups of which it was known that they are read, when it was decided which
	// WAL goes.
	Read []string
}

// RunOptions say where to remove.
type RunOptions struct {
	Objects *seal.Objects
	Locks   *lock.Locks
	Places  []catalog.Place
	Clock   clock.Clock
}

// Run removes what decide says, with the removal locks of the places held: who decides
// sees what is there as long as it matters. Backups, restores and holds that begin
// meanwhile keep what they need; Removed.Kept tells, and no WAL goes then: which of it they
// need, the next run decides. It fails with *lock.Held while another removal runs.
//
// It can be cut off anywhere: then the next run finds what is left.
func Run(ctx context.Context, o RunOptions, decide func(context.Context) ([]Plan, error)) (removed Removed, err error) {
	places := slices.Clone(o.Places)
	slices.SortFunc(places, func(a, b catalog.Place) int { // of two runs one gets all
		return slices.Compare([]string{a.RemovalLock()}, []string{b.RemovalLock()})
	})
	for _, p := range places {
		var lease *lock.Lease
		if lease, ctx, err = o.Locks.Acquire(ctx, p.RemovalLock(), nil); err != nil {
			return Removed{}, err
		}
		defer lease.Release(context.WithoutCancel(ctx))
	}
	plans, err := decide(ctx)
	if err != nil {
		return Removed{}, err
	}
	for _, p := range plans {
		if !slices.Contains(places, p.Place) {
			return removed, fmt.Errorf("removing from %s, of which no lock is held", p.Place)
		}
	}
	// WAL goes after the backups of all places: one that stays may need that of another.
	for _, do := range []func(*removal, context.Context, Plan) error{(*removal).apply, (*removal).unread, (*removal).purge} {
		for _, p := range plans {
			r := removal{Options: Options{Objects: o.Objects, Locks: o.Locks, Place: p.Place, Clock: o.Clock}, removed: removed}
			err := do(&r, ctx, p)
			if removed = r.removed; err != nil {
				return removed, err
			}
		}
		if len(removed.Kept) > 0 || !slices.ContainsFunc(plans, func(p Plan) bool { return len(p.WAL) > 0 }) {
			return removed, nil
		}
	}
	return removed, nil
}

// apply removes a plan's backups, after what others left undone.
func (r *removal) apply(ctx context.Context, p Plan) error {
	if err := r.finish(ctx); err != nil {
		return err
	}
	if err := r.forget(ctx); err != nil {
		return err
	}
	if len(p.Backups) == 0 {
		return nil
	}
	return r.backups(ctx, p.Backups)
}

// unread writes that WAL goes, so that nobody takes it for lost, or begins to need it, and
// then looks for restores that have begun since it was decided.
func (r *removal) unread(ctx context.Context, p Plan) error {
	if len(p.WAL) > 0 {
		if err := catalog.WritePurged(ctx, r.Objects, r.Place, r.Clock.Now(), p.Purged); err != nil {
			return err
		}
	}
	reading, err := readings(ctx, r.Options)
	if err != nil {
		return err
	}
	for id, until := range reading {
		if !slices.Contains(p.Read, id) {
			r.removed.Kept = append(r.removed.Kept, fmt.Errorf("no WAL is removed: %w", &BeingRead{id, until}))
		}
	}
	return nil
}

// forget removes the marks of restores that have not counted for as long as they did.
func (r *removal) forget(ctx context.Context) error {
	all, err := catalog.ReadReadings(ctx, r.Objects, r.Place)
	if err != nil {
		return err
	}
	for _, m := range all {
		if r.Clock.Now().Sub(m.Written) < 2*catalog.ReadingLasts {
			continue
		}
		if err := catalog.RemoveReading(ctx, r.Objects, r.Place, m); err != nil {
			return fmt.Errorf("removing the mark of a restore that ended long ago: %w", err)
		}
	}
	return nil
}

// backups removes backups, some at once.
func (r *removal) backups(ctx context.Context, ids []string) error {
	heads, unreadable, err := catalog.ListHeads(ctx, r.Objects, r.Place)
	if err != nil {
		return err
	}
	if err := catalog.KnowNeeds(ctx, r.Objects, unreadable); err != nil {
		return err
	}
	there := make(map[string]*catalog.Head, len(heads))
	for _, h := range heads {
		there[h.ID] = h
	}
	var keys, some []string
	for i, id := range ids {
		h := there[id]
		if h == nil {
			continue // somebody else removed it
		}
		infos, err := catalog.ReadPacks(ctx, r.Objects, *h)
		if err != nil && !errors.Is(err, repo.ErrDamaged) {
			return err
		} // with a damaged list, its packs are left for a sweep to find
		some, keys = append(some, id), append(keys, catalog.PartNames(r.Place, id)...)
		for _, p := range infos {
			keys = append(keys, r.Place.PackName(p.ID))
		}
		if len(keys) < keysAtOnce && i < len(ids)-1 {
			continue
		}
		if err := r.together(ctx, some, keys); err != nil {
			return err
		}
		keys, some = nil, nil
	}
	if len(some) > 0 {
		return r.together(ctx, some, keys)
	}
	return nil
}

// together removes backups under one tombstone. The keys are all that they name: what
// those need that stay is not removed in the end, whoever named it.
func (r *removal) together(ctx context.Context, ids, keys []string) error {
	slices.Sort(keys)
	stone, err := catalog.WriteTombstone(ctx, r.Objects, r.Place, slices.Compact(keys))
	if err != nil {
		return err
	}
	// After the tombstone: who begins to use one from now on sees that.
	why, err := uses(ctx, r.Options, true)
	if err != nil {
		return errors.Join(err, catalog.RemoveTombstone(context.WithoutCancel(ctx), r.Objects, r.Place, stone.ID))
	}
	for _, id := range ids {
		if err := why[id]; err != nil {
			r.removed.Kept = append(r.removed.Kept, err)
			continue
		}
		if err := r.remove(ctx, catalog.HeadName(r.Place, id)); err != nil {
			return err
		}
		r.removed.Backups = append(r.removed.Backups, id)
	}
	return r.finish(ctx)
}

// purge removes WAL.
func (r *removal) purge(ctx context.Context, p Plan) error {
	for some := range slices.Chunk(p.WAL, segmentsAtOnce) {
		g, gctx := errgroup.WithContext(ctx)
		for _, o := range some {
			g.Go(func() error {
				if err := r.Objects.Store().Delete(gctx, o.Key, ""); err != nil && !errors.Is(err, store.ErrNotFound) {
					return fmt.Errorf("removing %s: %w", o.Key, err)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for _, o := range some {
			r.removed.Objects++
			r.removed.Bytes += uint64(o.Size)
		}
	}
	return nil
}
