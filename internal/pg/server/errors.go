package server

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrNotRunning: there is no live postmaster on the data directory.
	ErrNotRunning = errors.New("no PostgreSQL server is running there")
	// ErrRunning: a live postmaster holds the data directory already.
	ErrRunning = errors.New("a PostgreSQL server is running there already")
	// ErrNotStandby: the server is a primary, so it can't be promoted.
	ErrNotStandby = errors.New("the server is not in recovery")
	// ErrStandalone: what holds the data directory is "postgres --single", which
	// somebody works in; it is not ours to signal.
	ErrStandalone = errors.New("a single-user server holds the data directory")
	// ErrNotFound: no directory holds the programs of the major version asked for.
	ErrNotFound = errors.New("PostgreSQL's programs were not found")
	// ErrOwner: the data directory belongs to root, or to a user other than the
	// one this program runs as.
	ErrOwner = errors.New("the data directory has an owner PostgreSQL can't run as")
	// ErrNoIsolation: this program may not make a network of its own for the server.
	ErrNoIsolation = errors.New("no network of its own could be made for the server")
)

// ExitError says that a postmaster ended before it had reached the state the
// caller waits for.
type ExitError struct {
	DataDir string
	Status  string // how it ended, as "exit status 1"
	Log     string // the last lines that it wrote, for people
}

// Error names the directory, how the server ended, and its last words.
func (e *ExitError) Error() string {
	s := fmt.Sprintf("the server on %s ended while starting: %s", e.DataDir, e.Status)
	if e.Log != "" {
		s += "; its last lines:\n\t" + strings.ReplaceAll(e.Log, "\n", "\n\t")
	}
	return s
}
