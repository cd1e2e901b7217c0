package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Status is what can be learned of a postmaster without connecting to it.
type Status struct {
	Running    bool
	PID        int       // zero if nothing runs
	Started    time.Time // by the server's clock, whole seconds, UTC
	Port       int       // zero until the server has written it
	SocketDir  string    // empty if it listens on no Unix socket
	ListenAddr string    // the first address it listens on; "*" for all, empty for none
	State      State     // StateNone if nothing runs
	Primary    bool      // ready, and recovery is over: it accepts writes
	Standalone bool      // "postgres --single": holds the directory, takes no connections
}

// Accepting says whether the server takes connections, be they read-only.
func (s Status) Accepting() bool { return s.State == StateReady }

// Up says that starting is over: the server takes connections, or is a standby
// that will take none. It is when pg_ctl start returns.
func (s Status) Up() bool { return s.State == StateReady || s.State == StateStandby }

// Probe tells whether a postmaster runs on dataDir, from its pid file and from
// the process that the file names; see the package's description for how. No
// server, and a pid file that outlived its server, are answers and not errors.
// An error means that nothing is known.
func Probe(dataDir string) (Status, error) {
	f, found, err := readPIDFile(dataDir)
	if err != nil || !found {
		return Status{}, err
	}
	pid := max(f.pid, -f.pid)
	alive, err := isServerOf(pid, dataDir, f.started)
	if err != nil {
		return Status{}, fmt.Errorf("looking at process %d, named by %s: %w", pid, filepath.Join(dataDir, pidFileName), err)
	}
	if !alive {
		return Status{}, nil
	}
	st := Status{
		Running: true, PID: pid, Started: f.started, Port: f.port,
		SocketDir: f.socketDir, ListenAddr: f.listenAddr, State: f.state, Standalone: f.pid < 0,
	}
	if st.State == StateReady {
		state, err := readDBState(dataDir)
		if err != nil {
			return Status{}, err
		}
		st.Primary = state == dbInProduction
	}
	return st, nil
}

// dbState is pg_control's word on what the cluster is doing (DBState, pg_control.h).
type dbState uint32

const dbInProduction dbState = 6 // DB_IN_PRODUCTION

// readDBState reads one field of pg_control, which has stood at the same place
// in every version: after the system identifier and the two version numbers.
// The file is written in one piece shorter than a sector, so a single number in
// it is never torn; its checksum is not looked at.
func readDBState(dataDir string) (dbState, error) {
	name := filepath.Join(dataDir, "global", "pg_control")
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var b [4]byte
	if _, err := f.ReadAt(b[:], 16); err != nil {
		return 0, fmt.Errorf("reading %s: %w", name, err)
	}
	return dbState(binary.NativeEndian.Uint32(b[:])), nil
}

// readPIDFile gives found = false for a data directory without a pid file, or
// with one that is still empty.
func readPIDFile(dataDir string) (f pidFile, found bool, err error) {
	name := filepath.Join(dataDir, pidFileName)
	r, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return pidFile{}, false, nil
	}
	if err != nil {
		return pidFile{}, false, fmt.Errorf("reading the pid file: %w", err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, pidFileMax+1))
	if err != nil {
		return pidFile{}, false, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return pidFile{}, false, nil
	}
	f, err = parsePIDFile(data)
	if err != nil {
		return pidFile{}, false, fmt.Errorf("reading %s: %w", name, err)
	}
	return f, true, nil
}
