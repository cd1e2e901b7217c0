package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	"github.com/salvor-dr/salvor/internal/repo/pack"
	"github.com/salvor-dr/salvor/internal/store"
)

// run is one backup on its way.
type run struct {
	Options
	source source
	place  catalog.Place
	id     string
	head   catalog.Head
	packs  packs
	names  []catalog.NamedPack // packs that the backup names, once that is known
	pool   *pack.Pool          // what backups stored that were cut off, or nil
	parent *catalog.Head       // of an incremental backup, or nil
	prior  *prior              // the same, opened
}

// Run makes a backup and returns its head. When it returns without error the
// backup is restorable: everything it needs is durable in the repository.
//
// It fails with *Refusal where none can be made as things are, with *lock.Held if another
// backup of the cluster runs, with *lock.Cancelled if somebody asked for that, with
// *ArchiveTimeout, *DamagedParent, or with what failed; then nothing of the backup is visible.
func Run(ctx context.Context, o Options) (catalog.Head, error) {
	if err := o.validate(); err != nil {
		return catalog.Head{}, err
	}
	src, err := look(ctx, &o)
	defer src.primary.close()
	if err != nil {
		return catalog.Head{}, err
	}
	r := &run{Options: o, source: src, place: src.place, id: catalog.NewBackupID(o.Clock.Now())}
	lease, held, err := o.Locks.Acquire(ctx, r.place.BackupLock(), func(why error) {
		text := fmt.Sprintf("%v: watching it for %s, and taking its place if it does not change", why, lock.TTL)
		if h := (*lock.Held)(nil); errors.As(why, &h) {
			text = fmt.Sprintf("another backup, of process %d on %s, shows no life: watching it for %s", h.Holder.PID, h.Holder.Host, lock.TTL)
		}
		o.Events.Warn(text)
	})
	if err != nil {
		return catalog.Head{}, err
	}
	defer lease.Release(context.WithoutCancel(ctx))
	r.tell(lease)
	if r.parent, err = r.choose(held); err != nil {
		return catalog.Head{}, r.reason(held, err)
	}
	if err = r.adopt(held); err == nil {
		err = r.all(held, lease)
	}
	if err != nil {
		r.leave(context.WithoutCancel(ctx), lease, err)
		return catalog.Head{}, r.reason(held, err)
	}
	r.unmark(context.WithoutCancel(ctx))
	return r.head, nil
}

// all does steps 3 to 7.
func (r *run) all(ctx context.Context, lease *lock.Lease) error {
	began := r.Clock.Now()
	r.Events.Phase("checkpoint")
	slot, err := r.holdWAL(ctx)
	if err != nil {
		return err
	}
	defer slot.drop()
	if err := r.catchUp(ctx); err != nil {
		return fmt.Errorf("bringing the standby to a new checkpoint: %w", err)
	}
	b, err := r.Conn.StartBackup(ctx, "salvor "+r.id, !r.Spread)
	if err != nil {
		return fmt.Errorf("starting the backup: %w", err)
	}
	defer b.Abort(context.WithoutCancel(ctx))
	r.begin(b)
	r.Events.Phase("changes")
	if err := r.databases(ctx); err != nil {
		return err
	}
	if err := r.begun(ctx, b); err != nil {
		return err
	}

	r.Events.Phase("copy")
	copied, err := r.copy(ctx, b)
	if err != nil {
		return err
	}
	stop, err := b.Stop(ctx, false)
	if err != nil {
		return fmt.Errorf("stopping the backup: %w", err)
	}
	r.end(stop)
	r.endSegment(ctx)

	r.Events.Phase("wal")
	if err := r.secureWAL(ctx, copied, slot); err != nil {
		return err
	}
	r.Events.Phase("finish")
	if err := r.lists(ctx, copied); err != nil {
		return err
	}
	if err := lease.Check(ctx); err != nil {
		return err
	}
	r.head.Seconds = r.Clock.Now().Sub(began).Seconds()
	return r.complete(ctx)
}

// begin notes what is known once the server is in backup mode.
func (r *run) begin(b *conn.Backup) {
	s := r.source
	r.head = catalog.Head{
		ID: r.id, Kind: catalog.Full, Program: r.Program,
		Cluster: r.place.Cluster, SystemID: r.place.SystemID, Incarnation: r.place.Incarnation,
		StartedAt: b.StartedAt, StartLSN: b.StartLSN, Timeline: b.Timeline, FromStandby: b.FromStandby,
		Version: s.server.Version, CatalogVersion: s.control.CatalogVersion, Sizes: s.control.Sizes,
		Checksums: s.control.DataChecksumVersion != 0, WALIncluded: r.WithWAL,
		Owner: s.owner, Needs: s.needs, Slots: s.slots, Collations: s.collations,
		Annotations: r.Annotations,
	}
}

func (r *run) end(s conn.StopResult) {
	r.head.StopLSN, r.head.StoppedAt = s.StopLSN, s.StopTime
	r.head.Label, r.head.TablespaceMap = string(s.Label), string(s.TablespaceMap)
}

// lists writes what the head names.
func (r *run) lists(ctx context.Context, c *copied) error {
	table, err := catalog.CreateFiles(ctx, r.Objects, r.place, r.id)
	if err != nil {
		return err
	}
	defer table.Abort()
	for f, err := range c.table() {
		if err != nil {
			return err
		}
		if err := table.Add(f); err != nil {
			return err
		}
		r.head.Size += f.Size
		if f.Kind == catalog.Regular {
			r.head.FileCount++
		}
	}
	var size uint64
	if r.head.FilesHeader, size, err = table.Commit(); err != nil {
		return err
	}
	r.head.Stored += size
	if err := r.dropped(ctx, c); err != nil {
		return err
	}
	if r.names, err = c.census.named(r.known()); err != nil {
		return err
	}
	if r.head.PacksHeader, size, err = catalog.WritePacks(ctx, r.Objects, r.place, r.id, r.names); err != nil {
		return err
	}
	r.head.Stored += size
	for _, p := range r.packs.infos() {
		r.head.Stored += p.Size
	}
	r.head.Read, r.head.PagesRead, r.head.PagesStored = c.read.Load(), c.pagesRead.Load(), c.pagesStored.Load()
	r.head.Adopted, r.head.Forwarded = c.adopted.Load(), c.forwarded.Load()
	r.head.Damaged, r.head.InFlight = c.damaged(), sorted(c.inFlight)
	return nil
}

func (r *run) unmark(ctx context.Context) {
	if err := catalog.RemoveRunning(ctx, r.Objects, r.place, r.id); err != nil {
		r.Events.Warn(fmt.Sprintf("removing the mark of the backup: %v", err))
	}
}

// leave ends a backup that failed. The packs that are complete stay, with the mark
// that leads the next backup to them: what was copied in hours is not copied again.
// But where there was no room for more they go, or there would be none for the WAL.
func (r *run) leave(ctx context.Context, lease *lock.Lease, why error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r.packs.abort()
	// Without the lock they may be another's by now.
	if errors.Is(why, store.ErrNoSpace) && lease.Check(ctx) == nil {
		if err := r.discard(ctx); err != nil {
			r.Events.Warn(fmt.Sprintf("removing what the backup stored where no room is left: %v", err))
			return
		}
	}
	if len(r.packs.infos()) == 0 && (r.pool == nil || len(r.pool.Used()) == 0) {
		r.unmark(ctx)
		return
	}
	r.Events.Warn("what the backup has stored is kept for a while: the next one uses it")
}

// discard removes the backup's own packs.
func (r *run) discard(ctx context.Context) error {
	for _, p := range r.packs.infos() {
		if err := r.Objects.Store().Delete(ctx, r.place.PackName(p.ID), ""); err != nil {
			return err
		}
	}
	r.packs = packs{}
	return nil
}
