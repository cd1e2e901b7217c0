package trial

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

const (
	// prefix begins the names of scratch directories.
	prefix = "salvor-trial-"
	// port names the socket: nothing listens on a network.
	port = 5432
	// longestSocket is how long a socket's path may be: sun_path of unix(7), and
	// PostgreSQL's own limit, without the closing zero.
	longestSocket = 107
	// spare is room for what every cluster writes, whatever its size: WAL of its own
	// above all.
	spare = 256 << 20
	// walKept is how much of the WAL that is replayed lies in pg_wal at most: what
	// max_wal_size lets come together between two restart points.
	walKept = 1 << 30
	// endPatience is how long the server of a dead run may take over its end.
	endPatience = 30 * time.Second
)

// Owner is whom the files of a scratch directory belong to. PostgreSQL runs as him, and
// never as root. Who is not root owns what he makes.
type Owner struct{ UID, GID int }

// scratch is a directory of one trial.
type scratch struct {
	dir  string
	lock *os.File // the directory itself, held
}

func (s *scratch) data() string { return filepath.Join(s.dir, "data") }

func (s *scratch) log() string { return filepath.Join(s.dir, "server.log") }

// place is where the backup goes, tablespaces beside the data directory.
func (s *scratch) place(h catalog.Head) Place {
	p := Place{DataDir: s.data(), Tablespaces: map[pg.OID]string{}}
	for _, t := range h.Tablespaces {
		if filepath.IsAbs(t.Location) { // else it is in place, in pg_tblspc itself
			p.Tablespaces[t.OID] = filepath.Join(s.dir, "tablespaces", fmt.Sprint(t.OID))
		}
	}
	return p
}

// makeScratch makes a directory and holds it.
func makeScratch(base string, o Owner) (*scratch, error) {
	if n := len(filepath.Join(base, prefix+"0123456789", fmt.Sprintf(".s.PGSQL.%d", port))); n > longestSocket {
		return nil, &Unfit{base, fmt.Sprintf("its path is %d bytes too long for the server's socket", n-longestSocket)}
	}
	for {
		dir, err := os.MkdirTemp(base, prefix)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &Unfit{base, "it does not exist"}
		}
		if err != nil {
			return nil, &Unfit{base, err.Error()}
		}
		lock, held, err := hold(dir)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("holding %s: %w", dir, err), os.Remove(dir))
		}
		if !held {
			continue // another run came between, and takes it for one that is left
		}
		s := &scratch{dir, lock}
		if err := s.fill(o); err != nil {
			return nil, errors.Join(fmt.Errorf("making %s: %w", dir, err), s.close())
		}
		return s, nil
	}
}

// fill makes the directories below.
func (s *scratch) fill(o Owner) error {
	for _, dir := range []string{s.data(), filepath.Join(s.dir, "tablespaces")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	files := map[string]string{"postgresql.conf": "", "pg_hba.conf": "local all all trust\n", "pg_ident.conf": ""}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(s.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, o.UID, o.GID)
	})
}

// hold locks a directory, and says whether it is ours now: another may hold it, or have
// removed it. The lock is the process's, and goes when that ends.
func hold(dir string) (lock *os.File, held bool, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	d := os.NewFile(uintptr(fd), dir)
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		var here, there fs.FileInfo
		if here, err = d.Stat(); err == nil {
			if there, err = os.Lstat(dir); err == nil && os.SameFile(here, there) {
				return d, true, nil
			}
		}
	}
	_ = d.Close()
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return nil, false, err
}

// close ends the server, if one runs, and removes everything.
func (s *scratch) close() error {
	defer s.lock.Close()
	return remove(s.dir)
}

// remove removes a scratch directory that is held, with the server that may run in it.
func remove(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), endPatience)
	defer cancel()
	data := filepath.Join(dir, "data")
	if info, err := os.Lstat(data); err == nil && info.IsDir() {
		err := server.Stop(ctx, data, server.Immediate)
		if err != nil && !errors.Is(err, server.ErrNotRunning) && !errors.Is(err, server.ErrStandalone) {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// Sweep removes the scratch directories that runs left below base which were killed,
// and ends their servers; what a run still holds, and what is another user's, it leaves
// alone. It gives the names of those that it removed.
func Sweep(base string, o Owner) (removed []string, err error) {
	entries, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		dir := filepath.Join(base, e.Name())
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) || !ours(dir, o) {
			continue
		}
		lock, held, err := hold(dir)
		if err != nil {
			errs = append(errs, fmt.Errorf("looking at %s: %w", dir, err))
		}
		if !held {
			continue
		}
		if err := remove(dir); err != nil {
			errs = append(errs, fmt.Errorf("removing %s, which a run left that was killed: %w", dir, err))
		} else {
			removed = append(removed, dir)
		}
		_ = lock.Close()
	}
	return removed, errors.Join(errs...)
}

// ours says whether a directory is one that a run of this user may have made: where
// everyone may write, a stranger's could lead to what is not his.
func ours(dir string, o Owner) bool {
	info, err := os.Lstat(dir)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	me := os.Geteuid()
	return ok && (int(st.Uid) == me || me == 0 && int(st.Uid) == o.UID)
}

// checkRoom fails with *NoRoom if the file system of base has too little room.
func checkRoom(base string, g Goal) error {
	var st unix.Statfs_t
	if err := unix.Statfs(base, &st); err != nil {
		return &Unfit{base, err.Error()}
	}
	if have, need := st.Bavail*uint64(st.Bsize), needed(g); have < need {
		return &NoRoom{Dir: base, Need: need, Have: have, Size: g.Choice.Backup.Size, Replay: g.Replay()}
	}
	return nil
}

// needed is how much room a trial takes: the data directory; what replay adds to it,
// at most the WAL; the WAL that lies in pg_wal meanwhile; and what every server writes.
func needed(g Goal) uint64 {
	h, replay := g.Choice.Backup, g.Replay()
	return h.Size + h.Size/20 + replay + min(replay, walKept) + 4*uint64(h.Sizes.WALSegment) + spare
}
