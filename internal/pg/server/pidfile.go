package server

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// State is what a postmaster says of itself in the last line of its pid file.
type State string

// The states of a postmaster. StateNone stands for no server at all. The file
// does not tell a hot standby from a primary: see Status.Primary.
const (
	StateNone     State = ""
	StateStarting State = "starting" // no connections yet
	StateReady    State = "ready"    // connections accepted, on a hot standby read-only ones
	StateStandby  State = "standby"  // in recovery with hot_standby off: no connections
	StateStopping State = "stopping"
)

// pidFileName is the lock file that a postmaster keeps in its data directory.
const pidFileName = "postmaster.pid"

// pidFileMax bounds the pid file: eight short lines, two of them paths.
const pidFileMax = 64 << 10

// pidFile is a parsed postmaster.pid.
type pidFile struct {
	pid        int // negative for a standalone backend ("postgres --single")
	dataDir    string
	started    time.Time
	port       int
	socketDir  string
	listenAddr string
	state      State
}

// parsePIDFile reads postmaster.pid, whose lines are listed in
// src/include/utils/pidfile.h. The server writes the file in steps, so the
// lines after the third may be absent; such a server is starting.
func parsePIDFile(data []byte) (pidFile, error) {
	if len(data) > pidFileMax {
		return pidFile{}, fmt.Errorf("the pid file has %d bytes, which is no pid file", len(data))
	}
	lines := strings.Split(string(data), "\n")
	line := func(i int) string {
		if i < len(lines) {
			return strings.TrimRight(lines[i], " \r")
		}
		return ""
	}
	pid, err := strconv.ParseInt(line(0), 10, 32)
	if err != nil || pid == 0 || pid == -1<<31 {
		return pidFile{}, fmt.Errorf("the pid file begins with %.40q, which is no pid", line(0))
	}
	f := pidFile{pid: int(pid), dataDir: line(1), socketDir: line(4), listenAddr: line(5), state: StateStarting}
	if sec, err := strconv.ParseInt(line(2), 10, 64); err == nil && sec > 0 {
		f.started = time.Unix(sec, 0).UTC()
	}
	if port, err := strconv.ParseUint(line(3), 10, 16); err == nil {
		f.port = int(port)
	}
	switch s := State(line(7)); s {
	case StateStandby, StateReady, StateStopping:
		f.state = s
	}
	return f, nil
}
