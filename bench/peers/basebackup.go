//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
)

// baseBackup is pg_basebackup into a compressed tar, with its WAL inside. It does
// not encrypt, and archives nothing.
type baseBackup struct {
	codec   string // zstd or lz4
	binDir  string
	workers int
}

func (t *baseBackup) set(o options) { t.binDir, t.workers = o.binDir, o.workers }

func (t *baseBackup) about() about {
	return about{Name: "pg_basebackup " + t.codec, Codec: t.codec, Steps: []string{"full"},
		Programs: []string{filepath.Join(t.binDir, "pg_basebackup"), t.codec, "tar"}}
}

func (t *baseBackup) reset(_ context.Context, b *bench) error { return b.user.makeDir(b.repo(t)) }

func (t *baseBackup) backup(b *bench) []string {
	// The server compresses, except that only the client can with several workers.
	how := "client-zstd:level=3,workers=" + strconv.Itoa(t.workers)
	if t.codec == "lz4" {
		how = "server-lz4"
	}
	return []string{filepath.Join(t.binDir, "pg_basebackup"), "-h", b.sockets, "-p", strconv.Itoa(sourcePort), "-U", "postgres",
		"-c", "fast", "-X", "fetch", "-Ft", "--compress=" + how, "-D", b.repo(t)}
}

func (t *baseBackup) restore(b *bench, dest string) []string {
	ending := map[string]string{"zstd": "zst", "lz4": "lz4"}[t.codec]
	return []string{"sh", "-c", fmt.Sprintf("%s -dcq %s | tar -x -C %s", t.codec, quote([]string{b.repo(t) + "/base.tar." + ending}), quote([]string{dest}))}
}

func (t *baseBackup) ready(b *bench, dest string) error {
	return b.recoverWith(dest, "false") // all WAL it needs is inside
}

func (t *baseBackup) incremental(*bench) []string   { return nil }
func (t *baseBackup) push(*bench, string) []string  { return nil }
func (t *baseBackup) fetch(*bench, string) []string { return nil }
func (t *baseBackup) holds() []string               { return []string{"."} }

// plainCopy is cp: the least that archiving can cost.
type plainCopy struct{}

func (plainCopy) about() about {
	return about{Name: "cp", Codec: noCodec, Steps: []string{"wal"}, Programs: []string{"cp"}}
}

func (t plainCopy) reset(_ context.Context, b *bench) error { return b.user.makeDir(b.repo(t)) }
func (plainCopy) backup(*bench) []string                    { return nil }
func (plainCopy) incremental(*bench) []string               { return nil }
func (plainCopy) restore(*bench, string) []string           { return nil }
func (plainCopy) ready(*bench, string) error                { return nil }
func (plainCopy) holds() []string                           { return []string{"."} }

func (t plainCopy) push(b *bench, _ string) []string { return []string{"cp", "-t", b.repo(t)} }

func (t plainCopy) fetch(b *bench, _ string) []string {
	return []string{"sh", "-c", `cp "` + b.repo(t) + `/$0" "$1"`}
}
