//go:build unix

package vfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

func (f osFile) TryLock() error {
	err := f.control("flock", func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}
