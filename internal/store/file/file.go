package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/vfs"
)

// Store is a store in a directory. It is a store.Store and a store.TempCleaner.
type Store struct {
	fs    vfs.FS
	root  string
	now   func() time.Time
	id    fs.FileInfo // the root as it was opened
	owner *owner      // who gets what is made; nil leaves it as it is
	dirs  dirCache
	locks [stripes]chan struct{}
	bufs  sync.Pool // of *[]byte, up to bufferSize long
}

var (
	_ store.Store       = (*Store)(nil)
	_ store.TempCleaner = (*Store)(nil)
)

// Open opens the store in a directory, given by an absolute path. Without
// Options.Create the directory must exist (store.ErrNotFound); nothing is
// written before the first Create or Delete, so a read-only one can be read.
func Open(root string, o Options) (*Store, error) {
	o = o.withDefaults()
	if !filepath.IsAbs(root) {
		return nil, fmt.Errorf("opening the store %s: the path is not absolute", root)
	}
	s := &Store{fs: o.FS, root: filepath.Clean(root), now: o.Now}
	for i := range s.locks {
		s.locks[i] = make(chan struct{}, 1)
	}
	s.bufs.New = func() any { b := make([]byte, 0, bufferStart); return &b }
	if o.Create {
		if err := s.makeRoot(); err != nil {
			return nil, fmt.Errorf("creating the store %s: %w", s, classify(err))
		}
	}
	// A trailing slash: the root itself may be a symbolic link.
	d, err := s.fs.OpenFile(s.root+"/", 0, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening the store %s: %w: there is no such directory", s, store.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", s, classify(err))
	}
	s.id, err = d.Stat()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", s, classify(err))
	}
	if !s.id.IsDir() {
		return nil, fmt.Errorf("opening the store %s: it is not a directory", s)
	}
	s.owner = ownerOf(s.id)
	return s, nil
}

// makeRoot makes the root and the directories above it that are missing, each
// durable.
func (s *Store) makeRoot() error {
	made, err := vfs.MkdirAll(s.fs, s.root, dirPerm)
	for _, dir := range made {
		if err == nil {
			err = vfs.SyncDir(s.fs, filepath.Dir(dir))
		}
	}
	return err
}

// checkRoot says whether the root is still the directory that was opened. An
// error is store.ErrUnavailable.
func (s *Store) checkRoot() error {
	d, err := s.fs.OpenFile(s.root+"/", 0, 0)
	if err != nil {
		return fmt.Errorf("%w: its directory cannot be opened any more: %w", store.ErrUnavailable, err)
	}
	fi, err := d.Stat()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	if !vfs.SameFile(fi, s.id) {
		return fmt.Errorf("%w: its directory is not the one that was opened (unmounted?)", store.ErrUnavailable)
	}
	return nil
}

// notFound is what absence means: store.ErrNotFound when the root is in place.
func (s *Store) notFound() error {
	if err := s.checkRoot(); err != nil {
		return err
	}
	return store.ErrNotFound
}

func (s *Store) path(key string) string { return s.root + "/" + key }

func versionOf(fi fs.FileInfo) store.Version {
	return store.Version(strconv.FormatInt(fi.Size(), 36) + "-" + strconv.FormatInt(fi.ModTime().UnixNano(), 36))
}

func describe(key string, fi fs.FileInfo) store.Object {
	return store.Object{Key: key, Size: fi.Size(), ModTime: fi.ModTime(), Version: versionOf(fi)}
}

// begin is the start of every call: a valid key and a context that is not done.
func (s *Store) begin(ctx context.Context, doing, key string) error {
	if err := store.ValidateKey(key); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return s.fail(doing, key, err)
	}
	return nil
}

// Open reads a range of an object.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	const doing = "opening"
	if err := s.begin(ctx, doing, key); err != nil {
		return nil, err
	}
	f, err := vfs.Open(s.fs, s.path(key))
	if absent(err) || errors.Is(err, syscall.ELOOP) { // a symbolic link is no object
		err = s.notFound()
	}
	if err != nil {
		return nil, s.fail(doing, key, err)
	}
	r, err := s.reader(ctx, f, offset, length)
	if err != nil {
		_ = f.Close() // nothing was done with it
		return nil, s.fail(doing, key, err)
	}
	return r, nil
}

func (s *Store) reader(ctx context.Context, f vfs.File, offset, length int64) (io.ReadCloser, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, s.notFound()
	}
	have, want, err := store.Range(fi.Size(), offset, length)
	if err != nil {
		return nil, err
	}
	return store.NewRangeReader(ctx, io.NewSectionReader(readerAt{f}, offset, have), want, f.Close), nil
}

// readerAt gives the errors of a read their kind.
type readerAt struct{ f vfs.File }

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.f.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = classify(err)
	}
	return n, err
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (store.Object, error) {
	const doing = "looking up"
	if err := s.begin(ctx, doing, key); err != nil {
		return store.Object{}, err
	}
	fi, err := s.stat(key)
	if err == nil && fi == nil {
		err = s.notFound()
	}
	if err != nil {
		return store.Object{}, s.fail(doing, key, err)
	}
	return describe(key, fi), nil
}

// stat describes the file of an object; nil where there is none.
func (s *Store) stat(key string) (fs.FileInfo, error) {
	fi, err := s.fs.Stat(s.path(key))
	switch {
	case absent(err):
		return nil, nil
	case err != nil:
		return nil, err
	case !fi.Mode().IsRegular():
		return nil, nil
	}
	return fi, nil
}

// String is the URL of the directory.
func (s *Store) String() string {
	return (&url.URL{Scheme: "file", Path: s.root}).String()
}

// Close frees the directories that the store holds open.
func (s *Store) Close() error {
	if err := s.dirs.close(); err != nil {
		return fmt.Errorf("closing the store %s: %w", s, err)
	}
	return nil
}
