package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

const (
	walDir = "pg_wal"
	// replacedControl is the name of a replaced cluster's pg_control, until it is
	// removed with all that the backup does not have.
	replacedControl = "global/pg_control.replaced"
)

// look finds out what the directory holds that a delta restore is for. It refuses one
// that is no cluster, or another.
func (r *run) look() error {
	r.links = tablespaceLinks(r.To)
	if r.unfinished && !used(r.To) {
		return nil
	}
	entries, err := os.ReadDir(r.To)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if empty(r.To, entries) {
		return nil
	}
	const hint = "choose a new or empty directory, or the data directory of this cluster"
	if info, err := os.Lstat(filepath.Join(r.To, "PG_VERSION")); err != nil || !info.Mode().IsRegular() {
		return refuse(hint, "%s is not empty, and no data directory of PostgreSQL, nor an unfinished restore: it holds %s", r.To, entries[0].Name())
	}
	control, err := datadir.ReadControl(r.To)
	if err != nil {
		return refuse(hint, "%s is not empty, and whose data directory it is cannot be told: %v", r.To, err)
	}
	if control.SystemID != r.head.SystemID {
		return refuse(hint, "%s is the data directory of another cluster: its system identifier is %d, that of backup %s is %d",
			r.To, control.SystemID, r.head.ID, r.head.SystemID)
	}
	r.present = &control
	return nil
}

// empty says whether a directory has nothing but what mkfs put there.
func empty(dir string, entries []fs.DirEntry) bool {
	if len(entries) == 1 && entries[0].Name() == lostAndFound {
		is, err := mountedBehind(dir)
		return err == nil && is
	}
	return len(entries) == 0
}

// tablespaceLinks gives the directories that the links in pg_tblspc lead to.
func tablespaceLinks(dir string) []string {
	links, _ := filepath.Glob(filepath.Join(dir, tablespaceDir, "*"))
	var dirs []string
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && filepath.IsAbs(to) {
			dirs = append(dirs, filepath.Clean(to))
		}
	}
	return dirs
}

// ours says whether what is in a tablespace's directory may be changed: an unfinished
// restore wrote it, or it belongs to the cluster that a delta restore replaces.
func (r *run) ours(dir string) bool {
	return r.unfinished && slices.Contains(r.old.Tablespaces, dir) || r.Delta && slices.Contains(r.links, dir)
}

// checkShared refuses, for a delta restore, directories outside of the data directory
// that it would change, and that belong to another server too or lie inside.
func (r *run) checkShared() error {
	for _, dir := range r.locations() {
		if within(dir, r.To) {
			return refuse("choose another place for the tablespace: --tablespace-map OID=DIR", "the tablespace in %s would be inside of the data directory", dir)
		}
	}
	outside := r.outside()
	if wal := filepath.Join(r.To, walDir); isLink(wal) {
		outside = append(outside, wal)
	}
	for _, dir := range outside {
		if other := usedBy(dir, r.To); other != "" {
			return refuse("put tablespaces elsewhere with --tablespace-map OID=DIR, and replace a link pg_wal by a directory",
				"%s belongs to the server that runs in %s", dir, other)
		}
	}
	return nil
}

// outside are the directories of tablespaces, the backup's and those that recovery
// creates.
func (r *run) outside() []string {
	dirs := r.locations()
	for _, t := range r.created {
		dirs = append(dirs, filepath.Clean(t.Location))
	}
	return dirs
}

// within says whether a directory lies in another or is it, also by links.
func within(dir, root string) bool {
	if real, err := filepath.EvalSymlinks(root); err == nil && real != filepath.Clean(root) && within(dir, real) {
		return true
	}
	return strings.HasPrefix(filepath.Clean(dir)+"/", filepath.Clean(root)+"/")
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// disarm takes pg_control away, durably, so that no server starts on what is changed
// from here on. A server that started since the check has written its pid file before
// it read pg_control (PostmasterMain, postmaster.c), so that it is seen here, and gets
// it back.
func (r *run) disarm() error {
	control, replaced := filepath.Join(r.To, datadir.ControlPath), filepath.Join(r.To, replacedControl)
	if err := os.RemoveAll(replaced); err != nil {
		return err
	}
	switch err := os.Rename(control, replaced); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	status, err := server.Probe(r.To)
	if err == nil && status.Running {
		err = refuse("stop it: pg_ctl stop -D "+r.To, "a PostgreSQL server (process %d) was started in %s just now", status.PID, r.To)
	}
	if err != nil {
		return errors.Join(err, os.Rename(replaced, control))
	}
	return syncDir(filepath.Dir(control))
}

// clearCreated removes what the replaced cluster has where recovery creates a
// tablespace: PostgreSQL must find nothing of it there.
func (r *run) clearCreated() error {
	for _, t := range r.created {
		dir := filepath.Clean(t.Location)
		if !r.ours(dir) || slices.Contains(r.locations(), dir) {
			continue
		}
		path := filepath.Join(dir, r.version())
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			_, err = r.remove(path, info)
		}
		if err != nil {
			return fmt.Errorf("clearing the directory of tablespace %d, which the WAL creates: %w", t.OID, err)
		}
	}
	return nil
}

// version names the directory that the cluster has in each tablespace.
func (r *run) version() string {
	return fmt.Sprintf("PG_%d_%d", r.head.Version.Major(), r.head.CatalogVersion)
}
