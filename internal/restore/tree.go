package restore

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/salvor-dr/salvor/internal/catalog"
)

// lostAndFound is what mkfs makes at the root of a file system.
const lostAndFound = "lost+found"

// tree lists a data directory with its tablespaces in the order of a file table: by
// the bytes of whole paths. It holds the names of the directories on its way down, and
// nothing else. It enters only what it is told to: before it is asked for the next
// name, the caller can still change what is there.
type tree struct {
	root    string
	version string            // the directory of the cluster in each tablespace
	spaces  map[string]string // by the name in pg_tblspc: the location
	frames  []frame
}

// frame is what is left of one directory: names, and a name with a slash behind it
// where the contents of a directory come.
type frame struct {
	dir   string // its path in the tree, "" for the root
	names []string
}

// newTree begins to list the data directory root.
func newTree(root, version string, spaces map[string]string) (*tree, error) {
	t := &tree{root: root, version: version, spaces: spaces}
	return t, t.list("")
}

// abs gives the name to open for a path in the tree.
func (t *tree) abs(path string) string {
	if rest, ok := strings.CutPrefix(path, tablespaceDir+"/"); ok {
		name, below, _ := strings.Cut(rest, "/")
		if location := t.spaces[name]; location != "" && below != "" {
			return filepath.Join(location, below)
		}
	}
	return filepath.Join(t.root, path)
}

const tablespaceDir = "pg_tblspc"

// list begins with the contents of a directory.
func (t *tree) list(dir string) error {
	path, location := t.abs(dir), ""
	if name, ok := strings.CutPrefix(dir, tablespaceDir+"/"); ok && t.spaces[name] != "" {
		location = t.spaces[name]
		path = location
	}
	names, err := t.names(path)
	if err != nil {
		return err
	}
	switch {
	case location != "": // other clusters may have directories there
		names = slices.DeleteFunc(names, func(n string) bool { return n != t.version })
	case dir == tablespaceDir:
		for name := range t.spaces { // also where the link is missing
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	t.frames = append(t.frames, frame{dir, names})
	return nil
}

// names gives what is in a directory, but for what is never removed.
func (t *tree) names(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.Name() == lostAndFound {
			if is, err := mountedBehind(path); err != nil || is {
				continue
			}
		}
		if e.Name() == NoteName && path == t.root {
			continue
		}
		names = append(names, e.Name())
	}
	return names, nil
}

// next gives the path that comes next, "" at the end.
func (t *tree) next() (string, error) {
	for len(t.frames) > 0 {
		f := &t.frames[len(t.frames)-1]
		if len(f.names) == 0 {
			t.frames = t.frames[:len(t.frames)-1]
			continue
		}
		path := f.names[0]
		if f.dir != "" {
			path = f.dir + "/" + path
		}
		dir, enter := strings.CutSuffix(path, "/")
		if !enter {
			return path, nil
		}
		f.names = f.names[1:]
		if err := t.list(dir); err != nil {
			return "", err
		}
	}
	return "", nil
}

// take goes past the path that next gave, and describes what is there: nil if nothing
// is. A link is not followed.
func (t *tree) take(path string) (fs.FileInfo, error) {
	f := &t.frames[len(t.frames)-1]
	f.names = f.names[1:]
	info, err := os.Lstat(t.abs(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return info, err
}

// enter has the contents of the directory that was taken last listed, in their turn.
func (t *tree) enter(path string) {
	f := &t.frames[len(t.frames)-1]
	name := path[strings.LastIndexByte(path, '/')+1:] + "/"
	i, _ := slices.BinarySearch(f.names, name)
	f.names = slices.Insert(f.names, i, name)
}

// visit sees one path: want is what the backup has there, nil if nothing, and have
// what the directory has. It says whether have is a directory to go on in.
type visit func(path string, want *catalog.File, have fs.FileInfo) (enter bool, err error)

// compare goes through a file table and a tree side by side. What is in the table only
// it visits too, and what is in the tree only.
func (t *tree) compare(ctx context.Context, parts *catalog.FileParts, v visit) error {
	for i := range parts.Len() {
		err := parts.Read(ctx, i, func(f catalog.File) error {
			path, err := t.others(f.Path, v)
			if err != nil {
				return err
			}
			var have fs.FileInfo
			if path == f.Path {
				if have, err = t.take(path); err != nil {
					return err
				}
			}
			enter, err := v(f.Path, &f, have)
			if err == nil && enter && path == f.Path {
				t.enter(path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	_, err := t.others("", v)
	return err
}

// others visits what comes before a path, all if that is "", and gives what comes next.
func (t *tree) others(before string, v visit) (string, error) {
	for {
		path, err := t.next()
		if err != nil || path == "" || before != "" && path >= before {
			return path, err
		}
		have, err := t.take(path)
		if err != nil {
			return "", err
		}
		if have == nil {
			continue
		}
		if _, err := v(path, nil, have); err != nil {
			return "", err
		}
	}
}
