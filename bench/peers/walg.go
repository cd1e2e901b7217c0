//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// walG is WAL-G. It is encrypted if it was built with libsodium.
type walG struct {
	codec   string // zstd or lz4
	program string
	sodium  bool
	workers int
	env     []string
}

func (t *walG) set(o options) { t.program, t.sodium, t.workers = o.walg, o.sodium, o.workers }

func (t *walG) about() about {
	return about{Name: "wal-g " + t.codec, Codec: t.codec, Encrypted: t.sodium, Programs: []string{t.program}, Env: t.env}
}

func (t *walG) reset(_ context.Context, b *bench) error {
	n := strconv.Itoa(t.workers)
	t.env = []string{
		"WALG_FILE_PREFIX=" + b.repo(t), "WALG_COMPRESSION_METHOD=" + t.codec, "WALG_UPLOAD_CONCURRENCY=" + n,
		"WALG_UPLOAD_DISK_CONCURRENCY=" + n, "WALG_DOWNLOAD_CONCURRENCY=" + n, "GOMAXPROCS=" + n, "WALG_DELTA_MAX_STEPS=1000",
		"PGHOST=" + b.sockets, "PGPORT=" + strconv.Itoa(sourcePort), "PGUSER=postgres", "PGDATABASE=postgres", "HOME=" + b.root,
	}
	if t.sodium {
		t.env = append(t.env, "WALG_LIBSODIUM_KEY="+strings.Repeat("ab", 32), "WALG_LIBSODIUM_KEY_TRANSFORM=hex")
	}
	return b.user.makeDir(b.repo(t))
}

func (t *walG) backup(b *bench) []string { return []string{t.program, "backup-push", "--full", b.data} }

func (t *walG) incremental(b *bench) []string { return []string{t.program, "backup-push", b.data} }

func (t *walG) restore(_ *bench, dest string) []string {
	return []string{t.program, "backup-fetch", dest, "LATEST"}
}

func (t *walG) ready(b *bench, dest string) error {
	return b.recoverWith(dest, shell(t, t.fetch(b, dest))+` "%f" "%p"`)
}

func (t *walG) push(_ *bench, dataDir string) []string {
	return []string{"env", "PGDATA=" + dataDir, t.program, "wal-push"}
}

func (t *walG) fetch(_ *bench, dataDir string) []string {
	return []string{"env", "PGDATA=" + dataDir, t.program, "wal-fetch"}
}

func (t *walG) holds() []string { return []string{"basebackups_005"} }

// recoverWith makes a restored directory recover with a command, and stop at the end.
func (b *bench) recoverWith(dest, restoreCommand string) error {
	path := filepath.Join(dest, "postgresql.auto.conf")
	line := fmt.Sprintf("\nrestore_command = '%s'\n", strings.ReplaceAll(restoreCommand, "'", "''"))
	if err := appendFile(path, line); err != nil {
		return err
	}
	return b.user.write(filepath.Join(dest, "recovery.signal"), "", 0o600)
}
