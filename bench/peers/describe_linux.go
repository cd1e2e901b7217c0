package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// describe notes machine and versions.
func (b *bench) describe(ctx context.Context) error {
	r := &b.result.Run
	r.At = b.clock.Now().UTC()
	r.Scale, r.Orders, r.Repeats, r.Workers, r.WALMB = b.scale, b.orders, b.repeats, b.workers, b.walMB
	r.Rounds, r.Changes, r.Chain = b.rounds, b.changes, b.chain
	r.Versions = map[string]string{"Go": runtime.Version()}
	programs := map[string][]string{
		"Salvor":     {b.salvorProgram, "version"},
		"PostgreSQL": {filepath.Join(b.binDir, "postgres"), "--version"},
		"WAL-G":      {b.walg, "--version"},
		"zstd":       {"zstd", "--version"},
		"lz4":        {"lz4", "--version"},
	}
	for _, p := range b.pgbackrests {
		programs[p.name()] = []string{p.path, "version"}
	}
	for name, argv := range programs {
		if _, err := lookPath(argv[0]); err != nil {
			continue
		}
		out, err := b.command(ctx, argv, nil).Output()
		if err != nil {
			return fmt.Errorf("%s: %w", quote(argv), err)
		}
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		r.Versions[name] = strings.Join(strings.Fields(strings.Trim(first, "* ")), " ")
	}
	for i := range b.pgbackrests {
		p := &b.pgbackrests[i]
		p.version = r.Versions[p.name()]
	}
	return b.describeMachine()
}

func (b *bench) describeMachine() error {
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	model := "unknown processor"
	for line := range strings.Lines(string(cpus)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	var info unix.Sysinfo_t
	var host unix.Utsname
	var fs unix.Statfs_t
	if err := unix.Sysinfo(&info); err != nil {
		return err
	}
	if err := unix.Uname(&host); err != nil {
		return err
	}
	if err := unix.Statfs(b.root, &fs); err != nil {
		return err
	}
	b.result.Run.Machine = []string{
		fmt.Sprintf("%d cores: %s", runtime.NumCPU(), model),
		fmt.Sprintf("%.0f GB of memory", float64(info.Totalram)*float64(info.Unit)/1e9),
		fmt.Sprintf("load average before the run: %.1f", float64(info.Loads[0])/(1<<16)),
		"Linux " + unix.ByteSliceToString(host.Release[:]) + ", file system " + filesystem(int64(fs.Type)),
	}
	return nil
}

// filesystem names the usual ones (statfs(2)).
func filesystem(magic int64) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	}
	return fmt.Sprintf("%#x", magic)
}
