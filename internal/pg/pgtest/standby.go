package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/conn"
)

// Standby makes a streaming standby of this server, which must run, and starts
// it. name is its application_name. It does what pg_basebackup -R does, with
// the server alone: the client programs don't come with every version. It
// returns when the standby takes connections and streams; see WaitReplayed.
func (c *Cluster) Standby(t testing.TB, name string) *Cluster {
	t.Helper()
	s := prepare(t, c.Major)
	s.Dir = filepath.Join(s.root, "data")
	ctx, cancel := c.context()
	defer cancel()
	if err := s.cloneFrom(ctx, c); err != nil {
		t.Fatalf("making a standby: %v", err)
	}
	s.appendFile("standby.signal", "")
	s.follow(c, name)
	s.Start()
	s.Eventually("the standby streams", func() bool {
		return QueryValue[bool](s, "SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')")
	})
	return s
}

// Follow makes a stopped cluster stream from another, and Start will make it a
// standby. It is for the return of an old primary after pg_rewind.
func (c *Cluster) Follow(primary *Cluster, name string) {
	c.t.Helper()
	c.appendFile("standby.signal", "")
	c.follow(primary, name)
}

func (c *Cluster) follow(primary *Cluster, name string) {
	c.t.Helper()
	info := fmt.Sprintf("host=127.0.0.1 port=%d user=%s sslmode=disable application_name='%s'",
		primary.Port(), superuser, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(name))
	c.Set("primary_conninfo", info)
}

// cloneFrom takes a base backup of a running server into c.Dir, tablespaces
// included.
func (c *Cluster) cloneFrom(ctx context.Context, from *Cluster) error {
	cn, err := conn.Open(ctx, from.Config())
	if err != nil {
		return err
	}
	defer cn.Close()
	backup, err := cn.StartBackup(ctx, "pgtest", true)
	if err != nil {
		return err
	}
	defer backup.Abort(ctx)
	if err := c.copyLive(from.Dir, c.Dir, true); err != nil {
		return err
	}
	if err := c.copyTablespaces(from.Dir); err != nil {
		return err
	}
	end, err := backup.Stop(ctx, false)
	if err != nil {
		return err
	}
	// The WAL of the backup, for the case that it is recycled before the standby
	// has asked for it. The log itself is what recovery begins with.
	if err := c.copyLive(filepath.Join(from.Dir, "pg_wal"), filepath.Join(c.Dir, "pg_wal"), false); err != nil {
		return err
	}
	// Links were made above, so the map is not needed; it would make others.
	return c.writeOwned(filepath.Join(c.Dir, "backup_label"), end.Label)
}

// copyTablespaces copies each into the cluster's own directory and links it.
func (c *Cluster) copyTablespaces(fromDir string) error {
	links, err := os.ReadDir(filepath.Join(fromDir, "pg_tblspc"))
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Type()&fs.ModeSymlink == 0 {
			continue // in place: copied already
		}
		to := filepath.Join(c.root, "tblspc-"+l.Name())
		link := filepath.Join(c.Dir, "pg_tblspc", l.Name())
		err := c.copyLive(filepath.Join(fromDir, "pg_tblspc", l.Name())+"/.", to, false)
		if err == nil {
			err = errors.Join(os.Symlink(to, link), c.user.own(link))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyLive copies a directory that a server changes meanwhile: what vanishes is
// left out. A data directory goes without its WAL and what belongs to the
// running server.
func (c *Cluster) copyLive(from, to string, dataDir bool) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != from {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case dataDir && (strings.HasPrefix(rel, "postmaster.") || strings.HasPrefix(rel, "pg_wal/") ||
			strings.HasPrefix(rel, "pg_replslot/") || strings.HasPrefix(rel, "pg_dynshmem/")):
			if d.IsDir() && rel != "pg_wal/archive_status" {
				return fs.SkipDir
			}
			if !d.IsDir() {
				return nil
			}
			return c.user.mkdir(target, 0o700)
		case d.IsDir():
			err := c.user.mkdir(target, 0o700)
			if errors.Is(err, fs.ErrExist) {
				err = nil
			}
			return err
		case d.Type().IsRegular():
			return c.copyFile(path, target)
		}
		return nil // links of tablespaces; sockets
	})
}

func (c *Cluster) copyFile(from, to string) error {
	r, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close(), c.user.own(to))
}

func (c *Cluster) writeOwned(path string, data []byte) error {
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	return c.user.own(path)
}
