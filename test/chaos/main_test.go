package chaos

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/salvor-dr/salvor/test/salvortest"
)

// program is the binary under test; TestMain sets it before any test runs.
var program string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	// A shell lets what it starts in the background ignore SIGINT, and that is
	// inherited; what is caught is not.
	if signal.Ignored(syscall.SIGINT) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGINT)
	}
	path, remove, err := salvortest.Program()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer remove()
	program = path
	return m.Run()
}
