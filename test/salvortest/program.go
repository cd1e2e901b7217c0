package salvortest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Program builds the binary, in a directory that every user can reach, since
// servers run it, and gives its path and what removes it. SALVOR_TEST_PROGRAM
// names one that is there already, such as that of a release, instead.
func Program() (path string, remove func(), err error) {
	if path = os.Getenv("SALVOR_TEST_PROGRAM"); path != "" {
		return path, func() {}, nil
	}
	dir, err := os.MkdirTemp("/tmp", "salvor-test-")
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "salvor")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", path, "github.com/salvor-dr/salvor/cmd/salvor")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		os.RemoveAll(dir)
		return "", nil, fmt.Errorf("building salvor: %w\n%s", err, out)
	}
	return path, func() { os.RemoveAll(dir) }, nil
}
