package file

import (
	"errors"
	"io"
	"io/fs"
	"strings"

	"github.com/salvor-dr/salvor/internal/vfs"
)

// markName is a hidden file in a folder, which says that the folder's name was
// durable, and those of all above it up to the root, before the file was made. So
// another process need not sync them again: PostgreSQL starts one for every segment
// that it archives, and each sync of a folder costs the disk a flush of its cache.
//
// The mark is made after the last of these syncs, so whoever sees it, in this life of
// the machine or after a crash, may believe it. It holds the folder's identity and
// its path below the root, so that a mark that was copied, with the repository, to
// folders that nobody has synced is not believed. As long as there is a mark in a
// folder, the folder cannot be removed, nor any above it; tidy takes the mark away
// first, and a folder that is made again has none. A mark that is missing, cut off or
// wrong costs syncs and nothing else; so marks are not synced, and that one cannot be
// made is no error.
//
// A folder gets its mark from the second process that writes into it: those that
// only one ever does, as a backup's, need none.
const markName = ".durable"

// mark is what the folder's mark must hold; false if it can have none.
func (s *Store) mark(d heldDir) (string, bool) {
	f, ok := d.file.(vfs.Identifier)
	if !ok || d.path == s.root {
		return "", false
	}
	id, ok := f.Identity()
	return id + " " + strings.TrimPrefix(d.path, s.root+"/") + "\n", ok
}

// marked says whether the folder has its mark.
func (s *Store) marked(d heldDir) bool {
	want, ok := s.mark(d)
	if !ok {
		return false
	}
	f, err := vfs.Open(s.fs, d.path+"/"+markName)
	if err != nil {
		return false
	}
	got := make([]byte, len(want)+1)
	n, err := f.ReadAt(got, 0)
	return f.Close() == nil && err == io.EOF && string(got[:n]) == want
}

// leaveMark marks a folder that has been synced, and all above it.
func (s *Store) leaveMark(d heldDir) {
	text, ok := s.mark(d)
	if !ok {
		return
	}
	name := d.path + "/" + markName
	f, err := vfs.Create(s.fs, name, filePerm)
	if errors.Is(err, fs.ErrExist) { // it is wrong, or was cut off
		_ = s.fs.Remove(name)
		f, err = vfs.Create(s.fs, name, filePerm)
	}
	if err != nil {
		return
	}
	_, err = f.Write([]byte(text))
	if gerr := s.owner.give(f); err == nil {
		err = gerr
	}
	if cerr := f.Close(); err != nil || cerr != nil {
		_ = s.fs.Remove(name)
	}
}
