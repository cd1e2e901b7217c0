package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/server"
)

// FindBin gives the directory with the programs of a major version of
// PostgreSQL. If it can't be had, the test fails in CI and is skipped elsewhere.
func FindBin(t testing.TB, major int) string {
	t.Helper()
	dirs := []string{os.Getenv(fmt.Sprintf("SALVOR_PG_%d", major))}
	if root, ok := moduleRoot(); ok {
		dirs = append(dirs, filepath.Join(root, ".cache", "pg", fmt.Sprint(major)))
	}
	dir, err := server.FindBin(t.Context(), major, dirs...)
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
