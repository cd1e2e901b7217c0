package server

import (
	"errors"
	"os"
	"syscall"
)

// guard makes the kernel shut a program down at once when the thread ends that began
// it (PR_SET_PDEATHSIG, prctl(2)); for a postmaster SIGQUIT does, with all it began.
func guard(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }

// noNetwork gives a program a network namespace of its own (network_namespaces(7)),
// whose loopback is down. Who is not root needs a user namespace around it, in which
// its user is who it was: PostgreSQL compares that with the owner of its files.
func noNetwork(attr *syscall.SysProcAttr) {
	attr.Cloneflags |= syscall.CLONE_NEWNET
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
	}
}

// refused says whether the kernel, or what guards it, makes no namespaces for us:
// containers and hardened systems forbid it, and their number may be limited.
func refused(err error) bool {
	for _, e := range []error{syscall.EPERM, syscall.EACCES, syscall.EINVAL, syscall.ENOSPC, syscall.EUSERS, syscall.ENOSYS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
