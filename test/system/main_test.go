package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// program is the binary under test; TestMain sets it before any test runs.
var program string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

// testMain builds the binary, or takes one that is there already, such as that of a
// release: SALVOR_TEST_PROGRAM.
func testMain(m *testing.M) int {
	if program = os.Getenv("SALVOR_TEST_PROGRAM"); program != "" {
		return m.Run()
	}
	dir, err := build()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "salvor")
	return m.Run()
}

// build makes the binary in a directory that every user can reach: servers run it.
func build() (string, error) {
	dir, err := os.MkdirTemp("/tmp", "salvor-system-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, "salvor"), "github.com/salvor-dr/salvor/cmd/salvor")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("building salvor: %w\n%s", err, out)
	}
	return dir, nil
}
