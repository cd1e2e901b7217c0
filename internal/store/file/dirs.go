package file

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/salvor-dr/salvor/internal/vfs"
)

// dirCacheMax is how many folders are held open. A backup writes into two or
// three at a time.
const dirCacheMax = 16

// dirCache remembers folders that are durable themselves, with all above them:
// a commit into one of these need not sync the way up to the root again. Each
// is held open, so that its inode cannot be given to another folder: a folder
// of that name is the one remembered exactly when it is the same inode. And as
// long as it is, no folder above it can have been removed.
type dirCache struct {
	mu   sync.Mutex
	dirs []heldDir // the latest used last
	made []string  // folders that this process made and that are not in dirs yet
}

type heldDir struct {
	path string
	file vfs.File
	info fs.FileInfo
}

// knows says whether the folder at path, now described by info, is durable.
func (c *dirCache) knows(path string, info fs.FileInfo) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.dirs, func(d heldDir) bool { return d.path == path })
	if i < 0 || !vfs.SameFile(c.dirs[i].info, info) {
		return false
	}
	d := c.dirs[i]
	c.dirs = append(slices.Delete(c.dirs, i, i+1), d)
	return true
}

// noteMade remembers that this process made a folder.
func (c *dirCache) noteMade(dir string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.made, dir) {
		c.made = append(c.made, dir)
	}
}

// takeMade says whether this process made the folder, and forgets it.
func (c *dirCache) takeMade(dir string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.made, dir)
	if i >= 0 {
		c.made = slices.Delete(c.made, i, i+1)
	}
	return i >= 0
}

// add remembers a durable folder, and takes the open file over.
func (c *dirCache) add(d heldDir) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirs = append(c.dirs, d)
	drop := slices.IndexFunc(c.dirs, func(o heldDir) bool { return o.path == d.path && o.file != d.file })
	if drop < 0 && len(c.dirs) > dirCacheMax {
		drop = 0
	}
	if drop >= 0 {
		_ = c.dirs[drop].file.Close() // a directory opened for reading loses nothing
		c.dirs = slices.Delete(c.dirs, drop, drop+1)
	}
}

func (c *dirCache) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, d := range c.dirs {
		errs = append(errs, d.file.Close())
	}
	c.dirs = nil
	return errors.Join(errs...)
}

// syncUp makes the names in a folder durable, and the folder itself: it syncs
// it and, unless it is known or marked, every one above it up to the root. A folder that
// is gone was tidied away after the objects in it had been deleted; then the
// first one above it that is there carries the news. written says that something was
// written into the folder, so that it is worth a mark.
func (s *Store) syncUp(dir string, written bool) error {
	for {
		held, err := s.syncHeld(dir)
		switch {
		case err == nil && held.file == nil:
			return nil // known
		case err == nil && s.marked(held):
			s.dirs.add(held)
			return nil
		case err == nil:
			return s.syncAbove(held, written)
		case !absent(err) || dir == s.root:
			return err
		}
		dir = filepath.Dir(dir)
	}
}

// syncHeld syncs one folder. It returns it open, or nothing when it is known.
func (s *Store) syncHeld(dir string) (heldDir, error) {
	d, err := s.fs.OpenFile(dir+"/", 0, 0)
	if err != nil {
		return heldDir{}, err
	}
	err = vfs.SyncOpenDir(d)
	var info fs.FileInfo
	if err == nil {
		info, err = d.Stat()
	}
	if err != nil || s.dirs.knows(dir, info) {
		if cerr := d.Close(); err == nil {
			err = cerr
		}
		return heldDir{}, err
	}
	return heldDir{path: dir, file: d, info: info}, nil
}

// syncAbove syncs what is above a folder, and remembers it.
func (s *Store) syncAbove(d heldDir, written bool) error {
	for dir := d.path; dir != s.root; {
		dir = filepath.Dir(dir)
		if err := vfs.SyncDir(s.fs, dir); err != nil && !absent(err) {
			_ = d.file.Close() // the first error is the one that tells
			return err
		}
	}
	if made := s.dirs.takeMade(d.path); written && !made {
		s.leaveMark(d)
	}
	s.dirs.add(d)
	return nil
}

// makeDir makes a folder under the root and those above it, with the right
// owner. Making them durable is syncUp's part.
func (s *Store) makeDir(dir string) error {
	made, err := vfs.MkdirAll(s.fs, dir, dirPerm)
	if slices.Contains(made, dir) {
		s.dirs.noteMade(dir)
	}
	if s.owner == nil {
		return err
	}
	for _, m := range made {
		if gerr := s.giveDir(m); err == nil && !absent(gerr) {
			err = gerr
		}
	}
	return err
}

func (s *Store) giveDir(dir string) error {
	d, err := vfs.Open(s.fs, dir)
	if err != nil {
		return err
	}
	fi, err := d.Stat()
	if err == nil && fi.IsDir() {
		err = s.owner.give(d)
	}
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// tidy removes folders that hold nothing but a mark, from dir upwards. It need not
// be durable: an empty folder that comes back is no object. Where there is more in
// the folder, the mark is lost and made again.
func (s *Store) tidy(dir string) {
	for dir != s.root {
		if s.removeDir(dir) != nil {
			return
		}
		dir = filepath.Dir(dir)
	}
}

// removeEmpty removes a folder that holds nothing but empty folders.
func (s *Store) removeEmpty(dir string) error {
	entries, err := s.fs.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == markName {
			continue
		}
		if !e.IsDir() {
			return &fs.PathError{Op: "remove", Path: dir, Err: fs.ErrExist}
		}
		if err := s.removeEmpty(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return s.removeDir(dir)
}

// removeDir removes a folder that is empty but for its mark.
func (s *Store) removeDir(dir string) error {
	_ = s.fs.Remove(dir + "/" + markName)
	return s.fs.Remove(dir)
}
