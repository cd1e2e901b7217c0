//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// salvorTool is Salvor, encrypted, as init sets it up.
type salvorTool struct {
	codec   string // of backups and of WAL
	program string
	workers int
}

func (t *salvorTool) set(o options) { t.program, t.workers = o.salvor, o.workers }

func (t *salvorTool) about() about {
	a := about{Name: "salvor " + t.codec, Codec: likeZstd, Encrypted: true, Programs: []string{t.program}, Env: []string{
		"SALVOR_BACKUP_COMPRESSION=" + t.codec, "SALVOR_WAL_COMPRESSION=" + t.codec, "SALVOR_BACKUP_WORKERS=" + strconv.Itoa(t.workers),
	}}
	if t.codec == "s2" {
		a.Codec = likeLZ4
	}
	return a
}

func (t *salvorTool) config(b *bench) string {
	return filepath.Join(b.root, "conf", slug(t.about().Name), "salvor.yaml")
}

func (t *salvorTool) command(b *bench, args ...string) []string {
	return append([]string{b.salvorProgram, "-c", t.config(b), "-q"}, args...)
}

func (t *salvorTool) reset(ctx context.Context, b *bench) error {
	if err := b.user.makeDir(b.repo(t)); err != nil {
		return err
	}
	if err := b.user.makeDir(filepath.Dir(t.config(b))); err != nil {
		return err
	}
	dsn := fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", b.sockets, sourcePort)
	return b.run(ctx, t, t.command(b, "init", dsn, "--cluster", "bench", "--repo", "file://"+b.repo(t)))
}

func (t *salvorTool) backup(b *bench) []string {
	return t.command(b, "backup", "--kind", "full", "--checkpoint", "fast", "-o", "json")
}

func (t *salvorTool) incremental(b *bench) []string {
	return t.command(b, "backup", "--kind", "incremental", "--detect", "wal", "--checkpoint", "fast", "-o", "json")
}

func (t *salvorTool) restore(b *bench, dest string) []string {
	return t.command(b, "restore", "--to", dest, "--latest", "--workers", strconv.Itoa(t.workers))
}

func (t *salvorTool) verify(b *bench) []string {
	return t.command(b, "verify", "--level", "data", "--workers", strconv.Itoa(t.workers))
}

func (t *salvorTool) ready(*bench, string) error { return nil }

func (t *salvorTool) push(b *bench, _ string) []string  { return t.command(b, "wal", "push") }
func (t *salvorTool) fetch(b *bench, _ string) []string { return t.command(b, "wal", "fetch") }

func (t *salvorTool) holds() []string {
	return []string{"clusters/*/*/packs", "clusters/*/*/backups"}
}

// printed is what a backup prints about itself.
type printed struct {
	ID          string    `json:"id"`
	StoppedAt   time.Time `json:"stopped_at"`
	PagesRead   int64     `json:"pages_read"`
	PagesStored int64     `json:"pages_stored"`
	Forwarded   int64     `json:"forwarded_bytes"`
	Stored      int64     `json:"stored_bytes"`
}

func readPrinted(stdout []byte) (printed, error) {
	var v printed
	if err := json.Unmarshal(stdout, &v); err != nil {
		return v, fmt.Errorf("reading what salvor backup printed: %w", err)
	}
	return v, nil
}

func (t *salvorTool) stopped(stdout []byte) (time.Time, error) {
	v, err := readPrinted(stdout)
	return v.StoppedAt, err
}

func (t *salvorTool) counted(stdout []byte) (pageCount, error) {
	v, err := readPrinted(stdout)
	return pageCount{read: v.PagesRead, stored: v.PagesStored, forwarded: v.Forwarded}, err
}
