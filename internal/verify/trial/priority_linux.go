package trial

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// nice is the priority that a trial runs with, of -20 to 19.
	nice = 10
	// ioPriority is the lowest of the best-effort class (ioprio_set(2)): the idle class
	// would wait for ever beside a busy disk.
	ioPriority   = 2<<13 | 7
	ioWhoProcess = 1
)

// LowerPriority makes this process, and all that it starts from now on, give way to
// others for processors and disks. There is no way back. What a trial measures is
// therefore no less than what a restore takes beside the same load.
func LowerPriority() error {
	// Linux has both per thread, and threads inherit from who starts them: until none
	// is new.
	done := map[int]bool{}
	for {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("lowering the priority: %w", err)
		}
		fresh := false
		for _, task := range tasks {
			id, err := strconv.Atoi(task.Name())
			if err != nil || done[id] {
				continue
			}
			done[id], fresh = true, true
			if err := lower(id); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("lowering the priority: %w", err)
			}
		}
		if !fresh {
			return nil
		}
	}
}

// lower does it for a thread. One that is lower already stays so.
func lower(id int) error {
	is, err := unix.Getpriority(unix.PRIO_PROCESS, id)
	if err != nil {
		return err
	}
	if 20-is < nice { // the system call gives 20 less the value, so that it is never negative
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, nice); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioWhoProcess, uintptr(id), ioPriority); errno != 0 {
		return errno
	}
	return nil
}
