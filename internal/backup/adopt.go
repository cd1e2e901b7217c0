package backup

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/pack"
	"github.com/salvor-dr/salvor/internal/store"
)

// adopt marks the backup as under way, and gathers the packs of backups that were
// cut off, so that what they stored is not stored again.
//
// The mark names those packs before tombstones are looked for, and a removal writes
// its tombstone before it looks for marks: one of the two sees the other, and a pack
// does not go while it is adopted.
func (r *run) adopt(ctx context.Context) error {
	mark := catalog.Running{ID: r.id, StartedAt: r.Clock.Now().UTC(), PID: os.Getpid()}
	var err error
	if mark.Host, err = os.Hostname(); err != nil {
		return fmt.Errorf("asking for the host's name: %w", err)
	}
	if r.parent != nil {
		mark.Parent = r.parent.ID
	}
	left, err := r.leftovers(ctx)
	if err != nil {
		return err
	}
	for _, p := range left {
		mark.Adopts = append(mark.Adopts, p.ID)
	}
	if err := catalog.WriteRunning(ctx, r.Objects, r.place, mark); err != nil {
		return err
	}
	if err := r.heldParent(ctx); err != nil {
		return err
	}
	if len(left) == 0 {
		return nil
	}
	buried, err := r.buried(ctx)
	if err != nil {
		return err
	}
	var packs []pack.Stored
	for _, p := range left {
		if !buried[r.place.PackName(p.ID)] {
			packs = append(packs, p)
		}
	}
	r.pool, err = pack.OpenPool(ctx, r.Objects, r.place.PackName, packs, r.source.control.Sizes.Block, func(err error) {
		r.Events.Warn(fmt.Sprintf("a pack of a backup that was cut off is not used: %v", err))
	})
	return err
}

// leftovers lists the packs that no backup names. There are none where no backup has
// left its mark. What is there is not looked for in a repository with backups that
// cannot be read: it might be theirs.
func (r *run) leftovers(ctx context.Context) ([]pack.Stored, error) {
	marks, err := catalog.ReadRunning(ctx, r.Objects, r.place)
	if err != nil || len(marks) == 0 {
		return nil, err
	}
	objects, err := catalog.Leftovers(ctx, r.Objects, r.place)
	if repo.Unreadable(err) {
		r.Events.Warn(fmt.Sprintf("what a backup stored that was cut off is stored again: %v", err))
		return nil, nil
	}
	var packs []pack.Stored
	for key, o := range objects {
		if id, ok := r.place.PackOf(key); ok {
			packs = append(packs, pack.Stored{ID: id, Size: o.Size})
		}
	}
	return packs, err
}

// buried lists what removals are about to remove.
func (r *run) buried(ctx context.Context) (map[string]bool, error) {
	stones, err := catalog.ReadTombstones(ctx, r.Objects, r.place)
	if err != nil {
		return nil, err
	}
	keys := map[string]bool{}
	for _, t := range stones {
		for _, k := range t.Keys(r.place) {
			keys[k] = true
		}
	}
	return keys, nil
}

// known lists the packs that the backup may name: its own, those it adopted, and its
// parent's.
func (r *run) known() []pack.Info {
	all := r.packs.infos()
	if r.pool != nil {
		all = append(all, r.pool.Used()...)
	}
	if r.prior != nil {
		all = append(all, catalog.PackInfos(r.prior.packs)...)
	}
	return all
}

// present fails unless everything that the head will lead to is there, and every pack
// as it was written.
func (r *run) present(ctx context.Context) error {
	for _, part := range catalog.PartNames(r.place, r.id) {
		if _, err := r.Objects.Store().Stat(ctx, part); err != nil {
			return fmt.Errorf("completing the backup: %w", err)
		}
	}
	if err := r.intact(ctx, catalog.PackInfos(r.names)); err != nil {
		return fmt.Errorf("completing the backup: %w", err)
	}
	return nil
}

// intact fails with repo.ErrDamaged unless each pack is there, with the size it had.
func (r *run) intact(ctx context.Context, packs []pack.Info) error {
	sizes := map[repo.ID]int64{}
	for o, err := range r.Objects.Store().List(ctx, r.place.PacksPrefix(), store.ListOptions{}) {
		if err != nil {
			return fmt.Errorf("listing %s: %w", r.place.PacksPrefix(), err)
		}
		if id, ok := r.place.PackOf(o.Key); ok {
			sizes[id] = o.Size
		}
	}
	for _, p := range packs {
		switch size, ok := sizes[p.ID]; {
		case !ok:
			return repo.Damaged(r.place.PackName(p.ID), "it was there, and is gone")
		case uint64(size) != p.Size:
			return repo.Damaged(r.place.PackName(p.ID), "it has %d bytes, and had %d", size, p.Size)
		}
	}
	return nil
}

// complete writes the head. That may come late, from a process that was stopped for
// so long that another took its lock and removed what it had stored: so it is looked
// for that once more, and the head is taken back.
func (r *run) complete(ctx context.Context) error {
	if err := r.present(ctx); err != nil {
		return err
	}
	// From here on nobody's wish to stop counts: it is either complete or it is not.
	ctx = context.WithoutCancel(ctx)
	if err := catalog.WriteHead(ctx, r.Objects, r.head); err != nil {
		return err
	}
	if err := r.kept(ctx); err != nil {
		return errors.Join(err, r.Objects.Store().Delete(ctx, catalog.HeadName(r.place, r.id), ""))
	}
	return nil
}

// kept fails if a removal that had not seen the head removes, or has removed, what it
// leads to. While it removes there is its tombstone; one that writes its tombstone
// later looks for heads after that, and sees this one.
//
// A tombstone may name packs that the parent has, too: of an older backup that shares
// them, or of a removal of the parent that goes no further. While the parent's head is
// there nobody removes them, and who looks at heads later sees this one.
func (r *run) kept(ctx context.Context) error {
	buried, err := r.buried(ctx)
	if err != nil {
		return err
	}
	if r.prior != nil {
		there, err := catalog.HeadExists(ctx, r.Objects, r.place, r.prior.head.ID)
		if err != nil {
			return err
		}
		for _, p := range r.prior.packs {
			if there {
				delete(buried, r.place.PackName(p.ID))
			}
		}
	}
	for _, name := range r.needs() {
		if buried[name] {
			return fmt.Errorf("completing the backup: %s is being removed: another process took this backup for dead", name)
		}
	}
	return r.present(ctx)
}

// needs lists the objects that the head leads to.
func (r *run) needs() []string {
	names := catalog.PartNames(r.place, r.id)
	for _, p := range r.names {
		names = append(names, r.place.PackName(p.ID))
	}
	return names
}
