package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/salvor-dr/salvor/internal/store"
)

// fail says what was done to which object where, and which kind of error it is.
func (s *Store) fail(doing, key string, err error) error {
	return fmt.Errorf("%s %s in %s: %w", doing, key, s, classify(err))
}

// classify maps the errors of the system to those of the contract. What is not
// here (EIO above all) is final and of no kind.
func classify(err error) error {
	var errno syscall.Errno
	if isKind(err) || !errors.As(err, &errno) {
		return err
	}
	switch errno {
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG:
		return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
	case syscall.EACCES, syscall.EPERM, syscall.EROFS:
		return fmt.Errorf("%w: %w", store.ErrPermission, err)
	case syscall.EAGAIN, syscall.EINTR, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ETIMEDOUT,
		syscall.ESTALE, syscall.ENOTCONN, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EHOSTDOWN,
		syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.ENETUNREACH:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	case syscall.ENAMETOOLONG:
		return fmt.Errorf("%w: %w", store.ErrInvalidKey, err)
	case syscall.EXDEV:
		return fmt.Errorf("%w (the store must be one file system, with nothing mounted or linked inside it)", err)
	}
	return err
}

func isKind(err error) bool {
	for _, kind := range []error{store.ErrNotFound, store.ErrExists, store.ErrChanged, store.ErrNoSpace,
		store.ErrInvalidKey, store.ErrUnavailable, store.ErrPermission, store.ErrRange,
		context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// absent says whether the error means that a path leads nowhere: a name is
// missing, or one of the folders is a file.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
