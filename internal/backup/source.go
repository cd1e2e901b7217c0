package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
)

// source is the cluster to back up.
type source struct {
	server     conn.Server
	primary    *primary // nil: it cannot be asked
	control    datadir.Control
	place      catalog.Place
	owner      catalog.Owner
	needs      catalog.Needs
	slots      []catalog.Slot
	collations []catalog.Collation
}

// look asks server and directory what they are, and refuses what cannot become a
// backup.
func look(ctx context.Context, o *Options) (source, error) {
	var s source
	var err error
	if s.server, err = o.Conn.Server(ctx); err != nil {
		return s, err
	}
	if s.control, err = datadir.ReadControl(o.DataDir); err != nil {
		return s, err
	}
	if err := s.check(o); err != nil {
		return s, err
	}
	var why error
	if s.primary, why = findPrimary(ctx, o, s.server); why != nil {
		o.Events.Warn(fmt.Sprintf("the primary cannot be asked for a checkpoint, nor to archive its last segment: %v", why))
	}
	if err := s.checkArchiving(o); err != nil {
		return s, err
	}
	marker, err := catalog.ReadMarker(o.DataDir)
	if errors.Is(err, catalog.ErrNoMarker) && s.server.InRecovery {
		return s, refuse("copy the file "+catalog.MarkerName+" from the primary's data directory into this one, with the same owner",
			"%v: this standby was made before its primary's cluster had a place in a repository", err)
	}
	if errors.Is(err, catalog.ErrNoMarker) {
		return s, refuse("run: salvor init", "%v: the cluster has no place in a repository yet", err)
	}
	if err != nil {
		return s, err
	}
	s.place = catalog.Place{Cluster: o.Cluster, SystemID: s.control.SystemID, Incarnation: marker.Incarnation}
	_, err = catalog.ReadOrigin(ctx, o.Objects, s.place)
	if errors.Is(err, catalog.ErrNoPlace) {
		return s, refuse("run: salvor init (a restored copy becomes a cluster of its own by that)",
			"repository %s has no place for cluster %s (%s)", o.Repository, o.Cluster, s.place)
	}
	if err != nil {
		return s, err
	}
	return s, s.describe(ctx, o)
}

// check refuses a directory that is not the server's, and servers whose WAL cannot
// make a backup whole.
func (s source) check(o *Options) error {
	switch {
	case s.server.SystemID != s.control.SystemID:
		return refuse("set postgres.data_dir to the data directory of that server: "+s.server.DataDirectory,
			"%s is not the server's data directory: it belongs to cluster %s, the server is %s", o.DataDir, s.control.SystemID, s.server.SystemID)
	case !sameDirectory(o.DataDir, s.server.DataDirectory):
		return refuse("set postgres.data_dir to "+s.server.DataDirectory,
			"%s is not the server's data directory, which is %s: it is a copy of it", o.DataDir, s.server.DataDirectory)
	case !s.server.Version.Supported():
		return refuse("", "PostgreSQL %s is not supported", s.server.Version)
	case s.server.InRecovery && o.From == FromPrimary:
		return refuse("run the backup on the primary, or back up the standby: salvor backup --from standby", "the server is a standby")
	case !s.server.InRecovery && o.From == FromStandby:
		return refuse("run the backup on a standby, or back up the primary: salvor backup --from primary", "the server is a primary")
	case s.server.WALLevel == "minimal":
		return refuse("set wal_level = replica and restart the server", "wal_level is minimal: WAL cannot make a backup consistent")
	case !s.server.CanBackup:
		return refuse("as superuser, run:\n"+conn.ShowSQLGrants(s.server.User, s.server.Version), "role %s may not make backups", s.server.User)
	}
	return nil
}

// checkArchiving refuses a server whose WAL is not archived. Whether that is so is the
// primary's to say.
func (s source) checkArchiving(o *Options) error {
	if s.primary == nil || o.WithWAL {
		return nil
	}
	switch p := s.primary.server; {
	case p.ArchiveMode == "off":
		return refuse("set archive_mode = on and the archive_command that salvor init printed, and restart the server; or make a standalone backup: salvor backup --with-wal",
			"archive_mode is off: the WAL that the backup needs would be lost")
	case p.ArchiveCommand == "" && p.ArchiveLibrary == "":
		return refuse("set the archive_command that salvor init printed and reload the server; or make a standalone backup: salvor backup --with-wal",
			"archive_command is empty: WAL is not archived")
	}
	return nil
}

func sameDirectory(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// describe notes what a restore will want to know.
func (s *source) describe(ctx context.Context, o *Options) error {
	need, err := o.Conn.RequiredSettings(ctx)
	if err != nil {
		return err
	}
	s.needs = catalog.Needs{
		MaxConnections: need.MaxConnections, MaxWorkers: need.MaxWorkerProcesses, MaxWALSenders: need.MaxWALSenders,
		MaxPreparedXacts: need.MaxPreparedTransactions, MaxLocksPerXact: need.MaxLocksPerTransaction,
		PreloadLibraries: need.SharedPreloadLibraries,
		ConfigFile:       outside(o.DataDir, s.server.ConfigFile), HBAFile: outside(o.DataDir, s.server.HBAFile), IdentFile: outside(o.DataDir, s.server.IdentFile),
	}
	var slots []conn.ReplicationSlot
	if s.primary != nil { // a standby's own are of no use to a restored primary
		if slots, err = s.primary.ReplicationSlots(ctx); err != nil {
			return err
		}
	}
	for _, l := range slots {
		if !l.Temporary {
			s.slots = append(s.slots, catalog.Slot{Name: l.Name, Kind: l.Kind, Plugin: l.Plugin, Database: l.Database})
		}
	}
	coll, err := o.Conn.Collations(ctx)
	if err != nil {
		return err
	}
	for _, d := range coll.Databases {
		version := d.Actual
		if version == "" {
			version = d.Recorded
		}
		s.collations = append(s.collations, catalog.Collation{Database: d.Database, Provider: d.Provider, Name: d.Collate, Version: version})
	}
	s.owner, err = ownerOf(o.DataDir)
	return err
}

// outside gives a configuration file's path if it is not in the data directory.
func outside(dataDir, file string) string {
	if file == "" || sameDirectory(dataDir, filepath.Dir(file)) || strings.HasPrefix(file, filepath.Clean(dataDir)+string(filepath.Separator)) {
		return ""
	}
	return file
}

func ownerOf(dir string) (catalog.Owner, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return catalog.Owner{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return catalog.Owner{}, fmt.Errorf("who owns %s is not known", dir)
	}
	uid, gid := strconv.FormatUint(uint64(st.Uid), 10), strconv.FormatUint(uint64(st.Gid), 10)
	o := catalog.Owner{User: uid, Group: gid}
	if u, err := user.LookupId(uid); err == nil {
		o.User = u.Username
	}
	if g, err := user.LookupGroupId(gid); err == nil {
		o.Group = g.Name
	}
	return o, nil
}
