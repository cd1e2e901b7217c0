//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// chainSteps are what is measured of incremental backups.
var chainSteps = []string{"incremental", "restore-last", "restore-full"}

// pageCount is what a tool tells of an incremental backup.
type pageCount struct {
	read, stored int64 // pages of relations
	forwarded    int64 // bytes of pages that had not changed, and were stored anew
}

// measureIncrementals makes full backups, and then, after each round of work, an
// incremental one with each tool: of the same cluster, one after the other, so that all
// have the same to do. Then it restores the last one, and a full of the same moment; not
// where it measures sizes.
func (b *bench) measureIncrementals(ctx context.Context, all []tool, rounds int, gb float64) error {
	all = chainTools(b, all, gb)
	c, err := b.beginChain(ctx, all)
	if err != nil {
		return err
	}
	for round := 1; round <= rounds; round++ {
		found, err := b.work(ctx, c)
		if err != nil {
			return err
		}
		for _, t := range turns(all, round) {
			if _, err := b.backUpChange(ctx, t, all, measuredRound{"incremental", round, gb}, found); err != nil {
				return fmt.Errorf("%s: %w", t.about().Name, err)
			}
		}
	}
	if gb > 0 {
		return b.forget(all)
	}
	want, err := b.contents(ctx, sourcePort)
	if err != nil {
		return err
	}
	for i, t := range all {
		// Those before have no repository any more to archive to.
		err := b.restoreChain(ctx, t, all[i:], chainRestores{"restore-last", "restore-full", want})
		if err := errors.Join(err, b.user.makeDir(b.repo(t))); err != nil {
			return fmt.Errorf("%s: %w", t.about().Name, err)
		}
	}
	return b.forget(all)
}

// forget ends archiving, and empties the repositories. The WAL beside them stays until
// the next chain begins: a command of the server's may still be writing there.
func (b *bench) forget(all []tool) error {
	errs := []error{b.archiveBy()}
	for _, t := range all {
		errs = append(errs, b.user.makeDir(b.repo(t)))
	}
	return errors.Join(errs...)
}

// chainTools gives the tools that make incremental backups; for the measurement of sizes
// only those that others are compared with, and those with zstd.
func chainTools(b *bench, all []tool, gb float64) []tool {
	var out []tool
	for _, t := range takesPart(all, "incr") {
		if t.incremental(b) != nil && (gb == 0 || t.about().Codec == likeZstd) {
			out = append(out, t)
		}
	}
	return out
}

// beginChain makes full backups.
func (b *bench) beginChain(ctx context.Context, all []tool) (*comparer, error) {
	if err := b.user.makeDir(b.sharedWAL()); err != nil {
		return nil, err
	}
	for _, t := range all {
		if err := t.reset(ctx, b); err != nil {
			return nil, err
		}
	}
	c, err := newComparer(b.data)
	if err != nil {
		return nil, err
	}
	if _, err := c.look(); err != nil {
		return nil, err
	}
	for _, t := range all {
		if err := b.turnOf(ctx, t, all); err != nil {
			return nil, err
		}
		u, _, err := b.measure(ctx, t.backup(b), t.about().Env)
		if err != nil {
			return nil, err
		}
		b.say("a full backup before, %s: %.2f s", t.about().Name, u.Wall)
	}
	return c, nil
}

// turnOf leaves nothing for the server to do, and lets it archive for all tools. Those
// that wait for it do so by their own command: last for the one that is measured next, as
// the time of archiving is known for the last. All others share a copy of each segment.
func (b *bench) turnOf(ctx context.Context, next tool, all []tool) error {
	text := "set -e\n"
	var last string
	for _, t := range all {
		line := shell(t, t.push(b, b.data)) + ` "$1"` + "\n"
		_, waits := t.(waiter)
		switch {
		case !waits:
			line = quote([]string{"cp", "-t", b.sharedWAL()}) + ` "$1"` + "\n"
			fallthrough
		case t != next:
			if !strings.Contains(text, line) {
				text += line
			}
		default:
			last = line
		}
	}
	if err := b.setArchiving(text + last); err != nil {
		return err
	}
	if err := b.drain(ctx); err != nil {
		return err
	}
	return b.db.Checkpoint(ctx)
}

// sharedWAL is where WAL is for tools that do not archive in this step.
func (b *bench) sharedWAL() string { return filepath.Join(b.root, "sharedwal") }

// checkShared starts and compares what was restored; it recovers with the WAL that the
// server archived for this tool.
func (b *bench) checkShared(ctx context.Context, t tool, want string) error {
	if _, waits := t.(waiter); waits {
		return b.check(ctx, t, want)
	}
	command := "cp " + quote([]string{b.sharedWAL()}) + `/"%f" "%p"`
	if err := b.recoverWith(b.dest(), command); err != nil {
		return err
	}
	return b.checkReady(ctx, want)
}

// work has pgbench change pages at random, and tells which.
func (b *bench) work(ctx context.Context, c *comparer) (change, error) {
	const clients = 4
	b.worked++
	each := strconv.Itoa(max(1, b.changes/clients))
	if err := b.pgbench(ctx, "-n", "-c", strconv.Itoa(clients), "-t", each, "--random-seed="+strconv.Itoa(b.worked), "postgres"); err != nil {
		return change{}, err
	}
	if err := b.db.Checkpoint(ctx); err != nil {
		return change{}, err
	}
	found, err := c.look()
	b.say("%d pages changed, %.1f MB; %.1f MB compressed", found.pages, found.bytes()/1e6, float64(found.bound[likeZstd])/1e6)
	return found, err
}

// measuredRound says what a measurement is of.
type measuredRound struct {
	step  string
	round int
	gb    float64
}

// backUpChange measures an incremental backup, and gives what it printed.
func (b *bench) backUpChange(ctx context.Context, t tool, all []tool, r measuredRound, found change) ([]byte, error) {
	if err := b.turnOf(ctx, t, all); err != nil {
		return nil, err
	}
	before, err := size(b.repo(t), t.holds())
	if err != nil {
		return nil, err
	}
	u, stdout, more, err := b.measureBackup(ctx, t, t.incremental(b))
	if err != nil {
		return nil, err
	}
	after, err1 := size(b.repo(t), t.holds())
	data, err2 := b.dataSize()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	more[metricStored], more[metricData] = float64(after-before), float64(data)
	if err := chargeChange(t, stdout, more, found); err != nil {
		return nil, err
	}
	return stdout, b.note(t, r.step, r.round, r.gb, 0, u, more)
}

// chargeChange compares what a tool read and stored with what changed. What it stored
// anew although it had not changed is granted as much again as the same of changed pages.
func chargeChange(t tool, stdout []byte, more map[string]float64, found change) error {
	bound := float64(found.bound[t.about().Codec])
	more[metricChanged], more[metricBound] = float64(found.pages), bound
	granted := 1.0
	if c, ok := t.(counter); ok {
		n, err := c.counted(stdout)
		if err != nil {
			return err
		}
		more[metricPagesRead], more[metricForwarded] = float64(n.read), float64(n.forwarded)
		if found.pages > 0 {
			more[metricReadShare] = (float64(n.read) - float64(n.forwarded)/pageSize) / float64(found.pages)
			granted += float64(n.forwarded) / found.bytes()
		}
	}
	if bound > 0 {
		more[metricShare] = more[metricStored] / (bound * granted)
	}
	return nil
}

// chainRestores says how restores are named, and what the databases must hold.
type chainRestores struct{ last, full, want string }

// restoreChain restores the last incremental backup, and then a full of the same moment.
func (b *bench) restoreChain(ctx context.Context, t tool, all []tool, r chainRestores) error {
	if err := b.restoreLatest(ctx, t, r.last, r.want); err != nil {
		return err
	}
	if err := b.turnOf(ctx, t, all); err != nil {
		return err
	}
	if _, _, err := b.measure(ctx, t.backup(b), t.about().Env); err != nil {
		return err
	}
	return b.restoreLatest(ctx, t, r.full, r.want)
}

// restoreLatest measures restores of a tool's last backup, and checks the first.
func (b *bench) restoreLatest(ctx context.Context, t tool, step, want string) error {
	data, err := b.dataSize()
	if err != nil {
		return err
	}
	for repeat := 1; repeat <= b.repeats; repeat++ {
		if err := b.user.makeDir(b.dest()); err != nil {
			return err
		}
		u, _, err := b.measure(ctx, t.restore(b, b.dest()), t.about().Env)
		if err != nil {
			return err
		}
		if err := b.note(t, step, repeat, 0, data, u, nil); err != nil {
			return err
		}
		if repeat == 1 {
			if err := b.checkShared(ctx, t, want); err != nil {
				return err
			}
		}
	}
	return b.user.makeDir(b.dest())
}
