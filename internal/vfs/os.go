package vfs

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// OS is the file system of this machine. Paths are those of package os.
// Interrupted system calls are repeated.
func OS() FS { return osFS{} }

type osFS struct{}

type osFile struct{ *os.File }

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }

func (osFS) RenameNoReplace(oldname, newname string) error {
	err := renameNoReplace(oldname, newname)
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return linkNoReplace(oldname, newname)
}

// linkNoReplace renames by link and unlink. A crash between the two leaves the
// file under both names.
func linkNoReplace(oldname, newname string) error {
	err := os.Link(oldname, newname)
	if errors.Is(err, fs.ErrExist) && sameName(oldname, newname) {
		// NFS: the reply to a link that succeeded was lost, and the client asked
		// again (link(2), BUGS).
		err = nil
	}
	for _, e := range []error{syscall.EPERM, syscall.EMLINK, syscall.EOPNOTSUPP, syscall.ENOSYS} {
		if errors.Is(err, e) {
			return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: errors.ErrUnsupported}
		}
	}
	if err != nil {
		return err
	}
	return os.Remove(oldname)
}

func sameName(a, b string) bool {
	x, err := os.Lstat(a)
	if err != nil {
		return false
	}
	y, err := os.Lstat(b)
	return err == nil && os.SameFile(x, y)
}

func (osFS) Stat(name string) (fs.FileInfo, error) { return os.Lstat(name) }

func (osFS) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	entries, err := d.ReadDir(-1)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return entries, err
}

// control runs a system call on the file's descriptor, again while it is
// interrupted.
func (f osFile) control(op string, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		for {
			if inner = call(int(fd)); inner != syscall.EINTR {
				return
			}
		}
	})
	if err != nil { // Control fails only where the file is closed
		inner = fs.ErrClosed
	}
	if inner != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: inner}
	}
	return nil
}
