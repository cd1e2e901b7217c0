//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// pgBackRestProgram is a pgBackRest, of several.
type pgBackRestProgram struct {
	label   string // what to tell it by, as 2.45; may be empty where it is the only one
	path    string
	version string // by its own account; empty: it was not asked yet
}

// name is what it is called in the results.
func (p pgBackRestProgram) name() string {
	if p.label == "" {
		return "pgbackrest"
	}
	return "pgbackrest-" + p.label
}

// incrementalByBlock says whether it has block incremental backups, as 2.46 was the
// first to have.
func (p pgBackRestProgram) incrementalByBlock() bool {
	var major, minor int
	_, err := fmt.Sscanf(p.version, "pgBackRest %d.%d", &major, &minor)
	return err == nil && (major > 2 || major == 2 && minor >= 46)
}

// pgBackRest is pgBackRest with AES-256-CBC. It bundles small files, without which
// each costs it a file and an fsync.
type pgBackRest struct {
	program  pgBackRestProgram
	codec    string // zst or lz4
	async    bool   // archives with archive-async, which changes nothing else
	block    bool   // with block incremental maps, for incrementals
	baseline bool   // others are compared with it
	workers  int
}

func (t *pgBackRest) set(o options) { t.workers = o.workers }

func (t *pgBackRest) about() about {
	a := about{Name: t.program.name() + " " + t.codec, Codec: likeZstd, Encrypted: true, Programs: []string{t.program.path}}
	if t.codec == "lz4" {
		a.Codec = likeLZ4
	}
	switch {
	case t.async:
		a.Name, a.Steps = a.Name+" async", []string{"wal"}
	case t.block:
		a.Name, a.Steps = a.Name+" block", []string{"incr"}
	case t.program.incrementalByBlock():
		a.Steps = []string{"full", "wal"}
	}
	switch {
	case !t.baseline || t.async:
	case t.block:
		a.Baseline = chainSteps
	default:
		a.Baseline = []string{"backup", "restore", "verify", "push", "fetch"}
		if !t.program.incrementalByBlock() {
			a.Baseline = append(a.Baseline, chainSteps...)
		}
	}
	return a
}

func (t *pgBackRest) config(b *bench) string {
	return filepath.Join(b.root, "conf", slug(t.about().Name)+".conf")
}

func (t *pgBackRest) command(b *bench, args ...string) []string {
	return append([]string{t.program.path, "--config=" + t.config(b), "--stanza=bench"}, args...)
}

func (t *pgBackRest) reset(ctx context.Context, b *bench) error {
	own := filepath.Join(b.root, "pgbackrest", slug(t.about().Name))
	level := 3
	if t.codec == "lz4" {
		level = 1
	}
	for _, d := range []string{b.repo(t), own, own + "/lock", own + "/spool"} {
		if err := b.user.makeDir(d); err != nil {
			return err
		}
	}
	var conf strings.Builder
	fmt.Fprintf(&conf, "[global]\nrepo1-path=%s\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=%s\nrepo1-retention-full=9\n", b.repo(t), strings.Repeat("k", 48))
	fmt.Fprintf(&conf, "compress-type=%s\ncompress-level=%d\nprocess-max=%d\nrepo1-bundle=y\nstart-fast=y\narchive-check=n\n", t.codec, level, t.workers)
	fmt.Fprintf(&conf, "log-level-console=warn\nlog-level-file=off\nlog-path=%s\nlock-path=%[1]s/lock\nspool-path=%[1]s/spool\n", own)
	if t.block {
		conf.WriteString("repo1-block=y\n")
	}
	if t.async {
		fmt.Fprintf(&conf, "archive-async=y\narchive-get-queue-max=256MiB\n")
	}
	fmt.Fprintf(&conf, "[bench]\npg1-path=%s\npg1-port=%d\npg1-socket-path=%s\npg1-user=postgres\n", b.data, sourcePort, b.sockets)
	if err := b.user.write(t.config(b), conf.String(), 0o600); err != nil {
		return err
	}
	return b.run(ctx, t, t.command(b, "stanza-create"))
}

func (t *pgBackRest) backup(b *bench) []string { return t.command(b, "--type=full", "backup") }

func (t *pgBackRest) incremental(b *bench) []string { return t.command(b, "--type=incr", "backup") }

func (t *pgBackRest) restore(b *bench, dest string) []string {
	return t.command(b, "--pg1-path="+dest, "--archive-mode=off", "restore")
}

func (t *pgBackRest) verify(b *bench) []string { return t.command(b, "verify") }

func (t *pgBackRest) ready(*bench, string) error { return nil }

func (t *pgBackRest) push(b *bench, dataDir string) []string {
	return t.command(b, "--pg1-path="+dataDir, "archive-push")
}

func (t *pgBackRest) fetch(b *bench, dataDir string) []string {
	return t.command(b, "--pg1-path="+dataDir, "archive-get")
}

func (t *pgBackRest) holds() []string { return []string{"backup"} }
