package file

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/vfs"
)

// Create starts an object in a temporary file.
func (s *Store) Create(ctx context.Context, key string, o store.CreateOptions) (store.Writer, error) {
	const doing = "creating"
	if err := s.begin(ctx, doing, key); err != nil {
		return nil, err
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	w := &writer{s: s, key: key, o: o, tmp: s.root + "/" + tmpName + "/" + rand.Text(),
		cause:   func() error { return context.Cause(ctx) },
		publish: func(w *writer) (store.Object, error) { return s.publish(ctx, w) }}
	var err error
	if w.f, err = s.createTemp(w.tmp); err != nil {
		return nil, s.fail(doing, key, err)
	}
	return w, nil
}

func (s *Store) createTemp(name string) (vfs.File, error) {
	f, err := vfs.Create(s.fs, name, filePerm)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.makeHidden(tmpName); err != nil {
			return nil, err
		}
		f, err = vfs.Create(s.fs, name, filePerm)
	}
	if err != nil {
		return nil, err
	}
	if err := s.owner.give(f); err != nil {
		_ = f.Close()
		_ = s.fs.Remove(name)
		return nil, err
	}
	return f, nil
}

// writer is an object being written.
type writer struct {
	s       *Store
	key     string
	o       store.CreateOptions
	tmp     string
	f       vfs.File // nil when it is closed
	cause   func() error
	publish func(*writer) (store.Object, error)

	buf     *[]byte // small writes gathered; nil when there are none
	size    int64   // bytes in the file
	started int64   // bytes of it that the kernel was asked to write back
	failed  error
	ended   bool
	renamed bool
}

// Write adds bytes, gathered into larger writes.
func (w *writer) Write(p []byte) (int, error) {
	if w.ended {
		return 0, w.s.fail("writing", w.key, store.ErrEnded)
	}
	if w.failed != nil {
		return 0, w.failed
	}
	n, err := w.gather(p)
	if err != nil {
		w.failed = w.s.fail("writing", w.key, err)
		return n, w.failed
	}
	return n, nil
}

func (w *writer) gather(p []byte) (int, error) {
	if err := w.cause(); err != nil {
		return 0, err
	}
	if w.buf == nil && len(p) < bufferSize {
		w.buf = w.s.bufs.Get().(*[]byte)
	}
	if w.buf != nil {
		if len(*w.buf)+len(p) <= bufferSize {
			*w.buf = append(*w.buf, p...)
			return len(p), nil
		}
		if err := w.flush(); err != nil {
			return 0, err
		}
		if len(p) < bufferSize {
			return w.gather(p)
		}
	}
	return w.write(p)
}

func (w *writer) flush() error {
	if w.buf == nil {
		return nil
	}
	_, err := w.write(*w.buf)
	w.release()
	return err
}

func (w *writer) release() {
	if w.buf != nil {
		*w.buf = (*w.buf)[:0]
		w.s.bufs.Put(w.buf)
		w.buf = nil
	}
}

func (w *writer) write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.size += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if h, ok := w.f.(vfs.Hinter); ok && w.size-w.started >= writebackSize {
		h.StartWriteback(w.started, w.size-w.started)
		w.started = w.size
	}
	return n, err
}

// Commit publishes the object and makes it durable.
func (w *writer) Commit() (store.Object, error) {
	if w.ended {
		return store.Object{}, w.s.fail("committing", w.key, store.ErrEnded)
	}
	err := w.failed
	if err == nil {
		var o store.Object
		if o, err = w.commit(); err == nil {
			return o, nil
		}
		err = w.s.fail("committing", w.key, err)
	}
	_ = w.Abort() // the first error is the one that tells
	return store.Object{}, err
}

func (w *writer) commit() (store.Object, error) {
	err := w.flush()
	if err == nil {
		err = w.cause()
	}
	if err != nil {
		return store.Object{}, err
	}
	if err := w.seal(w.s.now()); err != nil {
		return store.Object{}, err
	}
	o, err := w.publish(w)
	if err == nil {
		w.ended = true
	}
	return o, err
}

// seal dates the temporary file, and makes it durable, and closes it.
func (w *writer) seal(modTime time.Time) error {
	if err := w.f.SetModTime(modTime); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return fmt.Errorf("syncing: %w", err)
	}
	if h, ok := w.f.(vfs.Hinter); ok && w.size >= writebackSize {
		h.DropCache(0, 0)
	}
	f := w.f
	w.f = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("closing: %w", err)
	}
	return nil
}

// Abort removes the temporary file.
func (w *writer) Abort() error {
	if w.ended {
		return nil
	}
	w.ended = true
	w.release()
	if w.f != nil {
		_ = w.f.Close() // its bytes are not wanted
	}
	if w.renamed {
		return nil
	}
	if err := w.s.fs.Remove(w.tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return w.s.fail("aborting", w.key, err)
	}
	return nil
}

// publish gives the sealed temporary file its key.
func (s *Store) publish(ctx context.Context, w *writer) (store.Object, error) {
	fi, err := s.fs.Stat(w.tmp)
	if errors.Is(err, fs.ErrNotExist) {
		return store.Object{}, fmt.Errorf("the temporary file %s was removed meanwhile", w.tmp)
	}
	if err != nil {
		return store.Object{}, err
	}
	if fi.Size() != w.size {
		return store.Object{}, fmt.Errorf("the temporary file %s has %d bytes, and %d were written", w.tmp, fi.Size(), w.size)
	}
	if w.o.IfAbsent {
		err = s.publishNew(ctx, w)
	} else {
		fi, err = s.replace(ctx, w, fi)
	}
	if err != nil {
		return store.Object{}, err
	}
	return describe(w.key, fi), nil
}

// publishNew publishes where nothing is.
func (s *Store) publishNew(ctx context.Context, w *writer) error {
	err := s.rename(w, s.fs.RenameNoReplace)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return s.publishLocked(ctx, w)
	case errors.Is(err, fs.ErrExist):
		return s.exists(w.key)
	case err != nil:
		return err
	}
	return s.syncUp(filepath.Dir(s.path(w.key)), true)
}

// publishLocked is publishNew for file systems that can neither rename without
// replacing nor link: under the lock, which all replacements take, and so do
// all other writers on such a file system.
func (s *Store) publishLocked(ctx context.Context, w *writer) error {
	return s.locked(ctx, w.key, func() error {
		there, err := s.stat(w.key)
		switch {
		case err != nil:
			return err
		case there != nil:
			return s.exists(w.key)
		}
		if err := s.rename(w, s.fs.Rename); err != nil {
			return err
		}
		return s.syncUp(filepath.Dir(s.path(w.key)), true)
	})
}

// exists is store.ErrExists, once the object that is there is durable.
func (s *Store) exists(key string) error {
	if err := s.syncUp(filepath.Dir(s.path(key)), true); err != nil {
		return err
	}
	return store.ErrExists
}

// replace publishes over what may be there, and returns the file as published.
func (s *Store) replace(ctx context.Context, w *writer, fi fs.FileInfo) (fs.FileInfo, error) {
	err := s.locked(ctx, w.key, func() error {
		there, err := s.stat(w.key)
		if err != nil {
			return err
		}
		if w.o.IfMatch != "" && (there == nil || versionOf(there) != w.o.IfMatch) {
			return store.ErrChanged
		}
		if there != nil && !fi.ModTime().After(there.ModTime()) {
			if fi, err = s.redate(w, there.ModTime()); err != nil {
				return err
			}
		}
		if err := s.rename(w, s.fs.Rename); err != nil {
			return err
		}
		return s.syncUp(filepath.Dir(s.path(w.key)), true)
	})
	return fi, err
}

func (s *Store) locked(ctx context.Context, key string, do func() error) error {
	unlock, err := s.lock(ctx, key)
	if err != nil {
		return err
	}
	err = do()
	if uerr := unlock(); err == nil {
		err = uerr
	}
	return err
}

// redate gives a sealed file a time after that of the object it replaces, so
// that no version comes twice. Two seconds are the coarsest times there are
// (FAT).
func (s *Store) redate(w *writer, after time.Time) (fs.FileInfo, error) {
	for _, step := range []time.Duration{time.Nanosecond, time.Microsecond, 2 * time.Second} {
		f, err := s.fs.OpenFile(w.tmp, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		w.f = f
		if err := w.seal(after.Add(step)); err != nil {
			return nil, err
		}
		fi, err := s.fs.Stat(w.tmp)
		if err != nil {
			return nil, err
		}
		if fi.ModTime().After(after) {
			return fi, nil
		}
	}
	return nil, fmt.Errorf("the file system does not keep the modification time of %s", w.tmp)
}

// rename moves the temporary file to its key, and makes the folder for it as
// often as somebody tidies it away.
func (s *Store) rename(w *writer, rename func(oldname, newname string) error) error {
	path := s.path(w.key)
	var err error
	for range publishAttempts {
		err = rename(w.tmp, path)
		switch {
		case err == nil:
			w.renamed = true
			return nil
		case errors.Is(err, fs.ErrNotExist):
			err = s.remakeDir(w, filepath.Dir(path))
		case isFolder(s.fs, path):
			err = s.freeName(w.key)
		default:
			return s.folderConflict(w.key, err)
		}
		if errors.Is(err, store.ErrUnavailable) || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s.folderConflict(w.key, err)
		}
	}
	return fmt.Errorf("after %d attempts: %w", publishAttempts, err)
}

// remakeDir makes the folder that a rename did not find, in the root that was
// opened.
func (s *Store) remakeDir(w *writer, dir string) error {
	if err := s.checkRoot(); err != nil {
		return err
	}
	if _, err := s.fs.Stat(w.tmp); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the temporary file %s was removed meanwhile", w.tmp)
	}
	return s.makeDir(dir)
}

func isFolder(fsys vfs.FS, path string) bool {
	fi, err := fsys.Stat(path)
	return err == nil && fi.IsDir()
}

// freeName removes an empty folder that has the name of an object, a leftover
// of objects deleted before a crash.
func (s *Store) freeName(key string) error {
	err := s.removeEmpty(s.path(key))
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return fmt.Errorf("%w: there are objects under %s/", store.ErrInvalidKey, key)
	}
	return err
}

// folderConflict tells the error of a key that needs a folder where an object
// is.
func (s *Store) folderConflict(key string, err error) error {
	if !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	return fmt.Errorf("%w: an object has the name of a folder of %s: %w", store.ErrInvalidKey, key, err)
}
