package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
)

// tablespaceOID reads the path of a tablespace, pg_tblspc/<oid>.
func tablespaceOID(path string) (pg.OID, bool) {
	name, ok := strings.CutPrefix(path, "pg_tblspc/")
	n, ok2 := parseNumber(name)
	return pg.OID(n), ok && ok2
}

// isVersionDirectoryPath says whether a path has the form
// pg_tblspc/<oid>/PG_<major>_<catalog version>.
func isVersionDirectoryPath(path string) bool {
	parent, name, ok := cutLast(path)
	_, inTablespace := tablespaceOID(parent)
	return ok && inTablespace && isVersionDirectory(name)
}

// findTablespaces notes the directories that belong to tablespaces.
func (w *walker) findTablespaces() error {
	names, err := w.names("pg_tblspc")
	if err != nil {
		return err
	}
	w.spaces = make(map[fileID]bool)
	for _, name := range names {
		path := "pg_tblspc/" + name
		if _, ok := tablespaceOID(path); !ok {
			continue
		}
		for _, dir := range []string{path, path + "/" + w.version} {
			// What can't be looked at now is reported when the walk gets there.
			if info, err := os.Stat(w.abs(dir)); err == nil {
				if id, ok := idOf(info); ok {
					w.spaces[id] = true
				}
			}
		}
	}
	return nil
}

// tablespace gives a tablespace and this cluster's version directory in it.
func (w *walker) tablespace(path string, oid pg.OID, info fs.FileInfo) error {
	link := ""
	if isLink(info) {
		var err error
		if link, err = os.Readlink(w.abs(path)); vanished(err) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading the link of tablespace %d: %w", oid, err)
		}
		// A location that is gone leaves the link's own attributes.
		if target, err := os.Stat(w.abs(path)); err == nil {
			info = target
		} else if !vanished(err) && !errors.Is(err, syscall.ELOOP) {
			return fmt.Errorf("looking at the location of tablespace %d: %w", oid, err)
		}
	}
	e := newEntry(path, KindTablespace, info)
	e.Link = link
	if err := w.fn(e); err != nil {
		return err
	}
	if !info.IsDir() {
		w.skipped(path, "the tablespace's location is no directory")
		return nil
	}
	return w.visit(path+"/"+w.version, w.version)
}

// follow looks at what a link leads to that is not a tablespace. It returns nil
// if the link is not followed; that has been reported then.
func (w *walker) follow(path string, link fs.FileInfo, effect Effect) (fs.FileInfo, error) {
	target, err := os.Stat(w.abs(path))
	switch {
	case effect == LeaveContents && (err != nil || !target.IsDir()):
		return emptyDirectory{link}, nil
	case vanished(err):
		w.skipped(path, "symbolic link to what does not exist")
	case errors.Is(err, syscall.ELOOP):
		w.skipped(path, "symbolic link in a loop")
	case err != nil:
		return nil, fmt.Errorf("following symbolic link of the cluster: %w", err)
	case target.IsDir() && effect != LeaveContents && !serverDirectory(path):
		w.skipped(path, "symbolic link to a directory")
	default:
		return target, nil
	}
	return nil, nil
}

// serverDirectory says whether the server keeps data in the directory at path,
// so that a backup without it would be none: the directories that initdb makes
// (subdirs, initdb.c) and those of databases. Since each has its place, a link
// that leads back up can not be entered a second time.
func serverDirectory(path string) bool {
	switch path {
	case "base", "global", "pg_commit_ts", "pg_logical", "pg_logical/mappings", "pg_logical/snapshots",
		"pg_multixact", "pg_multixact/members", "pg_multixact/offsets", "pg_stat", "pg_tblspc",
		"pg_twophase", "pg_xact":
		return true
	}
	if _, _, ok := parseRelationDir(path); ok {
		return true
	}
	return isVersionDirectoryPath(path)
}

// emptyDirectory stands for a directory whose contents are left out, in the
// place of a link that leads nowhere now (a pg_stat_tmp on a memory disk, say).
type emptyDirectory struct{ link fs.FileInfo }

func (d emptyDirectory) Name() string       { return d.link.Name() }
func (d emptyDirectory) Size() int64        { return 0 }
func (d emptyDirectory) Mode() fs.FileMode  { return fs.ModeDir | 0o700 }
func (d emptyDirectory) ModTime() time.Time { return d.link.ModTime() }
func (d emptyDirectory) IsDir() bool        { return true }
func (d emptyDirectory) Sys() any           { return d.link.Sys() }
