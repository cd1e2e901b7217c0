package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// Unfinished says whether the directory holds a restore that was cut off.
func Unfinished(dir string) bool {
	_, is, err := readNote(dir)
	return is || err != nil
}

// check refuses directories that cannot be restored into.
func (r *run) check() error {
	var err error
	if r.old, r.unfinished, err = readNote(r.To); err != nil {
		return err
	}
	switch {
	case r.Delta || !r.unfinished:
	case r.old.Delta:
		return refuse("run the same command again with --delta, or choose another directory",
			"%s holds a restore --delta of backup %s, begun at %s, that was cut off", r.To, r.old.BackupID, r.old.StartedAt.Format(time.RFC3339))
	case used(r.To):
		// Killed after the last step but one: it is a database.
		return refuse("start PostgreSQL on it, or choose another directory", "%s holds a restore of backup %s that is complete", r.To, r.old.BackupID)
	}
	if err := r.acceptable(r.To, r.unfinished || r.Delta); err != nil {
		return err
	}
	if r.present = nil; r.Delta {
		if err := r.look(); err != nil {
			return err
		}
	}
	for _, dir := range r.locations() {
		if err := r.acceptable(dir, r.ours(dir)); err != nil {
			return err
		}
	}
	if err := r.checkCreated(); err != nil {
		return err
	}
	if r.Delta {
		if err := r.checkShared(); err != nil {
			return err
		}
	}
	r.owner, err = ownerFor(r.To, r.head.Owner)
	return err
}

// used says whether a server may have recovered what was restored here: it needs
// pg_control, and takes backup_label away when it begins (StartupXLOG, xlog.c).
func used(dir string) bool {
	_, control := os.Lstat(filepath.Join(dir, datadir.ControlPath))
	_, label := os.Lstat(filepath.Join(dir, "backup_label"))
	return control == nil && label != nil
}

// prepare makes the directory, and those of tablespaces, ready to be written to, and
// keeps other restores out until release.
func (r *run) prepare() (release func(), err error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	if err := r.makeDir(r.To); err != nil {
		return nil, err
	}
	if release, err = hold(r.To); err != nil {
		return nil, err
	}
	if err := r.makeReady(); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// makeReady does it, with the directory held.
func (r *run) makeReady() error {
	if err := r.check(); err != nil { // once more: another may just have finished
		return err
	}
	if r.present != nil && !r.agreed {
		return refuse("run the command again", "a data directory came into %s just now", r.To)
	}
	if r.unfinished {
		how := "starting over"
		if r.Delta {
			how = "going on with what is there"
		}
		r.Events.Warn(fmt.Sprintf("%s holds a restore of backup %s, begun at %s, that was cut off: %s", r.To, r.old.BackupID, r.old.StartedAt.Format(time.RFC3339), how))
	}
	if r.unfinished && !r.Delta {
		for _, dir := range append([]string{r.To}, r.old.Tablespaces...) {
			if err := clearDir(dir); err != nil {
				return fmt.Errorf("clearing the unfinished restore in %s: %w", dir, err)
			}
		}
	}
	locations := r.locations()
	for _, dir := range append([]string{r.To}, locations...) {
		if err := r.makeDir(dir); err != nil {
			return err
		}
	}
	if err := r.makeCreated(); err != nil {
		return err
	}
	r.note = note{BackupID: r.head.ID, Target: r.Target.String(), StartedAt: r.Clock.Now().UTC(), Tablespaces: locations}
	if !r.over() {
		return r.note.write(r.To, r.owner)
	}
	return r.takeOver()
}

// over says whether a delta restore finds anything that it keeps.
func (r *run) over() bool { return r.Delta && (r.unfinished || r.present != nil) }

// takeOver makes what is in the directory ours to change.
func (r *run) takeOver() error {
	r.note.Delta = r.old.Delta || r.present != nil
	for _, dir := range r.outside() {
		if r.ours(dir) && !slices.Contains(r.note.Tablespaces, dir) {
			r.note.Tablespaces = append(r.note.Tablespaces, dir)
		}
	}
	if err := r.note.replace(r.To, r.owner); err != nil {
		return err
	}
	if err := r.disarm(); err != nil {
		return err
	}
	return r.clearCreated()
}

// locations are the directories that the backup's tablespaces go to.
func (r *run) locations() []string {
	var dirs []string
	for _, t := range r.head.Tablespaces {
		if dir := r.location(t); dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func (r *run) location(t catalog.Tablespace) string {
	if dir, ok := r.Tablespaces[t.OID]; ok {
		return filepath.Clean(dir)
	}
	if !filepath.IsAbs(t.Location) {
		return "" // in place, in pg_tblspc itself
	}
	return t.Location
}

// acceptable refuses a directory that is in use or holds anything; ours says that
// what it holds is an unfinished restore.
func (r *run) acceptable(dir string, ours bool) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return refuse("", "%s is not a directory", dir)
	}
	status, err := server.Probe(dir)
	if err == nil && status.Running {
		return refuse("choose another directory, or stop it: pg_ctl stop -D "+dir, "a PostgreSQL server (process %d) runs in %s", status.PID, dir)
	}
	if ours {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	hint := "choose a new or empty directory, or move what is there away"
	if dir != r.To {
		hint = "choose another place for the tablespace: --tablespace-map OID=DIR"
	}
	return refuse(hint, "%s is not empty: it holds %s", dir, entries[0].Name())
}

// clearDir removes what is in a directory, but not the directory, which may be a
// mount point, nor the note. pg_control goes first, so that what is left is never
// taken for a database.
func clearDir(dir string) error {
	if err := os.Remove(filepath.Join(dir, datadir.ControlPath)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == NoteName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// makeDir makes a directory with those above it, and gives what it made to the
// owner.
func (r *run) makeDir(dir string) error {
	var made []string
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil || d == filepath.Dir(d) {
			break
		}
		made = append(made, d)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, d := range made {
		if err := r.owner.give(d); err != nil {
			return err
		}
		if err := syncDir(filepath.Dir(d)); err != nil {
			return err
		}
	}
	return r.owner.give(dir)
}

// owner is who the restored files belong to. As an ordinary user, that is who runs
// the restore.
type owner struct {
	uid, gid int
	change   bool
}

// ownerFor chooses the owner: root cannot run PostgreSQL, so files get the owner
// of the directory if it exists and is not root's, else the user who owned the source.
func ownerFor(dir string, source catalog.Owner) (owner, error) {
	if os.Geteuid() != 0 {
		return owner{}, nil
	}
	if info, err := os.Stat(dir); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
			return owner{int(st.Uid), int(st.Gid), true}, nil
		}
	}
	u, err := user.Lookup(source.User)
	if err != nil {
		if u, err = user.LookupId(source.User); err != nil {
			return owner{}, refuse("make the directory with the owner it should have: install -d -m 700 -o USER "+dir,
				"the source belonged to user %s, who does not exist here", source.User)
		}
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return owner{}, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return owner{uid, gid, true}, err
}

// is says whether a file has that owner.
func (o owner) is(st *syscall.Stat_t) bool {
	return !o.change || int(st.Uid) == o.uid && int(st.Gid) == o.gid
}

func (o owner) give(path string) error {
	if !o.change {
		return nil
	}
	return os.Lchown(path, o.uid, o.gid)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
