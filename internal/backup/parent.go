package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// choose finds the newest backup that can be the parent, as far as that can be told
// before the server is in backup mode. There is none for a full backup.
func (r *run) choose(ctx context.Context) (*catalog.Head, error) {
	if r.Kind == Full {
		return nil, nil
	}
	heads, unreadable, err := catalog.ReadHeads(ctx, r.Objects, r.place)
	if err != nil {
		return nil, err
	}
	for _, bad := range unreadable {
		r.Events.Warn(fmt.Sprintf("not considered as parent: %v", bad))
	}
	why := "there is no earlier backup"
	for i := len(heads) - 1; i >= 0; i-- {
		if why = r.unfit(heads[i]); why == "" {
			return &heads[i], nil
		}
		why = fmt.Sprintf("backup %s cannot be its parent: %s", heads[i].ID, why)
	}
	return nil, r.noParent(why)
}

// noParent is an error where an incremental backup was asked for, and else nil: then
// the backup is full.
func (r *run) noParent(why string) error {
	if r.Kind == Incremental {
		return refuse("make a full one: salvor backup --kind full", "no incremental backup can be made: %s", why)
	}
	r.Events.Warn("the backup is full: " + why)
	return nil
}

// unfit says why a backup cannot be the parent; "" if nothing is known against it.
func (r *run) unfit(h catalog.Head) string {
	control := r.source.control
	switch {
	case h.Sizes != control.Sizes || h.CatalogVersion != control.CatalogVersion:
		return "it is of another version of the server"
	case h.Checksums != (control.DataChecksumVersion != 0):
		return "data checksums have been switched since, which changes pages without a trace in the WAL"
	}
	return ""
}

// follows says why the backup that began cannot continue h; "" if it can. Everything
// that h has must be of this history, and older than this backup's start: or a page
// that h read late could be newer than one that is read now.
func (r *run) follows(ctx context.Context, h catalog.Head, b *conn.Backup) (string, error) {
	if h.StopLSN > b.StartLSN {
		return fmt.Sprintf("it stopped at %s, and this one starts at %s already", h.StopLSN, b.StartLSN), nil
	}
	if h.Timeline == b.Timeline {
		return "", nil
	}
	history, err := r.history(ctx, b.Timeline)
	if err != nil {
		return "", err
	}
	if !history.Contains(h.Timeline, h.StopLSN) {
		return fmt.Sprintf("it is of timeline %d, which timeline %d left before it stopped at %s", h.Timeline, b.Timeline, h.StopLSN), nil
	}
	return "", nil
}

// history reads the history of the server's timeline, from its directory or else from
// the archive.
func (r *run) history(ctx context.Context, tli pg.Timeline) (pg.History, error) {
	name := tli.HistoryName()
	data, err := os.ReadFile(filepath.Join(r.DataDir, "pg_wal", name))
	if errors.Is(err, os.ErrNotExist) {
		data, err = r.Objects.Get(ctx, r.place.WALName(tli, name), seal.WALSmall)
	}
	if err != nil {
		return pg.History{}, fmt.Errorf("reading the history of timeline %d: %w", tli, err)
	}
	return pg.ParseHistory(tli, data)
}

// begun looks whether the parent that was chosen is one, now that the start is known.
func (r *run) begun(ctx context.Context, b *conn.Backup) error {
	if r.parent == nil {
		return nil
	}
	why, err := r.follows(ctx, *r.parent, b)
	if ctx.Err() != nil || errors.Is(err, store.ErrUnavailable) {
		return err
	}
	if err != nil {
		why = err.Error()
	}
	if why != "" {
		h := r.parent
		r.parent = nil
		return r.noParent(fmt.Sprintf("backup %s cannot be its parent: %s", h.ID, why))
	}
	r.prior, err = r.openPrior(ctx, *r.parent)
	if err == nil {
		err = r.intact(ctx, catalog.PackInfos(r.prior.packs))
	}
	if err == nil {
		err = r.detect(ctx, b)
	}
	if errors.Is(err, repo.ErrDamaged) {
		h := r.parent
		r.parent, r.prior = nil, nil
		return r.noParent(fmt.Sprintf("backup %s cannot be its parent: %v", h.ID, err))
	}
	if err != nil {
		return err
	}
	r.head.Kind, r.head.ParentID, r.head.Detector = catalog.Incremental, r.parent.ID, r.Detect
	return nil
}

// heldParent fails if the parent went between its choice and the mark that names it: from
// the mark on no removal takes it.
func (r *run) heldParent(ctx context.Context) error {
	if r.parent == nil {
		return nil
	}
	h, err := catalog.Reread(ctx, r.Objects, *r.parent)
	if err == nil {
		var there bool
		if there, err = catalog.HeadExists(ctx, r.Objects, r.place, h.ID); err == nil && !there {
			err = catalog.ErrNoBackup
		}
	}
	if errors.Is(err, catalog.ErrNoBackup) {
		return r.lostParent()
	}
	if err != nil {
		return err
	}
	r.parent = &h
	buried, err := r.buried(ctx)
	if err != nil {
		return err
	}
	for _, part := range catalog.PartNames(r.place, r.parent.ID) {
		if buried[part] {
			return r.lostParent()
		}
	}
	return nil
}

func (r *run) lostParent() error {
	return refuse("run it again", "backup %s, which was to be the parent, is being deleted", r.parent.ID)
}
