package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// FindBin gives the directory with the programs of a major version of
// PostgreSQL. If it can't be had, the test fails in CI and is skipped elsewhere.
func FindBin(t testing.TB, major int) string {
	t.Helper()
	dir, err := find(t, major)
	switch {
	case err == nil:
		return dir
	case os.Getenv("CI") == "true":
		t.Fatalf("PostgreSQL %d must be there in CI: %v", major, err)
	default:
		t.Skipf("needs PostgreSQL %d: %v", major, err)
	}
	return ""
}

func find(t testing.TB, major int) (string, error) {
	dirs := []string{os.Getenv(fmt.Sprintf("SALVOR_PG_%d", major))}
	if root, ok := moduleRoot(); ok {
		dirs = append(dirs, filepath.Join(root, ".cache", "pg", fmt.Sprint(major)))
	}
	return server.FindBin(t.Context(), major, dirs...)
}

// installed gives DefaultMajor if it is there, else the newest version that is.
func installed(t testing.TB) int {
	if _, err := find(t, DefaultMajor); err == nil {
		return DefaultMajor
	}
	for major := pg.NewestMajor; major >= pg.OldestMajor; major-- {
		if _, err := find(t, major); err == nil {
			return major
		}
	}
	return DefaultMajor // whose absence is then reported
}

// moduleRoot looks for go.mod above the working directory, which for a test is
// its package's.
func moduleRoot() (string, bool) {
	dir, err := os.Getwd()
	if err != nil {
		return "", false
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, true
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", false
		}
		dir = up
	}
}
