package catalog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// Purged says up to where WAL was removed, or is about to be, because nothing that is
// kept needs it: what is missing before is not lost. It is written before the first
// segment goes. The newest says it all; older ones are removed after it was written.
type Purged struct {
	ID        repo.ID      `json:"-"`
	At        time.Time    `json:"at"`
	Timelines []PurgedLine `json:"timelines"`
}

// PurgedLine is what was purged of one timeline.
type PurgedLine struct {
	Timeline pg.Timeline `json:"timeline"`
	Before   pg.LSN      `json:"before_lsn"`
}

// WritePurged writes where the WAL of each timeline begins that is kept without a gap,
// and removes what said so before. A position never goes back.
func WritePurged(ctx context.Context, objects *seal.Objects, p Place, at time.Time, before map[pg.Timeline]pg.LSN) error {
	old, err := readPurged(ctx, objects, p)
	if err != nil {
		return err
	}
	all := mergePurged(old)
	for tli, lsn := range before {
		all[tli] = max(all[tli], lsn)
	}
	v := Purged{ID: repo.NewID(), At: at.UTC()}
	for tli, lsn := range all {
		v.Timelines = append(v.Timelines, PurgedLine{tli, lsn})
	}
	slices.SortFunc(v.Timelines, func(a, b PurgedLine) int { return cmp.Compare(a.Timeline, b.Timeline) })
	if err := putDocument(ctx, objects, p.purgedPrefix()+v.ID.String(), seal.Purged, v); err != nil {
		return err
	}
	for _, o := range old {
		if err := objects.Store().Delete(ctx, p.purgedPrefix()+o.ID.String(), ""); err != nil {
			return fmt.Errorf("removing what said before where WAL begins: %w", err)
		}
	}
	return nil
}

// ReadPurged gives for each timeline of a place up to where its WAL was removed.
func ReadPurged(ctx context.Context, objects *seal.Objects, p Place) (map[pg.Timeline]pg.LSN, error) {
	all, err := readPurged(ctx, objects, p)
	return mergePurged(all), err
}

func mergePurged(all []Purged) map[pg.Timeline]pg.LSN {
	before := map[pg.Timeline]pg.LSN{}
	for _, v := range all {
		for _, l := range v.Timelines {
			before[l.Timeline] = max(before[l.Timeline], l.Before)
		}
	}
	return before
}

func readPurged(ctx context.Context, objects *seal.Objects, p Place) ([]Purged, error) {
	all, err := marks(ctx, objects, p.purgedPrefix(), seal.Purged, func(v *Purged, name string) bool {
		id, err := repo.ParseID(name)
		v.ID = id
		return err == nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for where WAL begins: %w", err)
	}
	return all, nil
}

// readPurged notes with each line of the archive what was purged of it.
func (a *Archive) readPurged(ctx context.Context, objects *seal.Objects) error {
	before, err := ReadPurged(ctx, objects, a.Place)
	for i := range a.Lines {
		a.Lines[i].Purged = before[a.Lines[i].Timeline]
	}
	return err
}
