//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// pgBackRest is pgBackRest with AES-256-CBC. It bundles small files, without which
// each costs it a file and an fsync; block incremental maps are for incrementals.
type pgBackRest struct {
	codec   string // zst or lz4
	async   bool   // archives with archive-async, which changes nothing else
	program string
	workers int
}

func (t *pgBackRest) set(o options) { t.program, t.workers = o.pgbackrest, o.workers }

func (t *pgBackRest) about() about {
	a := about{Name: "pgbackrest " + t.codec, Codec: likeZstd, Encrypted: true, Baseline: true, Programs: []string{t.program}}
	if t.codec == "lz4" {
		a.Codec = likeLZ4
	}
	if t.async {
		a.Name, a.Baseline, a.Only = a.Name+" async", false, "wal"
	}
	return a
}

func (t *pgBackRest) config(b *bench) string {
	return filepath.Join(b.root, "conf", slug(t.about().Name)+".conf")
}

func (t *pgBackRest) command(b *bench, args ...string) []string {
	return append([]string{t.program, "--config=" + t.config(b), "--stanza=bench"}, args...)
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

func (t *pgBackRest) restore(b *bench, dest string) []string {
	return t.command(b, "--pg1-path="+dest, "--archive-mode=off", "restore")
}

func (t *pgBackRest) ready(*bench, string) error { return nil }

func (t *pgBackRest) push(b *bench, dataDir string) []string {
	return t.command(b, "--pg1-path="+dataDir, "archive-push")
}

func (t *pgBackRest) fetch(b *bench, dataDir string) []string {
	return t.command(b, "--pg1-path="+dataDir, "archive-get")
}

func (t *pgBackRest) holds() []string { return []string{"backup"} }
