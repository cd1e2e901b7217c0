package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/restore"
	"github.com/salvor-dr/salvor/internal/verify/trial"
)

// tried is a backup that was restored on trial.
type tried struct {
	trial.Goal
	trial.Result
}

// try restores a backup on trial, which no removal takes away meanwhile. It fails with
// catalog.ErrNoBackup, or *catalog.BeingRemoved, if one came before.
func (s *session) try(ctx context.Context, c *config.Config, r *repository, lives map[string]*catalog.Life, head catalog.Head, p *progress) (*tried, error) {
	key := r.name + "/" + head.Place().Prefix()
	life, ok := lives[key]
	if !ok {
		origin, err := catalog.ReadOrigin(ctx, r.objects, head.Place())
		if err != nil {
			return nil, err
		}
		one, err := catalog.ReadLife(ctx, r.objects, origin)
		if err != nil {
			return nil, err
		}
		life = &one
		lives[key] = life
	}
	goal, err := trial.FindGoal(ctx, r.objects, *life, head.ID)
	var out *trial.OutOfReach
	if errors.As(err, &out) {
		return &tried{Result: trial.Result{Problems: []catalog.Problem{out.Problem}}}, nil
	}
	if err != nil {
		return nil, err
	}
	o, err := s.trialOptions(ctx, c, goal, p)
	if err != nil {
		return nil, err
	}
	done, err := s.reading(ctx, c, r, goal.Choice, goal.Target)
	if err != nil {
		return nil, err
	}
	defer done(ctx, false)
	o.Restore = s.trialRestorer(c, r, goal)
	res, err := trial.Run(ctx, o)
	return &tried{goal, res}, err
}

// trialOptions is a trial as the configuration has it.
func (s *session) trialOptions(ctx context.Context, c *config.Config, goal trial.Goal, p *progress) (trial.Options, error) {
	head := goal.Choice.Backup
	o := trial.Options{Goal: goal, ScratchDir: c.Verify.ScratchDir, Database: c.Postgres.Database, User: c.Postgres.User,
		Dump: trial.Dump(c.Verify.Dump), Workers: c.Backup.Workers, CheckTimeout: time.Duration(c.Verify.CheckTimeout), Clock: s.clock,
		Events: trial.Events{
			Phase:    func(name string) { p.update(name, 0, 0) },
			Progress: func(done, total uint64) { p.update("restore", int64(done), int64(total)) },
			Warn:     func(m string) { s.log.Warn(m) },
		}}
	for _, q := range c.Verify.Checks {
		o.Checks = append(o.Checks, trial.SQLCheck{Name: q.Name, SQL: q.SQL, Database: q.Database})
	}
	var err error
	if o.BinDir, err = binDir(ctx, c, head.Version.Major()); err != nil {
		return o, err
	}
	o.Owner, err = scratchOwner(c, head)
	return o, err
}

// trialRestorer restores the goal's backup as `salvor restore` does: a copy, which
// fetches its WAL with the restore_command of any other.
func (s *session) trialRestorer(c *config.Config, r *repository, goal trial.Goal) trial.Restorer {
	return func(ctx context.Context, to trial.Place, progress func(done, total uint64)) (trial.Restored, error) {
		o := restore.Options{Choice: goal.Choice, Target: goal.Target, Objects: r.objects, To: to.DataDir, Tablespaces: to.Tablespaces,
			Action: restore.Promote, Workers: c.Backup.Workers, Clock: s.clock,
			Events: restore.Events{Progress: progress, Warn: func(m string) { s.log.Warn(m) }}}
		if err := s.chooseLife(c, &o); err != nil {
			return trial.Restored{}, err
		}
		res, err := restore.Run(ctx, o)
		return trial.Restored{Size: res.Restored, Fetched: res.Fetched, Written: res.Written}, err
	}
}

// provenIn notes in a proof what a trial took.
func (t *tried) provenIn(p *catalog.Proof) {
	if t.CopySeconds == 0 {
		return
	}
	p.Size, p.Fetched, p.Written, p.CopySeconds = t.Restored.Size, t.Restored.Fetched, t.Restored.Written, t.CopySeconds
	reached(p, t.Choice, t.Target, t.RecoveredTo, t.ReplaySeconds)
}

// scratchOwner is who runs the server of a trial, if this program is root, whom
// PostgreSQL refuses: the owner of the cluster's directory on this host, or who owned
// it on the source.
func scratchOwner(c *config.Config, head catalog.Head) (trial.Owner, error) {
	if os.Geteuid() != 0 {
		return trial.Owner{}, nil
	}
	info, err := os.Stat(c.Postgres.DataDir)
	if err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
			return trial.Owner{UID: int(st.Uid), GID: int(st.Gid)}, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return trial.Owner{}, err
	}
	u, err := user.Lookup(head.Owner.User)
	if err != nil {
		u, err = user.LookupId(head.Owner.User)
	}
	if err != nil || u.Uid == "0" {
		return trial.Owner{}, &failed{exitNotNow, "no_server_user", "run it as the user that PostgreSQL is to run as, or make that user",
			fmt.Errorf("the source belonged to user %s, who does not exist here, and PostgreSQL does not run as root", head.Owner.User)}
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return trial.Owner{UID: uid, GID: gid}, errors.Join(err1, err2)
}
