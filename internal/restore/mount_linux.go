package restore

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mountedBehind is mounted for the directory that path may be a link to.
func mountedBehind(path string) (bool, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false, err
	}
	return mounted(real)
}

// mounted says whether a file system is mounted at path, a bind mount too: statx(2)
// tells since Linux 5.8. Before, another device than that of the directory above it
// does.
func mounted(path string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st); err == nil && st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
	}
	var here, above unix.Stat_t
	if err := unix.Lstat(path, &here); err != nil {
		return false, err
	}
	if err := unix.Lstat(filepath.Dir(path), &above); err != nil {
		return false, err
	}
	return here.Dev != above.Dev, nil
}
