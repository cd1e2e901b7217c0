package trial

import (
	"context"
	"errors"
	"fmt"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// Goal is how far the recovery of a trial goes.
type Goal struct {
	Choice catalog.Choice
	Target catalog.Target
	// Short says why that is not the newest WAL; "" if it is.
	Short string
}

// Replay is about how much WAL lies on the way, in bytes.
func (g Goal) Replay() uint64 {
	return uint64(max(g.Choice.StopLSN, g.Choice.Backup.StopLSN) - g.Choice.Backup.StartLSN)
}

// FindGoal says how far a backup of the life can be recovered on a trial: to the
// newest WAL, or to the last transaction before a segment that is missing, or at least
// to where the backup is consistent. It fails with *OutOfReach if not even that can
// be, and with catalog.ErrNoBackup or *catalog.Unreadable as Resolve does.
func FindGoal(ctx context.Context, objects *seal.Objects, life catalog.Life, id string) (Goal, error) {
	g, err := furthest(ctx, objects, life, id)
	var no *catalog.NotCovered
	switch {
	case errors.As(err, &no):
		return Goal{}, &OutOfReach{catalog.Problem{Kind: NotReachable, Detail: no.Reason}}
	case repo.Unreadable(err):
		return Goal{}, &OutOfReach{problemOf(err)}
	case err != nil:
		return Goal{}, err
	}
	return g.inside(ctx, objects, life)
}

func furthest(ctx context.Context, objects *seal.Objects, life catalog.Life, id string) (Goal, error) {
	var why error
	for _, timeline := range []catalog.TimelineChoice{catalog.Latest, catalog.Current} {
		t := catalog.Target{Kind: catalog.ToLatest, BackupID: id, Timeline: timeline}
		c, err := life.Resolve(ctx, objects, t)
		if err == nil {
			return Goal{Choice: c, Target: t, Short: text(why)}, nil
		}
		if !errors.As(err, new(*catalog.NotCovered)) {
			return Goal{}, err
		}
		if why == nil {
			why = reason(err)
		}
	}
	t := catalog.Target{Kind: catalog.ToImmediate, BackupID: id}
	c, err := life.Resolve(ctx, objects, t)
	if err != nil {
		return Goal{}, err
	}
	g := Goal{Choice: c, Target: t, Short: text(why)}
	last, ok, err := catalog.LastEvent(ctx, objects, c.Archive, c.Path, c.Backup.StopLSN)
	if err != nil || !ok {
		return g, err
	}
	t = catalog.Target{Kind: catalog.ToLSN, LSN: last.LSN, BackupID: id, Timeline: catalog.Current}
	if c, err = life.Resolve(ctx, objects, t); err == nil {
		g.Choice, g.Target = c, t
	}
	return g, nil
}

func reason(err error) error {
	var no *catalog.NotCovered
	if errors.As(err, &no) {
		return errors.New(no.Reason)
	}
	return err
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// inside ends the recovery before it would create a tablespace: PostgreSQL makes that
// where it was, which on this host may be the original's.
func (g Goal) inside(ctx context.Context, objects *seal.Objects, life catalog.Life) (Goal, error) {
	created, err := g.Choice.NewTablespaces(ctx, objects, g.Target)
	if err != nil || len(created) == 0 {
		return g, err
	}
	h := g.Choice.Backup
	first := created[0]
	for _, t := range created[1:] {
		if t.LSN < first.LSN {
			first = t
		}
	}
	outside := fmt.Sprintf("the WAL creates tablespace %d at %s, and PostgreSQL would make it in %s, where the original has it", first.OID, first.LSN, first.Location)
	if first.LSN < h.StopLSN {
		return Goal{}, &OutOfReach{catalog.Problem{Kind: OutsideNeeded, Detail: outside + ", before the backup is consistent: make a newer backup"}}
	}
	t := catalog.Target{Kind: catalog.ToLSN, LSN: first.LSN, Exclusive: true, BackupID: h.ID, Timeline: timelineOf(g)}
	c, err := life.Resolve(ctx, objects, t)
	if err != nil {
		return Goal{}, fmt.Errorf("ending a recovery before it creates tablespace %d: %w", first.OID, err)
	}
	return Goal{Choice: c, Target: t, Short: outside}, nil
}

func timelineOf(g Goal) catalog.TimelineChoice {
	if tli := g.Choice.Path.History.Timeline; tli != pg.Timeline(0) {
		return catalog.TimelineChoice(tli)
	}
	return catalog.Current
}

// problemOf is damage in the repository as a problem.
func problemOf(err error) catalog.Problem {
	p := catalog.Problem{Kind: Damaged, Detail: err.Error()}
	var d *repo.Damage
	if errors.As(err, &d) {
		p.Object = d.Object
	}
	return p
}
