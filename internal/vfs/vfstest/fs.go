package vfstest

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/salvor-dr/salvor/internal/vfs"
)

// FS is the file system in memory. It is a vfs.FS.
type FS struct {
	mu    sync.Mutex
	root  *node
	hook  Hook
	open  int
	ticks int64
}

var _ vfs.FS = (*FS)(nil)

// New makes an empty file system: a durable root directory "/".
func New() *FS { return &FS{root: newDir(0o755, 0)} }

// SetHook puts a hook before each operation, in place of the one there was; nil
// takes it away.
func (y *FS) SetHook(h Hook) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.hook = h
}

// Open is the number of files and directories that are open.
func (y *FS) Open() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.open
}

// Crash returns the file system as a loss of power at this moment could leave
// it, with everything in it durable and nothing open. The receiver goes on as
// it is. Seed 0 loses everything that is not synced, seed 1 keeps everything,
// any other seed decides for each change by itself.
func (y *FS) Crash(seed uint64) *FS {
	y.mu.Lock()
	defer y.mu.Unlock()
	luck := mixed
	switch seed {
	case 0:
		luck = loseAll
	case 1:
		luck = keepAll
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	return &FS{root: y.root.crash(rng, luck, map[*node]*node{}), ticks: y.ticks}
}

// call runs the hook. It returns the possibly lowered Len.
func (y *FS) call(c Call) (int, error) {
	y.mu.Lock()
	hook := y.hook
	y.mu.Unlock()
	if hook == nil {
		return c.Len, nil
	}
	err := hook(&c)
	if err != nil {
		err = &fs.PathError{Op: string(c.Op), Path: c.Name, Err: err}
	}
	return c.Len, err
}

// now is a time that differs at each call, in coarse steps as kernels have them.
func (y *FS) now() time.Time {
	y.ticks++
	return time.Unix(1_700_000_000, y.ticks*4_000_000)
}

// find walks to a name. Its directory is nil for the root; its node is nil
// where there is none.
func (y *FS) find(name string) (dir *node, base string, n *node, err error) {
	if !filepath.IsAbs(name) {
		return nil, "", nil, syscall.EINVAL
	}
	n = y.root
	rest := strings.TrimPrefix(filepath.Clean(name), "/")
	for more := rest != ""; more; {
		base, rest, more = strings.Cut(rest, "/")
		switch {
		case n == nil:
			return nil, "", nil, syscall.ENOENT
		case !n.dir:
			return nil, "", nil, syscall.ENOTDIR
		case len(base) > 255:
			return nil, "", nil, syscall.ENAMETOOLONG
		}
		dir, n = n, n.names[base]
	}
	return dir, base, n, nil
}

// OpenFile opens or creates a file.
func (y *FS) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	op := OpOpen
	if flag&os.O_CREATE != 0 {
		op = OpCreate
	}
	if _, err := y.call(Call{Op: op, Name: name}); err != nil {
		return nil, err
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	n, err := y.openNode(name, flag, perm)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	y.open++
	access := flag & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
	return &file{fs: y, node: n, name: name, reads: access != os.O_WRONLY, writes: access != os.O_RDONLY}, nil
}

func (y *FS) openNode(name string, flag int, perm fs.FileMode) (*node, error) {
	dir, base, n, err := y.find(name)
	switch {
	case err != nil:
		return nil, err
	case n == nil && flag&os.O_CREATE == 0:
		return nil, syscall.ENOENT
	case n == nil:
		n = &node{mode: perm.Perm(), modTime: y.now(), born: y.ticks}
		dir.set(base, n)
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, syscall.EEXIST
	case n.dir && flag&(os.O_WRONLY|os.O_RDWR) != 0:
		return nil, syscall.EISDIR
	case flag&os.O_TRUNC != 0:
		n.data = nil
	}
	return n, nil
}

// Mkdir makes a directory.
func (y *FS) Mkdir(name string, perm fs.FileMode) error {
	return y.change(Call{Op: OpMkdir, Name: name}, func() error {
		dir, base, n, err := y.find(name)
		if err == nil && n != nil {
			err = syscall.EEXIST
		}
		if err == nil {
			y.ticks++
			dir.set(base, newDir(perm.Perm(), y.ticks))
		}
		return err
	})
}

// Remove removes a file or an empty directory.
func (y *FS) Remove(name string) error {
	return y.change(Call{Op: OpRemove, Name: name}, func() error {
		dir, base, n, err := y.find(name)
		switch {
		case err != nil:
			return err
		case n == nil:
			return syscall.ENOENT
		case n.dir && len(n.names) > 0:
			return syscall.ENOTEMPTY
		case dir == nil:
			return syscall.EBUSY
		}
		dir.set(base, nil)
		return nil
	})
}

// Rename moves a file over the one that may be there.
func (y *FS) Rename(oldname, newname string) error {
	return y.change(Call{Op: OpRename, Name: oldname, New: newname}, func() error {
		return y.rename(oldname, newname, true)
	})
}

// RenameNoReplace moves a file to a name that must be free.
func (y *FS) RenameNoReplace(oldname, newname string) error {
	return y.change(Call{Op: OpNoReplace, Name: oldname, New: newname}, func() error {
		return y.rename(oldname, newname, false)
	})
}

func (y *FS) rename(oldname, newname string, replace bool) error {
	from, oldbase, n, err := y.find(oldname)
	if err != nil {
		return err
	}
	to, newbase, there, err := y.find(newname)
	switch {
	case err != nil:
		return err
	case n == nil:
		return syscall.ENOENT
	case n.dir:
		return errors.ErrUnsupported // the model has no moves of directories
	case there != nil && !replace:
		return syscall.EEXIST
	case there != nil && there.dir:
		return syscall.EISDIR
	}
	from.set(oldbase, nil)
	to.set(newbase, n)
	return nil
}

func (y *FS) change(c Call, do func() error) error {
	if _, err := y.call(c); err != nil {
		return err
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	if err := do(); err != nil {
		return &fs.PathError{Op: string(c.Op), Path: c.Name, Err: err}
	}
	return nil
}

// Stat describes a name.
func (y *FS) Stat(name string) (fs.FileInfo, error) {
	var fi fs.FileInfo
	err := y.change(Call{Op: OpStat, Name: name}, func() error {
		_, _, n, err := y.find(name)
		if err == nil && n == nil {
			err = syscall.ENOENT
		}
		if err == nil {
			fi = n.info(name)
		}
		return err
	})
	return fi, err
}

// ReadDir lists a directory.
func (y *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	var entries []fs.DirEntry
	err := y.change(Call{Op: OpReadDir, Name: name}, func() error {
		_, _, n, err := y.find(name)
		switch {
		case err != nil:
			return err
		case n == nil:
			return syscall.ENOENT
		case !n.dir:
			return syscall.ENOTDIR
		}
		for child, c := range n.names { // the order of a map is as good as a disk's
			entries = append(entries, c.info(child))
		}
		return nil
	})
	return entries, err
}
