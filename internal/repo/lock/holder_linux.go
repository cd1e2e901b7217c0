package lock

import (
	"bytes"
	"fmt"
	"os"
	"strings"
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
	start, _ := processStart(pid)
	return Holder{Host: host, PID: pid, BootID: strings.TrimSpace(string(boot)), StartedAt: start}, nil
}

// knows says whether the other holder's process is gone, if that can be known:
// it can on this host, since this boot.
func (h Holder) knows(other Holder) (gone, known bool) {
	if other.Host != h.Host || other.BootID == "" || other.StartedAt == "" {
		return false, false
	}
	if other.BootID != h.BootID {
		// The same name after a restart, or another host of that name.
		return false, false
	}
	start, running := processStart(other.PID)
	return !running || start != other.StartedAt, true
}

// processStart gives the time a process started, in clock ticks since boot
// (field 22 of proc_pid_stat(5)), and false if there is none or only a zombie.
func processStart(pid int) (string, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false
	}
	// The command's name, in parentheses, may hold anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return "", false
	}
	return fields[19], true
}
