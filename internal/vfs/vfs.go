package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// FS is a tree of files. All its methods may be called at once.
type FS interface {
	// OpenFile opens a file, or a directory for reading, with the flags of
	// package os. With os.O_CREATE|os.O_EXCL it fails with fs.ErrExist where
	// the name is taken. perm is what the umask is taken from.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Mkdir makes one directory; fs.ErrExist where the name is taken.
	Mkdir(name string, perm fs.FileMode) error
	// Remove removes a name that is a file or an empty directory.
	Remove(name string) error
	// Rename gives a file the name newname, in one step, in place of the file
	// that may be there.
	Rename(oldname, newname string) error
	// RenameNoReplace is Rename that fails with fs.ErrExist, in one step, where
	// newname is taken. It fails with errors.ErrUnsupported on file systems that
	// have neither renameat2(RENAME_NOREPLACE) nor hard links.
	RenameNoReplace(oldname, newname string) error
	// Stat describes a name. It does not follow a symbolic link.
	Stat(name string) (fs.FileInfo, error)
	// ReadDir lists a directory, in no order.
	ReadDir(name string) ([]fs.DirEntry, error)
}

// File is an open file or directory. Read and Write share one position and are
// for one goroutine; the other methods may be called at once.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	// Close frees the file and its lock. It makes nothing durable, and on
	// network file systems it may report what a write could not.
	io.Closer
	// Sync makes the file durable: bytes, size and times; of a directory, its
	// names.
	Sync() error
	// Truncate sets the size in bytes.
	Truncate(size int64) error
	// SetModTime sets the time of the last change, as exact as the file system
	// can; Stat says what it kept.
	SetModTime(t time.Time) error
	Stat() (fs.FileInfo, error)
	// TryLock takes the exclusive advisory lock of the file, as flock(2) does:
	// against every other opening of it in any process. It fails with ErrLocked
	// where another holds it, and never waits. Close frees it, and so does the
	// end of the process.
	TryLock() error
}

// Hinter is an optional ability of a File: hints that change nothing but speed.
type Hinter interface {
	// StartWriteback begins to write length bytes from offset to the disk, so
	// that a later Sync has less to do. Nothing is durable by it.
	StartWriteback(offset, length int64)
	// DropCache gives back the memory that caches length bytes from offset, as
	// far as they are on the disk; length 0 means to the end.
	DropCache(offset, length int64)
}

// Owner is an optional ability of a File: giving it to another user.
type Owner interface {
	Chown(uid, gid int) error
}

// Identifier is an optional ability of a File: to tell it from every other one.
type Identifier interface {
	// Identity names the file as such: no other one in any file system of this
	// machine has it, no copy, and not one that takes its place and its inode number,
	// but for what is made within the same tick of the file system's clock after
	// the file is removed and closed. It may change when the file system is mounted
	// anew. It is false where the file system does not keep what this needs.
	Identity() (string, bool)
}

// ErrLocked: another opening of the file holds its lock.
var ErrLocked = errors.New("file is locked by another")

// Create makes a new file for reading and writing, and fails with fs.ErrExist
// where the name is taken.
func Create(fsys FS, name string, perm fs.FileMode) (File, error) {
	return fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
}

// Open opens a file or directory for reading. A name that is a symbolic link
// is refused.
func Open(fsys FS, name string) (File, error) {
	return fsys.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
}

// SyncDir makes the names in a directory durable. File systems that know no
// sync of a directory (EINVAL, ENOTSUP) are taken to need none, as PostgreSQL
// takes them (src/common/file_utils.c, fsync_fname).
func SyncDir(fsys FS, name string) error {
	d, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	err = SyncOpenDir(d)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// SyncOpenDir is SyncDir for a directory that is open.
func SyncOpenDir(d File) error {
	err := d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// MkdirAll makes a directory and those above it that are missing, and returns
// the ones it made, the topmost first. They are durable when the parent of each
// has been synced.
func MkdirAll(fsys FS, name string, perm fs.FileMode) (made []string, err error) {
	err = fsys.Mkdir(name, perm)
	switch {
	case err == nil:
		return []string{name}, nil
	case errors.Is(err, fs.ErrExist):
		fi, serr := fsys.Stat(name)
		if serr != nil {
			return nil, serr
		}
		// A symbolic link may lead to a directory; what is put into it will tell.
		if !fi.IsDir() && fi.Mode()&fs.ModeSymlink == 0 {
			return nil, &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
		}
		return nil, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	parent := filepath.Dir(name)
	if parent == name {
		return nil, err
	}
	if made, err = MkdirAll(fsys, parent, perm); err != nil {
		return made, err
	}
	last, err := MkdirAll(fsys, name, perm)
	return append(made, last...), err
}

// SameFile says whether two descriptions are of one file: the same inode of the
// same file system.
func SameFile(a, b fs.FileInfo) bool {
	if os.SameFile(a, b) {
		return true
	}
	x, y := a.Sys(), b.Sys()
	return x != nil && x == y
}
