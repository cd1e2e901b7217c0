package chaos

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
	return m.Run()
}
