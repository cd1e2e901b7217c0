package lock

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// thisProcess describes the process that runs.
func thisProcess() (Holder, error) {
	host, err := os.Hostname()
	if err != nil {
		return Holder{}, fmt.Errorf("asking for the host's name: %w", err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Holder{}, fmt.Errorf("asking for the host's boot: %w", err)
	}
	pid := os.Getpid()
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		namespace = "" // then nobody judges by the pid
	}
	start, _ := processStart(pid)
	return Holder{Host: host, PID: pid, BootID: strings.TrimSpace(string(boot)), PIDNamespace: namespace, StartedAt: start}, nil
}

// knows says whether the other holder's process is gone, if that can be known: it can
// on this host, since this boot, where the same pids count. Two containers may have one
// name for the host, and one boot, and don't see each other's processes.
func (h Holder) knows(other Holder) (gone, known bool) {
	if other.Host != h.Host || other.BootID != h.BootID || other.PIDNamespace != h.PIDNamespace {
		return false, false
	}
	if h.BootID == "" || h.PIDNamespace == "" || other.StartedAt == "" || other.PID <= 0 {
		return false, false
	}
	// The kernel's word, since /proc may hide the processes of other users (hidepid).
	if errors.Is(unix.Kill(other.PID, 0), unix.ESRCH) {
		return true, true
	}
	start, running := processStart(other.PID)
	if start == "" {
		return false, false
	}
	return !running || start != other.StartedAt, true
}

// processStart gives the time a process started, in clock ticks since boot (field 22 of
// proc_pid_stat(5)), and whether it runs: a zombie does not. "" if it cannot be told.
func processStart(pid int) (start string, running bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false
	}
	// The command's name, in parentheses, may hold anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return "", false
	}
	return fields[19], fields[0] != "Z" && fields[0] != "X"
}
