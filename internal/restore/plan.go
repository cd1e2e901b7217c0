package restore

import (
	"context"
	"io/fs"
	"path/filepath"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
)

// removedShown is how many names a Plan tells of those that would go.
const removedShown = 20

// Plan is what a restore would find in its directory.
type Plan struct {
	Present  *datadir.Control // of the cluster that a delta restore would replace; nil if none
	Over     bool             // a delta restore would find something to keep
	Compared uint64           // what would be read there and compared, bytes at most
	Missing  uint64           // what is not there, bytes
	Removed  uint64           // names that would go, with all below directories
	Some     []string         // of them, the first few, relative to the data directory, and none below another
}

// Check says, without writing anything, whether Run would accept its options and
// directories, and what it would find there. It fails as Run does.
func Check(ctx context.Context, o Options) (Plan, error) {
	r, err := begin(ctx, o)
	if err != nil {
		return Plan{}, err
	}
	if err := r.check(); err != nil {
		return Plan{}, err
	}
	p := Plan{Present: r.present, Over: r.over()}
	if !p.Over {
		return p, nil
	}
	parts, err := r.index(ctx, nil)
	if err != nil {
		return Plan{}, err
	}
	t, err := r.tree()
	if err != nil {
		return Plan{}, err
	}
	return p, t.compare(ctx, parts, func(path string, want *catalog.File, have fs.FileInfo) (bool, error) {
		if want == nil {
			return false, p.remove(path, t.abs(path))
		}
		return p.add(*want, have), nil
	})
}

// remove counts a name that would go.
func (p *Plan) remove(path, abs string) error {
	if len(p.Some) < removedShown {
		p.Some = append(p.Some, path)
	}
	return filepath.WalkDir(abs, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if is, err := mounted(path); err != nil {
				return err
			} else if is {
				return fs.SkipDir
			}
		}
		p.Removed++
		return nil
	})
}

// add counts what the backup has, and says whether the directory has a directory there.
func (p *Plan) add(want catalog.File, have fs.FileInfo) (enter bool) {
	switch {
	case want.Kind != catalog.Regular:
		link := have != nil && have.Mode()&fs.ModeSymlink != 0
		return have != nil && have.IsDir() || link && want.Path == walDir || want.Kind == catalog.TablespaceLink
	case want.Path == datadir.ControlPath || have == nil || !have.Mode().IsRegular():
		p.Missing += want.Size
	default:
		same := min(want.Size, uint64(have.Size()))
		p.Compared, p.Missing = p.Compared+same, p.Missing+want.Size-same
	}
	return false
}
