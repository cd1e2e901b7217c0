package file

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"time"

	"github.com/salvor-dr/salvor/internal/vfs"
)

// stripes is the number of locks that the keys are spread over: as many
// replacements and deletions can be under way at once.
const stripes = 64

// lock takes the lock of a key, against other goroutines and other processes,
// and waits for it until ctx is done. Replacing and deleting hold it; creating
// with IfAbsent needs none, for its rename is one step.
func (s *Store) lock(ctx context.Context, key string) (unlock func() error, err error) {
	h := fnv.New32a()
	h.Write([]byte(key))
	stripe := h.Sum32() % stripes
	select {
	case s.locks[stripe] <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	f, err := s.lockFile(ctx, fmt.Sprintf("%s/%s/%02x", s.root, lockName, stripe))
	if err != nil {
		<-s.locks[stripe]
		return nil, err
	}
	return func() error {
		err := f.Close()
		<-s.locks[stripe]
		return err
	}, nil
}

func (s *Store) lockFile(ctx context.Context, name string) (vfs.File, error) {
	f, err := s.openLock(name)
	if err != nil {
		return nil, err
	}
	for wait := lockPollMin; ; wait = min(2*wait, lockPollMax) {
		err = f.TryLock()
		if !errors.Is(err, vfs.ErrLocked) {
			break
		}
		if err = sleep(ctx, wait); err != nil {
			break
		}
	}
	if err != nil {
		_ = f.Close() // the first error is the one that tells
		return nil, fmt.Errorf("locking: %w", err)
	}
	return f, nil
}

// openLock opens a lock file, and makes it where it is missing. Lock files are
// never removed, so all hold the same one.
func (s *Store) openLock(name string) (vfs.File, error) {
	f, err := s.fs.OpenFile(name, os.O_RDWR, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := s.makeHidden(lockName); err != nil {
		return nil, err
	}
	f, err = vfs.Create(s.fs, name, filePerm)
	if errors.Is(err, fs.ErrExist) {
		return s.fs.OpenFile(name, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := s.owner.give(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// makeHidden makes one of the hidden folders, in the root that was opened and
// in no other: where a disk was unmounted, nothing must be written under it.
func (s *Store) makeHidden(name string) error {
	if err := s.checkRoot(); err != nil {
		return err
	}
	return s.makeDir(s.root + "/" + name)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
