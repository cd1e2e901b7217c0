//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// keptBackups is how many backups the long chain keeps.
const keptBackups = 7

// measureChain makes a long chain of Salvor's incremental backups, deletes after each
// what is older than the last few, and follows what that does to the repository. Then
// the last one is restored, and a full of the same moment.
func (b *bench) measureChain(ctx context.Context, all []tool) error {
	i := slices.IndexFunc(all, func(t tool) bool { s, ok := t.(*salvorTool); return ok && s.codec == "zstd" })
	if i < 0 {
		return errors.New("the step chain needs the tool 'salvor zstd'")
	}
	t := all[i].(*salvorTool)
	only := []tool{t}
	c, err := b.beginChain(ctx, only)
	if err != nil {
		return err
	}
	var kept []string
	for round := 1; round <= b.chain; round++ {
		found, err := b.work(ctx, c)
		if err != nil {
			return err
		}
		if kept, err = b.link(ctx, t, round, found, kept); err != nil {
			return err
		}
	}
	want, err := b.contents(ctx, sourcePort)
	if err != nil {
		return err
	}
	if err := b.restoreLink(ctx, t, want); err != nil {
		return err
	}
	return b.forget(only)
}

// link makes one backup of the chain, and deletes what is not to be kept. It records
// both together.
func (b *bench) link(ctx context.Context, t *salvorTool, round int, found change, kept []string) ([]string, error) {
	stdout, err := b.backUpChange(ctx, t, []tool{t}, measuredRound{"chain", round, 0}, found)
	if err != nil {
		return nil, err
	}
	v, err := readPrinted(stdout)
	if err != nil {
		return nil, err
	}
	files, err := size(b.repo(t), []string{"clusters/*/*/backups/" + v.ID + "/files"})
	if err != nil {
		return nil, err
	}
	if kept == nil {
		if kept, err = b.backups(t); err != nil {
			return nil, err
		}
	} else {
		kept = append(kept, v.ID)
	}
	for len(kept) > keptBackups {
		if err := b.run(ctx, t, t.command(b, "backups", "delete", "-y", kept[0])); err != nil {
			return nil, err
		}
		kept = kept[1:]
	}
	all, err := size(b.repo(t), t.holds())
	if err != nil {
		return nil, err
	}
	a := t.about()
	return kept, b.record(line{Measured: &measurement{Step: "chain-repository", Tool: a.Name, Codec: a.Codec, Encrypted: true, Repeat: round,
		Values: map[string]float64{metricRepo: float64(all), metricFiles: float64(files), metricBackups: float64(len(kept))}}})
}

// backups lists the backups in a repository, oldest first.
func (b *bench) backups(t *salvorTool) ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(b.repo(t), "clusters/*/*/backups/*"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, d := range dirs {
		out = append(out, filepath.Base(d))
	}
	slices.Sort(out) // their names begin with the time
	return out, nil
}

// restoreLink restores the last backup of the chain, makes a full, which is all that a
// repository must hold of this moment, and restores that.
func (b *bench) restoreLink(ctx context.Context, t *salvorTool, want string) error {
	before, err := size(b.repo(t), t.holds())
	if err != nil {
		return err
	}
	if err := b.restoreChain(ctx, t, []tool{t}, chainRestores{"chain-restore-last", "chain-restore-full", want}); err != nil {
		return err
	}
	after, err := size(b.repo(t), t.holds())
	if err != nil {
		return err
	}
	a := t.about()
	b.say("a full takes %.1f MB, the chain took %.1f MB", float64(after-before)/1e6, float64(before)/1e6)
	if before == 0 {
		return fmt.Errorf("the repository of %s is empty", a.Name)
	}
	return b.record(line{Measured: &measurement{Step: "chain-full", Tool: a.Name, Codec: a.Codec, Encrypted: true, Repeat: 1,
		Values: map[string]float64{metricStored: float64(after - before), metricRepo: float64(before)}}})
}
