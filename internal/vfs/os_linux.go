package vfs

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func renameNoReplace(oldname, newname string) error {
	for {
		err := unix.Renameat2(unix.AT_FDCWD, oldname, unix.AT_FDCWD, newname, unix.RENAME_NOREPLACE)
		switch err {
		case nil:
			return nil
		case unix.EINTR:
			continue
		case unix.EINVAL, unix.ENOSYS: // the file system, or the kernel, has no such flag
			err = errors.ErrUnsupported
		}
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
}

func (f osFile) SetModTime(t time.Time) error {
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(t.UnixNano())}
	err := f.control("utimensat", func(fd int) error {
		return unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH)
	})
	// AT_EMPTY_PATH is Linux 5.8.
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOSYS) {
		return os.Chtimes(f.Name(), time.Time{}, t)
	}
	return err
}

// Identity is the device, the inode number and the time of birth, which can't be set.
func (f osFile) Identity() (string, bool) {
	var st unix.Statx_t
	err := f.control("statx", func(fd int) error {
		return unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st)
	})
	const need = unix.STATX_INO | unix.STATX_BTIME
	if err != nil || st.Mask&need != need || st.Btime.Sec == 0 {
		return "", false
	}
	return fmt.Sprintf("%d:%d %d %d.%09d", st.Dev_major, st.Dev_minor, st.Ino, st.Btime.Sec, st.Btime.Nsec), true
}

// Hints may fail freely: they are not asked for their result.

func (f osFile) StartWriteback(offset, length int64) {
	_ = f.control("sync_file_range", func(fd int) error {
		return unix.SyncFileRange(fd, offset, length, unix.SYNC_FILE_RANGE_WRITE)
	})
}

func (f osFile) DropCache(offset, length int64) {
	_ = f.control("fadvise", func(fd int) error {
		return unix.Fadvise(fd, offset, length, unix.FADV_DONTNEED)
	})
}
