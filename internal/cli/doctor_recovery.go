package cli

import (
	"context"
	"errors"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
)

const (
	// graceWithoutBackup is how long after its registration a cluster may be without
	// a backup before that is a problem.
	graceWithoutBackup = 24 * time.Hour

	// backupAgeMax is when a backup is old: all WAL since must be replayed.
	backupAgeMax = 7 * 24 * time.Hour
)

func recoveryChecks() []check {
	return []check{
		{
			name: "last_backup", title: "last backup", probe: probeLastBackup,
			why: "WAL alone restores nothing, and the older the backup, the longer its replay takes",
		},
		{
			name: "last_proof", title: "last restore that was proven", probe: probeLastProof,
			why: "a backup that was never restored is a hope",
		},
		{
			name: "recovery_window", title: "what can be recovered", each: true, needs: []string{"repository_opens"}, probe: probeWindow,
			why: "a segment that is missing cuts off all that comes after it, up to the next backup",
		},
	}
}

// newest gives the newest backup of the cluster's present place in any repository,
// and when the place was made.
func (e *examination) newest(ctx context.Context) (last catalog.Head, repository string, registered time.Time, err error) {
	for _, r := range e.opened() {
		life, err := e.life(ctx, e.c, r.open)
		if errors.Is(err, catalog.ErrNoPlace) {
			continue
		}
		if err != nil {
			return last, "", registered, err
		}
		if at := life.Origin.CreatedAt; registered.IsZero() || at.Before(registered) {
			registered = at
		}
		if n := len(life.Backups); n > 0 && life.Backups[n-1].StoppedAt.After(last.StoppedAt) {
			last, repository = life.Backups[n-1], r.Name
		}
	}
	return last, repository, registered, nil
}

func probeLastBackup(ctx context.Context, e *examination, _ *examined, v *verdict) {
	if len(e.opened()) == 0 {
		v.skip("no repository opens")
		return
	}
	last, repository, registered, err := e.newest(ctx)
	fix, now := e.command("backup"), e.clock.Now()
	switch age := now.Sub(last.StoppedAt); {
	case err != nil:
		v.fail(err)
	case registered.IsZero():
		v.skip("the cluster has no place in a repository")
	case last.ID == "" && now.Sub(registered) < graceWithoutBackup:
		v.warn(fix, "there is none yet: nothing can be recovered")
	case last.ID == "":
		v.problem(fix, "there is none, %s after the cluster was registered: nothing can be recovered", formatDuration(now.Sub(registered)))
	case age > backupAgeMax:
		v.warn(fix, "%s in repository %s is %s old", last.ID, repository, formatDuration(age))
	default:
		v.say("%s in repository %s, %s old", last.ID, repository, formatDuration(max(age, 0)))
	}
}

// probeLastProof looks for a restore that was seen to work, and for verifications that
// found problems.
func probeLastProof(ctx context.Context, e *examination, _ *examined, v *verdict) {
	last, _, _, err := e.newest(ctx)
	if err != nil || last.ID == "" {
		v.skip("there is no backup that could be restored")
		return
	}
	var restored catalog.Proof
	for _, r := range e.opened() {
		p := e.proven(ctx, e.c, r.open)
		if p.restored.StartedAt.After(restored.StartedAt) {
			restored = p.restored
		}
		life, err := e.life(ctx, e.c, r.open)
		if err != nil {
			continue // other checks tell of it
		}
		for _, h := range life.Backups {
			if failed := p.backups[h.ID].Failed; failed.ID != "" {
				v.problem(e.command("proof show "+failed.ID), "repository %s: verification of backup %s at level %s found problems", r.Name, h.ID, failed.Level)
			}
		}
	}
	fix := e.command("verify --level restore")
	switch age := e.clock.Now().Sub(restored.StartedAt); {
	case restored.ID == "":
		v.warn(fix, "no backup was ever restored, as far as is known")
	case age > provenAgeMax:
		v.warn(fix, "%s, %s old", restored.ID, formatDuration(age))
	default:
		v.say("%s, %s old, of backup %s", restored.ID, formatDuration(max(age, 0)), restored.BackupID)
	}
}

func probeWindow(ctx context.Context, e *examination, r *examined, v *verdict) {
	life, err := e.life(ctx, e.c, r.open)
	if errors.Is(err, catalog.ErrNoPlace) {
		v.skip("the cluster has no place in it")
		return
	}
	if err != nil {
		v.fail(err)
		return
	}
	fix := e.command("backup --repo " + shellWord(r.Name))
	for _, err := range life.Unreadable {
		v.problem("make another backup: "+fix, "%v", err)
	}
	for _, err := range life.Archive.Unreadable() {
		v.problem("the others can be restored, with --timeline; a new backup does not bring this one back", "%v", err)
	}
	if len(life.Backups) == 0 {
		v.skip("it has no backup: %s", fix)
		return
	}
	w, err := life.Window(ctx, r.open.objects)
	switch {
	case err != nil:
		v.fail(err)
		return
	case !w.OK:
		v.problem(fix, "nothing: %s", w.Reason)
	case w.Hole:
		v.problem(fix, "WAL is lost after %s: nothing since %s can be recovered", w.EndLSN, formatTime(w.To.Time))
	default:
		v.say("%s to %s", formatTime(w.From), formatTime(w.To.Time))
	}
	if n := lostRanges(life.Archive); n > 0 && !w.Hole {
		v.warn("nothing brings it back; backups after it are whole: "+e.command("wal status"), "WAL is lost in %d older places", n)
	}
}

// lostRanges counts the holes in the archive.
func lostRanges(a catalog.Archive) (n int) {
	for _, l := range a.Lines {
		for _, r := range a.Ranges(l) {
			if r.Lost {
				n++
			}
		}
	}
	return n
}
