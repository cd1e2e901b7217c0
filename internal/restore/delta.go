package restore

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/salvor-dr/salvor/internal/catalog"
)

// ownerBits are what a restore needs of a file's mode, to read and write it.
const ownerBits fs.FileMode = 0o600

// tree lists what is in the directory of a delta restore.
func (r *run) tree() (*tree, error) {
	spaces := map[string]string{}
	for _, t := range r.head.Tablespaces {
		if dir := r.location(t); dir != "" {
			spaces[strconv.FormatUint(uint64(t.OID), 10)] = dir
		}
	}
	return newTree(r.To, r.version(), spaces)
}

// adapt makes the directories of a delta restore those of the backup, and removes what
// the backup does not have. Files that are in both stay, to be compared.
func (r *run) adapt(ctx context.Context, parts *catalog.FileParts) error {
	if err := os.Chmod(r.To, 0o700|r.groupBits); err != nil {
		return err
	}
	if err := r.makeTablespaceDir(); err != nil {
		return err
	}
	t, err := r.tree()
	if err != nil {
		return err
	}
	return t.compare(ctx, parts, func(path string, want *catalog.File, have fs.FileInfo) (bool, error) {
		enter, err := r.adaptOne(t.abs(path), path, want, have)
		if err != nil {
			return false, fmt.Errorf("making %s what the backup has: %w", t.abs(path), err)
		}
		return enter, nil
	})
}

// makeTablespaceDir sees to it that pg_tblspc is a directory, which a tree asks for.
func (r *run) makeTablespaceDir() error {
	path := filepath.Join(r.To, tablespaceDir)
	if have, err := os.Lstat(path); err == nil && !have.IsDir() {
		if err := r.vacate(path, have); err != nil {
			return err
		}
	}
	err := os.Mkdir(path, 0o700)
	if os.IsExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.owner.give(path)
}

func (r *run) adaptOne(abs, path string, want *catalog.File, have fs.FileInfo) (enter bool, err error) {
	switch {
	case want == nil:
		_, err = r.remove(abs, have)
		return false, err
	case want.Kind == catalog.Dir:
		return r.adaptDir(abs, *want, have)
	case want.Kind == catalog.TablespaceLink:
		return true, r.adaptLink(abs, *want, have)
	case have == nil:
		return false, nil
	}
	return false, r.adaptFile(abs, have)
}

// adaptDir keeps a directory that is there, and pg_wal where that is a link to one.
func (r *run) adaptDir(abs string, want catalog.File, have fs.FileInfo) (enter bool, err error) {
	if have != nil && want.Path == walDir && have.Mode()&fs.ModeSymlink != 0 {
		if at, err := os.Stat(abs); err == nil && at.IsDir() {
			resolved, err := filepath.EvalSymlinks(abs)
			if err != nil {
				return false, err
			}
			r.Events.Warn(fmt.Sprintf("%s is a link to %s, and stays one", abs, resolved))
			r.alsoSync = append(r.alsoSync, abs)
			return true, r.attributes(resolved, want.Mode|0o700, at)
		}
	}
	if have != nil && have.IsDir() {
		if is, err := mounted(abs); err != nil {
			return false, err
		} else if is {
			r.alsoSync = append(r.alsoSync, abs)
		}
		return true, r.attributes(abs, want.Mode|0o700, have)
	}
	if err := r.vacate(abs, have); err != nil {
		return false, err
	}
	return false, r.directory(want)
}

// adaptLink makes a tablespace's link, if it does not lead where it should.
func (r *run) adaptLink(abs string, want catalog.File, have fs.FileInfo) error {
	if have != nil && have.Mode()&fs.ModeSymlink != 0 {
		dir, err := r.leads(want)
		if err != nil {
			return err
		}
		if to, err := os.Readlink(abs); err == nil && to == dir {
			return r.owner.give(abs)
		}
	}
	if err := r.vacate(abs, have); err != nil {
		return err
	}
	return r.link(want)
}

// adaptFile keeps a regular file, to be compared. A file with several names is not
// written to: the others may belong to a copy that was made with hard links.
func (r *run) adaptFile(abs string, have fs.FileInfo) error {
	st, ok := have.Sys().(*syscall.Stat_t)
	if !have.Mode().IsRegular() || !ok || st.Nlink > 1 {
		return r.vacate(abs, have)
	}
	if have.Mode().Perm()&ownerBits != ownerBits {
		return os.Chmod(abs, have.Mode().Perm()|ownerBits)
	}
	return nil
}

// attributes sets mode and owner where they differ.
func (r *run) attributes(path string, mode uint32, have fs.FileInfo) error {
	if have.Mode().Perm() != fs.FileMode(mode) {
		if err := os.Chmod(path, fs.FileMode(mode)); err != nil {
			return err
		}
	}
	if st, ok := have.Sys().(*syscall.Stat_t); ok && r.owner.is(st) {
		return nil
	}
	return r.owner.give(path)
}

// vacate removes whatever has a name that is needed for something else.
func (r *run) vacate(abs string, have fs.FileInfo) error {
	if have == nil {
		return nil
	}
	if have.Mode()&fs.ModeSymlink != 0 {
		return r.unlink(abs)
	}
	kept, err := r.remove(abs, have)
	if err == nil && kept {
		err = refuse("unmount it", "something is mounted at %s or below, where the backup has something else", abs)
	}
	return err
}

// unlink removes a link that stands where the backup has none, and never what it leads
// to.
func (r *run) unlink(abs string) error {
	to, err := os.Readlink(abs)
	if err != nil {
		return err
	}
	r.Events.Warn(fmt.Sprintf("%s was a link to %s and becomes what the backup has; what is in %s stays there", abs, to, to))
	r.res.Removed++
	return os.Remove(abs)
}

// remove removes what the backup does not have: of a link the link, and of a directory
// all but mount points and the directories that lead to them.
func (r *run) remove(abs string, have fs.FileInfo) (kept bool, err error) {
	if have.IsDir() {
		if is, err := mounted(abs); err != nil {
			return false, err
		} else if is {
			r.Events.Warn(fmt.Sprintf("%s is a mount point, which the backup does not have: it stays", abs))
			return true, nil
		}
		if kept, err = r.removeContents(abs); kept || err != nil {
			return kept, err
		}
	} else if to, err := os.Readlink(abs); err == nil && filepath.Base(filepath.Dir(abs)) == tablespaceDir && !r.creates(to) {
		r.Events.Warn(fmt.Sprintf("the backup has no tablespace %s: what is in %s stays there", filepath.Base(abs), to))
	}
	if err := os.Remove(abs); err != nil {
		return false, err
	}
	r.res.Removed++
	return false, nil
}

func (r *run) removeContents(dir string) (kept bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return kept, err
		}
		k, err := r.remove(filepath.Join(dir, e.Name()), info)
		if err != nil {
			return kept, err
		}
		kept = kept || k
	}
	return kept, nil
}
