// Command salvor is disaster recovery for PostgreSQL: backup, WAL archive,
// point-in-time recovery and the proof that they work.
package main

import (
	"os"

	"github.com/salvor-dr/salvor/internal/cli"
)

// Set by the linker, as go build -ldflags "-X main.version=1.2.3 -X main.commit=…".
var version, commit string

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Process{
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Env:     os.LookupEnv,
		Version: version,
		Commit:  commit,
	}))
}
