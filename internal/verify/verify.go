package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/pack"
)

// Report is what a verification found.
type Report struct {
	Level   catalog.VerifyLevel
	Backups []Backup // oldest first; those that cannot be read at the end
	// Problems are those that none of the backups has: of the archive after they stopped,
	// of what no file of theirs is in.
	Problems []catalog.Problem
	Read     uint64        // bytes of packs and WAL that were read, as stored
	Took     time.Duration // all of it: what backups share is read once
}

// OK says whether nothing was found.
func (r Report) OK() bool {
	return len(r.Problems) == 0 && !slices.ContainsFunc(r.Backups, func(b Backup) bool { return !b.OK() })
}

// Backup is what was found of one backup. It is sound at the report's level if it has no
// problems, and may then be restored to prove more.
type Backup struct {
	ID       string
	Head     *catalog.Head // nil if it cannot be read
	Problems []catalog.Problem
	More     int // problems beyond those that are listed
	// Known are the pages that do not check and that the backup knew when it was made.
	Known  int
	Checks []catalog.Check
}

// OK says whether the backup has no problem.
func (b Backup) OK() bool { return len(b.Problems) == 0 }

// stage is a part of a verification, by which its checks are told.
type stage string

const (
	manifestStage stage = "manifest" // head, file table, list of packs
	packStage     stage = "packs"
	fileStage     stage = "files"
	walStage      stage = "wal"
)

// verification is one under way.
type verification struct {
	Options
	origin  catalog.Origin
	archive catalog.Archive
	backups []*backup
	others  problems
	packs   map[repo.ID]*packState
	reader  *pack.Reader // of all of packs
	read    counter
	took    map[stage]time.Duration
}

// backup is one that is being verified.
type backup struct {
	id       string
	head     *catalog.Head
	broken   bool       // its lists cannot be read
	mu       sync.Mutex // of found
	found    map[stage]*problems
	known    map[catalog.BadPage]bool // without a reason
	seen     map[catalog.BadPage]bool // of known, those that were found
	included []catalog.File           // its own WAL
}

func (b *backup) add(s stage, p catalog.Problem) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.found[s] == nil {
		b.found[s] = &problems{}
	}
	b.found[s].add(p)
}

// Run verifies backups of one place, at the levels objects and data. It fails with
// catalog.ErrNoBackup if there is none of an identifier, and with an error of the store
// where that cannot be asked. What is wrong with what is stored is no error of Run.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := o.validate(); err != nil {
		return Report{}, err
	}
	v := &verification{Options: o, packs: map[repo.ID]*packState{}, took: map[stage]time.Duration{}}
	began := o.Clock.Now()
	for _, step := range []struct {
		stage stage
		do    func(context.Context) error
	}{
		{manifestStage, v.find}, {manifestStage, v.lists}, {packStage, v.present},
		{packStage, v.readPacks}, {fileStage, v.digests}, {walStage, v.wal}, {packStage, v.blame},
	} {
		if o.WALOnly && (step.stage == packStage || step.stage == fileStage) {
			continue
		}
		since := o.Clock.Now()
		if err := step.do(ctx); err != nil {
			return Report{}, err
		}
		v.took[step.stage] += o.Clock.Now().Sub(since)
	}
	if err := v.forgetRemoved(ctx, false); err != nil {
		return Report{}, err
	}
	r := Report{Level: o.Level, Problems: v.others.list, Read: v.read.n.Load(), Took: o.Clock.Now().Sub(began)}
	for _, b := range v.backups {
		r.Backups = append(r.Backups, v.result(b))
	}
	return r, nil
}

// data says whether everything is to be read.
func (v *verification) data() bool { return v.Level != catalog.VerifyObjects }

// find finds the backups. A place whose origin is damaged can still have sound ones.
func (v *verification) find(ctx context.Context) error {
	heads, bad, err := catalog.ReadHeads(ctx, v.Objects, v.Place)
	if err != nil {
		return err
	}
	wanted := func(id string) bool { return v.IDs == nil || slices.Contains(v.IDs, id) }
	for _, h := range heads {
		if wanted(h.ID) {
			v.backups = append(v.backups, newBackup(h))
		}
	}
	for _, err := range bad {
		var u *catalog.Unreadable
		if !errors.As(err, &u) {
			return err
		}
		if !wanted(u.ID) {
			continue
		}
		b := &backup{id: u.ID, broken: true, found: map[stage]*problems{}}
		p, err := v.problem(ctx, catalog.HeadName(v.Place, u.ID), u.Err)
		if err != nil {
			return err
		}
		b.add(manifestStage, p)
		v.backups = append(v.backups, b)
	}
	for _, id := range v.IDs {
		if !slices.ContainsFunc(v.backups, func(b *backup) bool { return b.id == id }) {
			return fmt.Errorf("%s: %w", id, catalog.ErrNoBackup)
		}
	}
	return v.findOrigin(ctx)
}

func newBackup(h catalog.Head) *backup {
	b := &backup{id: h.ID, head: &h, found: map[stage]*problems{}, known: map[catalog.BadPage]bool{}, seen: map[catalog.BadPage]bool{}}
	for _, p := range slices.Concat(h.Damaged, h.InFlight) {
		b.known[catalog.BadPage{Path: p.Path, Block: p.Block}] = true
	}
	return b
}

// findOrigin reads the origin of the place. What it says of sizes the heads say, too.
func (v *verification) findOrigin(ctx context.Context) error {
	var err error
	v.origin, err = catalog.ReadOrigin(ctx, v.Objects, v.Place)
	if !unreadable(err) && !errors.Is(err, catalog.ErrNoPlace) {
		return err
	}
	p, perr := v.problem(ctx, v.Place.Prefix()+"origin", err)
	if perr != nil {
		return perr
	}
	v.origin = catalog.Origin{Cluster: v.Place.Cluster, SystemID: v.Place.SystemID, Incarnation: v.Place.Incarnation}
	for _, b := range v.backups {
		b.add(manifestStage, p) // no restore finds the place without it
		if b.head != nil {
			v.origin.Sizes, v.origin.Version = b.head.Sizes, b.head.Version
		}
	}
	if len(v.backups) == 0 {
		v.others.add(p)
	}
	return nil
}

// forgetRemoved leaves out what was removed meanwhile, of the backups that have problems
// or, while it is not known yet whose the damaged packs are, of all.
func (v *verification) forgetRemoved(ctx context.Context, all bool) error {
	for i, b := range v.backups {
		if len(b.found) == 0 && !all {
			continue
		}
		there, err := catalog.HeadExists(ctx, v.Objects, v.Place, b.id)
		if err != nil {
			return err
		}
		if !there {
			v.Events.Warn(fmt.Sprintf("backup %s was removed while it was verified", b.id))
			v.backups[i] = nil
		}
	}
	v.backups = slices.DeleteFunc(v.backups, func(b *backup) bool { return b == nil })
	return nil
}

// Again gives a report with what another one says of the WAL, which was looked at alone.
func (r Report) Again(wal Report) Report {
	of := func(p catalog.Problem) bool {
		return strings.Contains(p.Object, "/wal/") || p.Kind == WALHole || p.Kind == WALDamaged
	}
	notOf := func(p catalog.Problem) bool { return !of(p) }
	mix := func(before, now []catalog.Problem) []catalog.Problem {
		return append(slices.DeleteFunc(slices.Clone(before), of), slices.DeleteFunc(slices.Clone(now), notOf)...)
	}
	r.Problems = mix(r.Problems, wal.Problems)
	r.Took += wal.Took
	r.Read += wal.Read
	r.Backups = slices.Clone(r.Backups)
	for i, b := range r.Backups {
		j := slices.IndexFunc(wal.Backups, func(w Backup) bool { return w.ID == b.ID })
		if j < 0 {
			continue // removed meanwhile
		}
		b.Problems = mix(b.Problems, wal.Backups[j].Problems)
		b.Checks = slices.Clone(b.Checks)
		for _, c := range wal.Backups[j].Checks {
			if k := slices.IndexFunc(b.Checks, func(o catalog.Check) bool { return o.Name == c.Name }); c.Name == string(walStage) && k >= 0 {
				b.Checks[k] = c
			}
		}
		r.Backups[i] = b
	}
	return r
}

// result gives what was found of a backup.
func (v *verification) result(b *backup) Backup {
	r := Backup{ID: b.id, Head: b.head, Known: len(b.seen)}
	for _, s := range []stage{manifestStage, packStage, fileStage, walStage} {
		c := catalog.Check{Name: string(s), OK: true, Seconds: v.took[s].Seconds()}
		if found := b.found[s]; found != nil {
			c.OK, c.Detail = false, fmt.Sprintf("%d problems", len(found.list)+found.more)
			r.Problems, r.More = append(r.Problems, found.list...), r.More+found.more
		}
		if s == fileStage && !v.data() || b.broken && c.OK {
			continue // it was not looked at
		}
		r.Checks = append(r.Checks, c)
	}
	slices.SortStableFunc(r.Problems, func(a, b catalog.Problem) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.File, b.File))
	})
	return r
}
