package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processesIn lists the processes whose working directory is dir or below it:
// the postmaster first if there is one, then its backends, then what those ran
// (archive_command, restore_command). Each works in the data directory, and no
// process group or parent ties them together: every backend has a session of
// its own, and orphans have another parent.
func processesIn(dir string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	postmaster := postmasterPID(dir)
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		if err != nil {
			continue // gone, a zombie, or another user's
		}
		cwd = strings.TrimSuffix(cwd, " (deleted)")
		if cwd != dir && !strings.HasPrefix(cwd, dir+"/") {
			continue
		}
		if pid == postmaster {
			pids = append([]int{pid}, pids...)
		} else {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// postmasterPID reads the first line of the pid file; zero if there is none.
func postmasterPID(dir string) int {
	b, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := bytes.Cut(b, []byte("\n"))
	pid, err := strconv.Atoi(string(first))
	if err != nil {
		return 0
	}
	return pid
}

// killAll kills every process in dir and waits until all have ended.
func killAll(dir string) error {
	deadline := time.Now().Add(patience)
	for {
		pids, err := processesIn(dir)
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v in %s survive SIGKILL", pids, dir)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("killing process %d: %w", pid, err)
			}
		}
		time.Sleep(pollEvery)
	}
}

// stopAll sends SIGSTOP until every process in dir has stopped: one may be
// born meanwhile, and the signal takes effect some time after it was sent.
func stopAll(dir string) error {
	deadline := time.Now().Add(patience)
	for {
		pids, err := processesIn(dir)
		if err != nil {
			return err
		}
		pids = slices.DeleteFunc(pids, isStopped)
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v in %s do not stop", pids, dir)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stopping process %d: %w", pid, err)
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// isStopped reads the state of a process, the first field after its name in
// /proc/PID/stat. One that is gone counts as stopped.
func isStopped(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	i := bytes.LastIndexByte(b, ')')
	return i >= 0 && i+2 < len(b) && b[i+2] == 'T'
}

// resumeAll sends SIGCONT to every process in dir.
func resumeAll(dir string) error {
	pids, err := processesIn(dir)
	for _, pid := range pids {
		if kerr := syscall.Kill(pid, syscall.SIGCONT); kerr != nil && !errors.Is(kerr, syscall.ESRCH) {
			err = errors.Join(err, fmt.Errorf("resuming process %d: %w", pid, kerr))
		}
	}
	return err
}

// watchdog is a shell that waits for the end of this program. If the program
// ends without a word, it ends what works below a directory, and removes that.
type watchdog struct {
	cmd  *exec.Cmd
	pipe *os.File
}

// watchdogScript first asks postmasters to go, so that they free their shared
// memory, and then kills what is left.
const watchdogScript = `
read -r word && [ "$word" = done ] && exit 0
each() {
	ls -ld /proc/[0-9]*/cwd 2>/dev/null | while IFS= read -r line; do
		case "$line" in
		*"/cwd -> $2"|*"/cwd -> $2/"*) pid=${line#*/proc/}; kill "-$1" "${pid%%/*}" 2>/dev/null ;;
		esac
	done
}
each CONT "$1"
each QUIT "$1"
sleep 1
each KILL "$1"
rm -rf -- "$1"
`

func startWatchdog(root string) (*watchdog, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", watchdogScript, "sh", root)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // an interrupt at the terminal is not for it
	err = cmd.Start()
	r.Close()
	if err != nil {
		w.Close()
		return nil, err
	}
	return &watchdog{cmd, w}, nil
}

// dismiss ends the watchdog without a deed.
func (d *watchdog) dismiss() {
	_, _ = d.pipe.WriteString("done\n") // if it is gone there is nobody to tell
	d.pipe.Close()
	_ = d.cmd.Wait()
}
