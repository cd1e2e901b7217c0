package system

import (
	"fmt"
	"os"
	"testing"

	"github.com/salvor-dr/salvor/test/salvortest"
)

// program is the binary under test; TestMain sets it before any test runs.
var program string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	path, remove, err := salvortest.Program()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer remove()
	program = path
	cache, err := os.MkdirTemp("", "salvor-cache-") // not the one of who runs the tests
	if err == nil {
		defer os.RemoveAll(cache)
		err = os.Setenv("SALVOR_CACHE_DIR", cache)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
