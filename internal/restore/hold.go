package restore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// hold keeps other restores out of a directory until release: of two at once, each
// would clear away what the other writes. The lock (flock(2)) is the process's, so
// one that is killed leaves none. A file system may have no such locks: then nothing
// is held.
func hold(dir string) (release func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		_ = d.Close()
		return nil, refuse("wait until it has finished, or choose another directory", "another restore is writing to %s", dir)
	}
	return func() { _ = d.Close() }, nil
}
