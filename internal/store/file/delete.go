package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
)

// Delete removes an object, durably, and the folders that it leaves empty.
func (s *Store) Delete(ctx context.Context, key string, match store.Version) error {
	const doing = "deleting"
	if err := s.begin(ctx, doing, key); err != nil {
		return err
	}
	if err := s.checkRoot(); err != nil {
		return s.fail(doing, key, err)
	}
	err := s.locked(ctx, key, func() error { return s.remove(key, match) })
	if err != nil {
		return s.fail(doing, key, err)
	}
	return nil
}

func (s *Store) remove(key string, match store.Version) error {
	there, err := s.stat(key)
	if err != nil {
		return err
	}
	if match != "" && (there == nil || versionOf(there) != match) {
		return store.ErrChanged
	}
	dir := filepath.Dir(s.path(key))
	if there != nil {
		if err := s.fs.Remove(s.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// Where nothing was there, somebody else may have removed it a moment ago
	// and not have made that durable.
	if err := s.syncUp(dir, false); err != nil {
		return err
	}
	if there != nil {
		s.tidy(dir)
	}
	return nil
}

// RemoveTemporary removes what killed writers left in the hidden folder. The
// age is judged by the time of the last write, on the clock of the machine that
// wrote it.
func (s *Store) RemoveTemporary(ctx context.Context, olderThan time.Duration, now time.Time) (n int, bytes int64, err error) {
	dir := s.root + "/" + tmpName
	entries, err := s.fs.ReadDir(dir)
	if absent(err) {
		return 0, 0, s.checkRoot()
	}
	for _, e := range entries {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			break
		}
		var size int64
		var removed bool
		if size, removed, err = s.removeOld(dir, e, now.Add(-olderThan)); removed {
			n++
			bytes += size
		}
	}
	if err != nil {
		return n, bytes, fmt.Errorf("removing temporary files of %s: %w", s, classify(err))
	}
	return n, bytes, nil
}

func (s *Store) removeOld(dir string, e fs.DirEntry, limit time.Time) (size int64, removed bool, err error) {
	fi, err := e.Info()
	if err == nil && (!fi.Mode().IsRegular() || fi.ModTime().After(limit)) {
		return 0, false, nil
	}
	if err == nil {
		err = s.fs.Remove(dir + "/" + e.Name())
	}
	if absent(err) { // its writer ended it meanwhile
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return fi.Size(), true, nil
}
