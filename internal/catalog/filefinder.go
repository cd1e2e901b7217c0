package catalog

import (
	"context"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/salvor-dr/salvor/internal/recent"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// partsHeld is how many parts of a file table a FileFinder holds, some thousand
// entries each.
const partsHeld = 8

// FileFinder finds single entries of a backup's file table, in memory that does not
// grow with the table but by a path for each of its parts. Its methods may be called
// by several goroutines.
type FileFinder struct {
	parts   *FileParts
	held    *recent.Values[int, []File]
	readers sync.Pool // of *partReader: each is used by one goroutine at a time
}

// FindFiles reads the whole file table of a backup once, and so finds damage in it as
// ReadFiles does.
func FindFiles(ctx context.Context, objects *seal.Objects, h Head) (*FileFinder, error) {
	parts, err := IndexFiles(ctx, objects, h, func(File) error { return nil })
	return &FileFinder{parts: parts, held: recent.New[int, []File](partsHeld, nil)}, err
}

// Find gives the entry of a path, and false if the table has none.
func (f *FileFinder) Find(ctx context.Context, path string) (File, bool, error) {
	n := sort.SearchStrings(f.parts.first, path)
	if n == len(f.parts.first) || f.parts.first[n] != path {
		n--
	}
	if n < 0 {
		return File{}, false, nil
	}
	files, err := f.part(ctx, n)
	if err != nil {
		return File{}, false, err
	}
	i, ok := slices.BinarySearchFunc(files, path, func(e File, path string) int { return strings.Compare(e.Path, path) })
	if !ok {
		return File{}, false, nil
	}
	return files[i], true, nil
}

// part gives the entries of one part.
func (f *FileFinder) part(ctx context.Context, n int) ([]File, error) {
	return f.held.Get(n, func() (files []File, err error) {
		r, ok := f.readers.Get().(*partReader)
		if !ok {
			r = &partReader{}
		}
		defer f.readers.Put(r)
		err = r.read(ctx, f.parts.table, f.parts.frames[n], func(e File) error {
			files = append(files, e)
			return nil
		})
		return files, err
	})
}
