package server

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// FindBin gives the directory that holds the programs (postgres, initdb,
// pg_ctl) of a major version. It looks in dirs first, each being such a
// directory or the prefix above its "bin"; then along PATH; then where the
// packages of Debian, the PostgreSQL project's RPMs, and builds from source
// put them. The version of every candidate is asked for, never taken from its
// path. The error is ErrNotFound, with the places that were searched.
func FindBin(ctx context.Context, major int, dirs ...string) (string, error) {
	var searched []string
	for _, dir := range candidates(major, dirs) {
		if !executable(filepath.Join(dir, "postgres")) {
			searched = append(searched, dir)
			continue
		}
		got, err := BinMajor(ctx, dir)
		switch {
		case ctx.Err() != nil:
			return "", fmt.Errorf("looking for PostgreSQL %d: %w", major, ctx.Err())
		case err != nil:
			searched = append(searched, fmt.Sprintf("%s (%v)", dir, err))
		case got != major:
			searched = append(searched, fmt.Sprintf("%s (has %d)", dir, got))
		default:
			return dir, nil
		}
	}
	return "", fmt.Errorf("looking for PostgreSQL %d in %s: %w", major, strings.Join(searched, ", "), ErrNotFound)
}

// candidates lists where to look, best first, each directory once.
func candidates(major int, dirs []string) []string {
	n := strconv.Itoa(major)
	var all []string
	for _, d := range dirs {
		if d != "" {
			all = append(all, d, filepath.Join(d, "bin"), filepath.Join(d, "usr/lib/postgresql", n, "bin"))
		}
	}
	if p, err := exec.LookPath("postgres"); err == nil {
		// A link on the PATH may be the only one there; the others are where it leads.
		if real, err := filepath.EvalSymlinks(p); err == nil {
			all = append(all, filepath.Dir(real))
		}
		all = append(all, filepath.Dir(p))
	}
	for _, form := range []string{
		"/usr/lib/postgresql/%s/bin", // Debian, Ubuntu
		"/usr/pgsql-%s/bin",          // RPMs of the PostgreSQL project
		"/usr/lib/postgresql-%s/bin", // Gentoo
		"/usr/libexec/postgresql%s",  // Alpine
		"/usr/local/pgsql-%s/bin",
		"/opt/postgresql/%s/bin",
		"/opt/homebrew/opt/postgresql@%s/bin",
	} {
		all = append(all, fmt.Sprintf(form, n))
	}
	all = append(all, "/usr/local/pgsql/bin", "/usr/local/bin", "/usr/bin")
	seen := make(map[string]bool, len(all))
	out := all[:0]
	for _, d := range all {
		if d = filepath.Clean(d); filepath.IsAbs(d) && !seen[d] {
			seen[d] = true
			out = append(out, d)
		}
	}
	return out
}

// BinMajor asks the postgres program in dir for its major version.
func BinMajor(ctx context.Context, dir string) (int, error) {
	name := filepath.Join(dir, "postgres")
	out, err := exec.CommandContext(ctx, name, "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("asking %s for its version: %w", name, err)
	}
	return parseMajor(string(out))
}

// parseMajor reads "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)",
// also with "17beta1", "19rc1" or "18devel" for the number.
func parseMajor(s string) (int, error) {
	_, rest, ok := strings.Cut(s, "(PostgreSQL) ")
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	major, err := strconv.Atoi(rest[:end])
	if !ok || err != nil || major < 1 {
		return 0, fmt.Errorf("%q is not the version of a PostgreSQL server", strings.TrimSpace(s))
	}
	return major, nil
}

func executable(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}
