package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startTolerance is how far the start of a process, as the kernel knows it,
// may lie from the start time in the pid file. The server notes its time some
// milliseconds after its process began, in whole seconds; the rest is for
// clocks that were set in between. A pid is only reused after the whole range
// of pids was gone through, and the server that left the file was alive after
// it wrote it, so a minute is rarely too long.
const startTolerance = time.Minute

// clockTick is the unit of times in /proc/PID/stat: USER_HZ, which is 100 on
// every Linux that Go supports (proc(5)).
const clockTick = time.Second / 100

// isServerOf says whether pid is a live PostgreSQL process that works in dataDir.
func isServerOf(pid int, dataDir string, started time.Time) (bool, error) {
	st, found, err := readStat(pid)
	if err != nil || !found {
		return false, err
	}
	if st.state == 'Z' || st.state == 'X' || st.state == 'x' {
		return false, nil
	}
	if !isPostgres(pid, st.comm) {
		return false, nil
	}
	cwd, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	switch {
	case err == nil:
		dir, err := os.Stat(dataDir)
		if err != nil {
			return false, err
		}
		return os.SameFile(cwd, dir), nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
		return false, nil // it ended just now, or its directory is gone
	case errors.Is(err, fs.ErrPermission):
		return startedAt(st, started)
	default:
		return false, err
	}
}

// isPostgres looks at the name of the process and of its program. Some
// packages start postgres through a loader, whose name the kernel then shows.
func isPostgres(pid int, comm string) bool {
	if comm == "postgres" || comm == "postmaster" {
		return true
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	for _, arg := range bytes.SplitN(cmdline, []byte{0}, 8) {
		if b := filepath.Base(string(arg)); b == "postgres" || b == "postmaster" {
			return true
		}
	}
	return false
}

// startedAt compares the start of a process with a time from a pid file.
func startedAt(st procStat, want time.Time) (bool, error) {
	if want.IsZero() {
		return false, errors.New("its start time is not in the file and its directory may not be read")
	}
	var boot, wall unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return false, fmt.Errorf("reading the boot clock: %w", err)
	}
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &wall); err != nil {
		return false, fmt.Errorf("reading the clock: %w", err)
	}
	bootAt := time.Unix(wall.Unix()).Add(-time.Duration(boot.Nano()))
	return bootAt.Add(st.start).Sub(want).Abs() <= startTolerance, nil
}

// procStat is the part of /proc/PID/stat that is of use here.
type procStat struct {
	comm   string
	state  byte
	parent int
	start  time.Duration // since boot
}

// readStat reads /proc/PID/stat; found is false if there is no such process.
func readStat(pid int) (st procStat, found bool, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return procStat{}, false, nil
	}
	if err != nil {
		return procStat{}, false, err
	}
	st, err = parseStat(string(data))
	return st, err == nil, err
}

// parseStat reads the line that proc(5) describes. The second field is the
// program's name in parentheses and may hold any byte, so fields are counted
// from the last closing one.
func parseStat(s string) (procStat, error) {
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 0 || end < open {
		return procStat{}, fmt.Errorf("%.60q is no process status", s)
	}
	rest := strings.Fields(s[end+1:])
	if len(rest) < 20 || len(rest[0]) != 1 { // fields 3 to 22
		return procStat{}, fmt.Errorf("%.60q is no process status", s)
	}
	parent, err1 := strconv.Atoi(rest[1])
	ticks, err2 := strconv.ParseUint(rest[19], 10, 63)
	if err1 != nil || err2 != nil || ticks > uint64((1<<63-1)/clockTick) {
		return procStat{}, fmt.Errorf("%.60q is no process status", s)
	}
	return procStat{comm: s[open+1 : end], state: rest[0][0], parent: parent, start: time.Duration(ticks) * clockTick}, nil
}

// process is a running postmaster that can be signalled and waited for.
type process struct {
	pid     int
	fd      int // pidfd, or -1 where the kernel has none
	dataDir string
	started time.Time
}

// openProcess takes hold of the process and then makes sure that it is still
// the server of dataDir. It returns ErrNotRunning if it is not.
func openProcess(dataDir string, st Status) (*process, error) {
	fd, err := unix.PidfdOpen(st.PID, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, ErrNotRunning
	case err != nil: // ENOSYS before Linux 5.3, EPERM in some sandboxes
		fd = -1
	}
	p := &process{pid: st.PID, fd: fd, dataDir: dataDir, started: st.Started}
	alive, err := isServerOf(st.PID, dataDir, st.Started)
	if err == nil && !alive {
		err = ErrNotRunning
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *process) close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd) // a pidfd holds nothing that a failed close could lose
		p.fd = -1
	}
}

// signal sends sig; ErrNotRunning if the process is gone.
func (p *process) signal(sig syscall.Signal) error {
	var err error
	if p.fd >= 0 {
		err = unix.PidfdSendSignal(p.fd, sig, nil, 0)
	} else {
		err = unix.Kill(p.pid, sig)
	}
	if errors.Is(err, unix.ESRCH) {
		return ErrNotRunning
	}
	return err
}

// wait blocks until the process has ended or ctx is done.
func (p *process) wait(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.fd < 0 {
			if alive, err := isServerOf(p.pid, p.dataDir, p.started); err != nil || !alive {
				return err
			}
			if err := pause(ctx); err != nil {
				return err
			}
			continue
		}
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 50) // so that ctx is looked at 20 times a second
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("waiting for process %d: %w", p.pid, err)
		}
		if n > 0 {
			return nil
		}
	}
}
