package trial

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
)

// Result is what a trial found, and what it took.
type Result struct {
	Checks   []catalog.Check
	Problems []catalog.Problem

	Restored    Restored
	CopySeconds float64 // of the restore; 0 if it failed

	// What follows is there if the server recovered.

	RecoveredTo   pg.LSN
	RecoveredAt   time.Time // of the last transaction that was replayed; zero if none was
	ReplaySeconds float64   // from the server's start until it was promoted
}

// OK says that nothing is wrong with the backup.
func (r Result) OK() bool { return len(r.Problems) == 0 }

// run is one trial on its way.
type run struct {
	Options
	scratch *scratch
	preload string // libraries that the WAL demands
	super   string // a superuser of the cluster
	res     Result
}

// Run tries a backup. What is wrong with it is in the result; an error says that
// nothing was found out: *NoRoom or *Unfit if the trial could not be begun.
func Run(ctx context.Context, o Options) (res Result, err error) {
	if err := o.validate(); err != nil {
		return Result{}, err
	}
	removed, err := Sweep(o.ScratchDir, o.Owner)
	for _, dir := range removed {
		o.Events.Warn("removed " + dir + ", which a verification left that was killed")
	}
	if err != nil {
		o.Events.Warn(err.Error())
	}
	if err := checkRoom(o.ScratchDir, o.Goal); err != nil {
		return Result{}, err
	}
	s, err := makeScratch(o.ScratchDir, o.Owner)
	if err != nil {
		return Result{}, err
	}
	defer func() {
		if e := s.close(); e != nil {
			err = errors.Join(err, fmt.Errorf("removing the scratch directory %s: %w", s.dir, e))
		}
	}()
	r := &run{Options: o, scratch: s}
	err = r.all(ctx)
	return r.res, err
}

// all makes the trial, as far as it gets.
func (r *run) all(ctx context.Context) error {
	if ok, err := r.restore(ctx); !ok {
		return err
	}
	if ok, err := r.replay(ctx); !ok {
		return err
	}
	if err := r.pages(ctx); err != nil {
		return err
	}
	if ok, err := r.open(ctx); !ok {
		return err
	}
	databases, err := r.databases(ctx)
	if err == nil {
		err = r.amcheck(ctx, databases)
	}
	if err == nil {
		err = r.dump(ctx, databases)
	}
	for _, c := range r.Checks {
		if err == nil {
			err = r.ask(ctx, c)
		}
	}
	if err == nil || ctx.Err() != nil || !conn.Unavailable(err) {
		return err
	}
	// It ran, and is gone: what is in its files may have brought it down.
	r.problem(catalog.Problem{Kind: NotRecovered, Detail: fmt.Sprintf("the restored server ended while it was looked at: %v", err)})
	return nil
}

// problem notes something that is wrong.
func (r *run) problem(p catalog.Problem) { r.res.Problems = append(r.res.Problems, p) }

// check notes what was looked at since began.
func (r *run) check(name string, began time.Time, ok bool, detail string) {
	r.res.Checks = append(r.res.Checks, catalog.Check{Name: name, OK: ok, Seconds: r.since(began), Detail: detail})
}

// skip notes what could not be looked at, and says so.
func (r *run) skip(name string, began time.Time, why string) {
	r.res.Checks = append(r.res.Checks, catalog.Check{Name: name, Skipped: true, Seconds: r.since(began), Detail: why})
	r.Events.Warn(fmt.Sprintf("not everything of backup %s could be checked: %s: %s", r.head().ID, name, why))
}

func (r *run) since(began time.Time) float64 { return r.Clock.Now().Sub(began).Seconds() }

// restore copies the backup, and says whether there is something to start.
func (r *run) restore(ctx context.Context) (ok bool, err error) {
	r.Events.Phase("restore")
	began := r.Clock.Now()
	r.res.Restored, err = r.Restore(ctx, r.scratch.place(r.head()), r.Events.Progress)
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case repo.Unreadable(err) || errors.Is(err, store.ErrNotFound):
		r.check("restore", began, false, err.Error())
		r.problem(problemOf(err))
		return false, nil
	case err != nil:
		return false, err
	}
	r.res.CopySeconds = r.since(began)
	r.check("restore", began, true, fmt.Sprintf("%d bytes", r.res.Restored.Size))
	return true, nil
}

// oneLine makes a text of several lines one that fits into a list.
func oneLine(s string, most int) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + " …"
	}
	return s
}
