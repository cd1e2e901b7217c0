package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
)

// clockTolerance is how far two clocks may be apart without anybody misreading a
// time: people and logs think in seconds.
const clockTolerance = time.Second

func serverChecks() []check {
	server := []string{"server"}
	return []check{
		{
			name: "server", title: "connection to the server", probe: probeServer,
			why: "backups begin and end with a command to the server",
		},
		{
			name: "server_version", title: "version of the server", needs: server, probe: probeVersion,
			why: "the layout of data directory and WAL differs from version to version",
		},
		{
			name: "privileges", title: "privileges of the role", needs: server, probe: probePrivileges,
			why: "without them a backup fails, or nothing can say why archiving does",
		},
		{
			name: "data_dir", title: "data directory", needs: server, probe: probeDataDir,
			why: "files of another directory than the server's would make a backup that does not fit its WAL",
		},
		{
			name: "tablespaces", title: "tablespaces", needs: server, probe: probeTablespaces,
			why: "they are part of every backup, and must be readable on this host",
		},
		{
			name: "clock", title: "clocks of this host and the server", needs: server, probe: probeClock,
			why: "recovery to a time goes by the server's clock; ages and schedules go by this host's",
		},
		{
			name: "data_checksums", title: "data checksums", needs: server, probe: probeChecksums,
			why: "without them a page that the disk has damaged is backed up as it is, and nobody notices",
		},
		{
			name: "full_page_writes", title: "full_page_writes", needs: server, probe: probeFullPageWrites,
			why: "without it a page that was half written in a crash cannot be repaired from WAL",
		},
		{
			name: "fsync", title: "fsync", needs: server, probe: probeFsync,
			why: "without it a crash of the machine can destroy the whole cluster, and commits that were reported are lost",
		},
		{
			name: "max_wal_senders", title: "max_wal_senders", needs: server, probe: probeWALSenders,
			why: "standbys, pg_basebackup and the streaming of WAL need a sender each",
		},
	}
}

func probeServer(ctx context.Context, e *examination, _ *examined, v *verdict) {
	db, err := e.connect(ctx, e.c)
	if err != nil {
		v.fail(err)
		return
	}
	e.db = db
	var lacks *conn.MissingPrivilege // which the check of privileges reports
	if e.server, err = db.Server(ctx); err != nil && !errors.As(err, &lacks) {
		v.fail(err)
		return
	}
	role := "primary"
	if e.server.InRecovery {
		role = "standby"
	}
	v.say("%s at %s, timeline %d", role, db.Config(), e.server.Timeline)
}

func probeVersion(_ context.Context, e *examination, _ *examined, v *verdict) {
	if e.server.Version.Supported() {
		v.say("PostgreSQL %s", e.server.Version)
		return
	}
	v.problem("update the server, or this program", "PostgreSQL %s is not supported, only %d to %d", e.server.Version, pg.OldestMajor, pg.NewestMajor)
}

func probePrivileges(ctx context.Context, e *examination, _ *examined, v *verdict) {
	if e.server.Superuser {
		v.say("%s is a superuser", e.server.User)
		return
	}
	var monitor, control bool
	err := e.db.Row(ctx, `SELECT pg_has_role('pg_monitor', 'USAGE'),
  has_function_privilege('pg_switch_wal()', 'EXECUTE') AND has_function_privilege('pg_create_restore_point(text)', 'EXECUTE')`,
		nil, &monitor, &control)
	if err != nil {
		v.fail(err)
		return
	}
	var lacks []string
	for _, p := range []struct {
		has  bool
		what string
	}{
		{e.server.CanBackup, "begin and end a backup"},
		{control, "switch WAL and create restore points"},
		{monitor, "see settings and statistics"},
	} {
		if !p.has {
			lacks = append(lacks, p.what)
		}
	}
	fix := fmt.Sprintf("as superuser, in database %s:\n%s", e.db.Config().Database, conn.ShowSQLGrants(e.server.User, e.server.Version))
	switch {
	case len(lacks) > 0:
		v.problem(fix, "role %s may not %s", e.server.User, strings.Join(lacks, ", nor "))
	case !e.server.IsReplication:
		v.warn(fix, "role %s has no REPLICATION, which standalone backups need (backup --with-wal)", e.server.User)
	default:
		v.say("%s has all that is needed", e.server.User)
	}
}

func probeDataDir(_ context.Context, e *examination, _ *examined, v *verdict) {
	dir := e.c.Postgres.DataDir
	control, err := datadir.ReadControl(dir)
	if err != nil {
		v.problem("run doctor on the server's host, as root or as PostgreSQL's user, and check postgres.data_dir", "%v", err)
		return
	}
	e.control = control
	fix := "set postgres.data_dir in " + e.c.File() + " to " + e.server.DataDirectory
	switch {
	case control.SystemID != e.server.SystemID:
		v.problem(fix, "%s belongs to cluster %s, and the server is cluster %s", dir, control.SystemID, e.server.SystemID)
	case e.server.DataDirectory != "" && !sameFile(dir, e.server.DataDirectory):
		v.problem(fix, "%s is a copy of the server's data directory, which is %s", dir, e.server.DataDirectory)
	default:
		v.say("%s, cluster %s", dir, control.SystemID)
	}
}

// sameFile says whether two paths lead to one file or directory.
func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

func probeTablespaces(ctx context.Context, e *examination, _ *examined, v *verdict) {
	spaces, err := e.db.Tablespaces(ctx)
	if err != nil {
		v.fail(err)
		return
	}
	for _, t := range spaces {
		if _, err := os.ReadDir(t.Location); err != nil {
			v.problem("run doctor on the server's host, as root or as PostgreSQL's user", "tablespace %s: %v", t.Name, err)
			continue
		}
		v.say("%s (%d) at %s", t.Name, t.OID, t.Location)
	}
	if len(spaces) == 0 {
		v.say("none")
	}
}

func probeClock(ctx context.Context, e *examination, _ *examined, v *verdict) {
	var there time.Time
	before := e.clock.Now()
	err := e.db.Row(ctx, "SELECT clock_timestamp()", nil, &there)
	took := e.clock.Now().Sub(before)
	if err != nil {
		v.fail(err)
		return
	}
	// The server read its clock at some moment in between.
	apart := max(there.Sub(before.Add(took)), before.Sub(there), 0)
	if apart > clockTolerance {
		v.warn("let chrony or systemd-timesyncd keep the time on both: timedatectl set-ntp true", "the server's clock and this host's are %s apart", formatDuration(apart))
		return
	}
	v.say("less than %s apart", formatDuration(max(apart+took, time.Millisecond)))
}

func probeChecksums(_ context.Context, e *examination, _ *examined, v *verdict) {
	if e.server.DataChecksums == "on" {
		v.say("on")
		return
	}
	v.warn(fmt.Sprintf("stop the server, run pg_checksums --enable -D %s, and start it again", shellWord(e.server.DataDirectory)), "%s", e.server.DataChecksums)
}

func probeFullPageWrites(_ context.Context, e *examination, _ *examined, v *verdict) {
	if e.server.FullPageWrites {
		v.say("on")
		return
	}
	v.warn(alterSystem("full_page_writes", "on")+"\n"+reloadSQL, "off")
}

func probeFsync(ctx context.Context, e *examination, _ *examined, v *verdict) {
	var fsync string
	if err := e.db.Row(ctx, "SELECT current_setting('fsync')", nil, &fsync); err != nil {
		v.fail(err)
		return
	}
	if fsync == "on" {
		v.say("on")
		return
	}
	v.problem(alterSystem("fsync", "on")+"\n"+reloadSQL, "off")
}

func probeWALSenders(_ context.Context, e *examination, _ *examined, v *verdict) {
	if n := e.server.MaxWALSenders; n > 0 {
		v.say("%d", n)
		return
	}
	v.warn(alterSystem("max_wal_senders", "10")+"\n"+thenRestart, "0: no standby can follow this server")
}

const (
	reloadSQL   = "SELECT pg_reload_conf();"
	thenRestart = "and restart the server"
)

// alterSystem is the statement that sets a setting.
func alterSystem(name, value string) string {
	return fmt.Sprintf("ALTER SYSTEM SET %s = '%s';", name, strings.ReplaceAll(value, "'", "''"))
}
