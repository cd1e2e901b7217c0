package backup

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// rwfDontCache asks the kernel (Linux 6.14) to drop what it had to read for us,
// and to leave alone what was cached before: RWF_DONTCACHE, linux/fs.h.
const rwfDontCache = 0x80

// reader reads a file without displacing what the database has in the page cache,
// where the kernel and the file system can.
type reader struct {
	path  string
	file  *os.File // nil until open
	plain bool     // the kernel or the file system can't
}

// open opens the file, unless it is open.
func (r *reader) open() (err error) {
	if r.file == nil {
		r.file, err = os.Open(r.path)
	}
	return err
}

func (r *reader) close() {
	if r.file != nil {
		_ = r.file.Close()
	}
}

// readAt fills b from the file's bytes at the given place. It gives io.EOF when the
// file ends before.
func (r *reader) readAt(b []byte, at int64) (int, error) {
	n := 0
	for n < len(b) && !r.plain {
		m, err := unix.Preadv2(int(r.file.Fd()), [][]byte{b[n:]}, at+int64(n), rwfDontCache)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
			r.plain = true
		case err != nil:
			return n, &os.PathError{Op: "read", Path: r.file.Name(), Err: err}
		case m == 0:
			return n, io.EOF
		default:
			n += m
		}
	}
	if n == len(b) {
		return n, nil
	}
	m, err := r.file.ReadAt(b[n:], at+int64(n))
	return n + m, err
}
