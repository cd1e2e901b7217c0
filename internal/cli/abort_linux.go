package cli

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forgetHandler gives a signal its default action, whatever Go's runtime does
// with it: on SIGABRT that would print every goroutine, and wait for each
// thread to do so, before it lets the process die.
func forgetHandler(sig syscall.Signal) {
	// struct sigaction as the kernel has it (include/linux/signal_types.h):
	// handler, flags, restorer, mask. All zero is SIG_DFL without flags.
	var byDefault [4]uint64
	const maskSize = 8
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&byDefault)), 0, maskSize, 0, 0)
}
