package catalog

import (
	"context"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// partsHeld is how many parts of a file table a FileFinder holds, some thousand
// entries each.
const partsHeld = 8

// FileFinder finds single entries of a backup's file table, in memory that does not
// grow with the table but by a path for each of its parts. Its methods may be called
// by several goroutines.
type FileFinder struct {
	mu    sync.Mutex
	parts *FileParts
	held  []heldPart // last used first
}

type heldPart struct {
	number int
	files  []File
}

// FindFiles reads the whole file table of a backup once, and so finds damage in it as
// ReadFiles does.
func FindFiles(ctx context.Context, objects *seal.Objects, h Head) (*FileFinder, error) {
	parts, err := IndexFiles(ctx, objects, h, func(File) error { return nil })
	return &FileFinder{parts: parts}, err
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
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.IndexFunc(f.held, func(h heldPart) bool { return h.number == n }); i >= 0 {
		h := f.held[i]
		copy(f.held[1:i+1], f.held[:i])
		f.held[0] = h
		return h.files, nil
	}
	var files []File
	err := f.parts.Read(ctx, n, func(e File) error {
		files = append(files, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	f.held = slices.Insert(f.held, 0, heldPart{n, files})
	f.held = f.held[:min(len(f.held), partsHeld)]
	return files, nil
}
