package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// fetched is where scripts/postgres puts versions that the system does not have.
const fetched = "/var/tmp/salvor-postgresql"

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
	dirs := []string{os.Getenv(fmt.Sprintf("SALVOR_PG_%d", major)), filepath.Join(fetched, fmt.Sprint(major))}
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
