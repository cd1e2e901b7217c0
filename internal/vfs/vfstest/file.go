package vfstest

import (
	"io"
	"io/fs"
	"strconv"
	"syscall"
	"time"

	"github.com/salvor-dr/salvor/internal/vfs"
)

// file is an opening of a node.
type file struct {
	fs            *FS
	node          *node
	name          string
	reads, writes bool
	closed        bool
	pos           int64
}

// do runs one operation of the file under the lock.
func (f *file) do(c Call, act func(n int) error) error {
	c.Name = f.name
	want := c.Len
	n, herr := f.fs.call(c)
	if herr != nil && (want == 0 || n == want) && c.Op != OpClose {
		return herr
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: string(c.Op), Path: f.name, Err: fs.ErrClosed}
	}
	err := act(n)
	if herr != nil {
		return herr
	}
	if err != nil && err != io.EOF {
		err = &fs.PathError{Op: string(c.Op), Path: f.name, Err: err}
	}
	return err
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.readAt(p, &f.pos)
	return n, err
}

// ReadAt reads until p is full, as io.ReaderAt asks.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.readAt(p, &off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (f *file) readAt(p []byte, pos *int64) (n int, err error) {
	err = f.do(Call{Op: OpRead, Len: len(p)}, func(limit int) error {
		switch {
		case f.node.dir:
			return syscall.EISDIR
		case !f.reads:
			return syscall.EBADF
		case *pos < 0:
			return syscall.EINVAL
		case len(p) == 0:
			return nil
		case *pos >= int64(len(f.node.data)):
			return io.EOF
		}
		n = copy(p[:min(limit, len(p))], f.node.data[*pos:])
		*pos += int64(n)
		return nil
	})
	return n, err
}

func (f *file) Write(p []byte) (int, error) { return f.writeAt(p, &f.pos) }

func (f *file) WriteAt(p []byte, off int64) (int, error) { return f.writeAt(p, &off) }

func (f *file) writeAt(p []byte, pos *int64) (n int, err error) {
	err = f.do(Call{Op: OpWrite, Len: len(p)}, func(limit int) error {
		switch {
		case !f.writes:
			return syscall.EBADF
		case *pos < 0:
			return syscall.EINVAL
		}
		n = min(limit, len(p))
		f.node.resize(max(int64(len(f.node.data)), *pos+int64(n)))
		copy(f.node.data[*pos:], p[:n])
		*pos += int64(n)
		f.node.modTime = f.fs.now()
		if n < len(p) {
			return io.ErrShortWrite
		}
		return nil
	})
	return n, err
}

func (n *node) resize(size int64) {
	if size <= int64(len(n.data)) {
		clear(n.data[size:])
		n.data = n.data[:size]
		return
	}
	n.data = append(n.data, make([]byte, size-int64(len(n.data)))...)
}

func (f *file) Sync() error {
	return f.do(Call{Op: OpSync}, func(int) error {
		f.node.sync()
		return nil
	})
}

func (f *file) Truncate(size int64) error {
	return f.do(Call{Op: OpTruncate}, func(int) error {
		if !f.writes || size < 0 {
			return syscall.EINVAL
		}
		f.node.resize(size)
		f.node.modTime = f.fs.now()
		return nil
	})
}

func (f *file) SetModTime(t time.Time) error {
	return f.do(Call{Op: OpSetModTime}, func(int) error {
		f.node.modTime = t
		return nil
	})
}

// Identity is the node's number.
func (f *file) Identity() (string, bool) { return strconv.FormatInt(f.node.born, 10), true }

func (f *file) Stat() (fi fs.FileInfo, err error) {
	err = f.do(Call{Op: OpFileStat}, func(int) error {
		fi = f.node.info(f.name)
		return nil
	})
	return fi, err
}

func (f *file) TryLock() error {
	return f.do(Call{Op: OpLock}, func(int) error {
		if f.node.locked != nil && f.node.locked != f {
			return vfs.ErrLocked
		}
		f.node.locked = f
		return nil
	})
}

func (f *file) Close() error {
	return f.do(Call{Op: OpClose}, func(int) error {
		f.closed = true
		f.fs.open--
		if f.node.locked == f {
			f.node.locked = nil
		}
		return nil
	})
}
