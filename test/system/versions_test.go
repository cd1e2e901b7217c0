package system

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// Every version but the system's own, which all other tests have: backups with and
// without an archive while a load runs, and back to a moment of every kind.
func TestVersions(t *testing.T) {
	t.Parallel()
	skipShort(t)
	for _, try := range []versionOptions{
		{major: 14, pg: pgtest.Options{WALSegmentMB: 64}, shows: map[string]string{"wal_segment_size": "64MB"}},
		{major: 16, pg: pgtest.Options{ChecksumsOff: true}, shows: map[string]string{"data_checksums": "off"}},
		{major: 17, pg: pgtest.Options{Settings: map[string]string{"summarize_wal": "on"}}, shows: map[string]string{"summarize_wal": "on"}},
		{major: 18, shows: map[string]string{"data_checksums": "on", "io_method": "worker"}},
	} {
		t.Run(strconv.Itoa(try.major), func(t *testing.T) {
			t.Parallel()
			testVersion(t, try)
		})
	}
}

// versionOptions are what a version is tested with, and settings that must be so in
// the original and in what is restored.
type versionOptions struct {
	major int
	pg    pgtest.Options
	shows map[string]string
}

// history is a load that ran, and the moments of it to go back to.
type history struct {
	versionOptions
	ledger  pgtest.Ledger
	carried save      // the standalone backup, before there was an archive
	backup  save      // the one after
	time    time.Time // of the server's clock, after that
	point   instant   // a restore point
	xid     pgtest.Change
}

// instant is a position in the WAL, and a time when the server was past it.
type instant struct {
	lsn   pg.LSN
	after time.Time
}

// save is a backup, and where it ended.
type save struct {
	id  string
	end instant
}

func testVersion(t *testing.T, o versionOptions) {
	o.pg.Major = o.major
	s := newSite(t, siteOptions{pg: o.pg, noArchive: true})
	c := s.cluster
	if c.Major != o.major {
		t.Fatalf("the cluster has version %d, want %d", c.Major, o.major)
	}
	h := s.live(o)
	if o.pg.Settings["summarize_wal"] == "on" {
		s.summariesStay()
	}
	for _, try := range []struct {
		name string
		test func(*site, *history)
	}{
		{"carried", toCarried}, {"time", toTime}, {"xid", toXID}, {"restore point", toPoint}, {"immediate", toImmediate}, {"latest", toLatest},
	} {
		t.Run(try.name, func(t *testing.T) { try.test(s.with(t), h) })
	}
}

// live runs a load: a standalone backup is made of it, then archiving begins, and
// another backup is made.
func (s *site) live(o versionOptions) *history {
	t, c := s.t, s.cluster
	t.Helper()
	h := &history{versionOptions: o}
	for name, want := range o.shows {
		if got := pgtest.QueryValue[string](c, "SHOW "+name); got != want {
			t.Fatalf("%s is %s, want %s", name, got, want)
		}
	}
	load := c.Load(t, 3)
	load.WaitFor(100)
	s.ends(exitNotNow, "backup", "-o", "json").says(t, "refused", "--with-wal")
	h.carried = s.save("--with-wal")

	c.Set("archive_mode", "on")
	c.Set("archive_command", s.archiveCommand)
	c.Restart()
	load.WaitMore(100)
	if o.pg.Settings["summarize_wal"] == "on" {
		c.Exec("CHECKPOINT")
		c.Eventually("WAL is summarized", func() bool { return len(summaries(t, c.Dir)) > 0 })
	}
	h.backup = s.save()
	load.WaitMore(150)
	h.time = clock(c)
	load.WaitMore(100)
	h.point = s.instant(pgtest.QueryValue[string](c, "SELECT pg_create_restore_point('here')::text"))
	load.WaitMore(100)
	h.ledger = load.Stop()
	for _, ch := range h.ledger.Acknowledged {
		if ch.Before.After(h.point.after) && (h.xid.XID == 0 || ch.Before.Before(h.xid.Before)) {
			h.xid = ch
		}
	}
	if h.xid.XID == 0 {
		t.Fatal("nothing was committed after the restore point")
	}
	s.archiveAll()
	return h
}

// instant is a position that the server has passed.
func (s *site) instant(lsn string) instant {
	s.t.Helper()
	at, err := pg.ParseLSN(lsn)
	if err != nil {
		s.t.Fatal(err)
	}
	return instant{lsn: at, after: clock(s.cluster)}
}

func (s *site) save(args ...string) save {
	s.t.Helper()
	b := s.backup(args...)
	return save{b.ID, s.instant(b.StopLSN)}
}

func clock(c *pgtest.Cluster) time.Time {
	return pgtest.QueryValue[time.Time](c, "SELECT clock_timestamp()").UTC()
}

// summaries lists the files of the WAL summarizer, which came with version 17.
func summaries(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "pg_wal", "summaries", "*.summary"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// summariesStay restores without a start: summaries of the original's WAL are no part
// of a backup, as pg_basebackup leaves them out too. The copy makes its own.
func (s *site) summariesStay() {
	r := s.restoreCold()
	if files := summaries(s.t, r.dir); len(files) > 0 {
		s.t.Errorf("the backup holds %q", files)
	}
	r.start(nil)
	r.leftRecovery(s.t)
	r.exec(s.t, "CHECKPOINT")
	s.cluster.Eventually("the copy summarizes its WAL", func() bool {
		return value[bool](s.t, r, "SELECT count(*) > 0 FROM pg_available_wal_summaries() WHERE tli = 2")
	})
	r.stop()
}

// holds compares a copy with the ledger. A change for which must says yes has to be
// there; none may be for which may says no.
func (h *history) holds(t testing.TB, r *restored, must, may func(pgtest.Change) bool) {
	t.Helper()
	for _, d := range h.ledger.Compare(loadRows(t, r), must, may) {
		t.Error(d)
	}
	h.shown(t, r)
	if t.Failed() {
		t.Logf("the server's log:\n%s", r.log())
	}
}

// shown compares settings of a copy with what they must be.
func (h *history) shown(t testing.TB, r *restored) {
	t.Helper()
	for name, want := range h.shows {
		if got := value[string](t, r, "SHOW "+name); got != want {
			t.Errorf("the copy has %s %s, want %s", name, got, want)
		}
	}
	if mode := value[string](t, r, "SHOW archive_mode"); mode != "off" {
		t.Errorf("the copy has archive_mode %s", mode)
	}
}

// lives says that a copy can be written to, on a timeline of its own.
func (r *restored) lives(t testing.TB) {
	t.Helper()
	r.exec(t, "INSERT INTO public."+pgtest.LoadTable+" VALUES (-1, 1, 'more')")
	if name := value[string](t, r, "SELECT pg_walfile_name(pg_switch_wal())"); name[:8] != "00000002" {
		t.Errorf("the copy writes %s", name)
	}
}

// until are the changes that were surely committed, and may have been, at a moment of
// the server's clock.
func until(at time.Time) (must, may func(pgtest.Change) bool) {
	return func(ch pgtest.Change) bool { return !ch.After.After(at) }, func(ch pgtest.Change) bool { return !ch.Before.After(at) }
}

// around are the changes that were surely committed, and may have been, at an instant.
func (i instant) around() (must, may func(pgtest.Change) bool) {
	return func(ch pgtest.Change) bool { return ch.LSN <= i.lsn }, func(ch pgtest.Change) bool { return !ch.Before.After(i.after) }
}

func everything(pgtest.Change) bool { return true }

// toCarried recovers a standalone backup from itself: the archive has none of its WAL.
func toCarried(s *site, h *history) {
	r := s.restore("--backup", h.carried.id, "--immediate")
	if r.res.BackupID != h.carried.id {
		s.t.Errorf("backup %s was restored, want %s", r.res.BackupID, h.carried.id)
	}
	must, may := h.carried.end.around()
	h.holds(s.t, r, must, may)
	r.lives(s.t)
	r.checkIndexes(s.t)
}

func toTime(s *site, h *history) {
	r := s.restore("--at", h.time.Format(time.RFC3339Nano), "--action", "promote")
	must, may := until(h.time)
	h.holds(s.t, r, must, may)
	r.lives(s.t)
	r.checkIndexes(s.t)
}

// toXID pauses at a transaction, which lets one look before going on.
func toXID(s *site, h *history) {
	r := s.restore("--xid", strconv.FormatUint(h.xid.XID, 10), "--action", "pause")
	this := func(ch pgtest.Change) bool { return ch.XID == h.xid.XID }
	must := func(ch pgtest.Change) bool { return this(ch) || !ch.After.After(h.xid.Before) }
	may := func(ch pgtest.Change) bool { return this(ch) || !ch.Before.After(h.xid.After) }
	if !value[bool](s.t, r, "SELECT pg_is_in_recovery() AND pg_is_wal_replay_paused()") {
		s.t.Error("the copy is not paused")
	}
	h.holds(s.t, r, must, may)
	if lsn := value[string](s.t, r, "SELECT pg_last_wal_replay_lsn()::text"); lsn != r.res.RecoveredToLSN {
		s.t.Errorf("the copy is at %s, and restore said %s", lsn, r.res.RecoveredToLSN)
	}
	r.exec(s.t, "SELECT pg_wal_replay_resume()")
	r.leftRecovery(s.t)
	h.holds(s.t, r, must, may)
	r.lives(s.t)
}

// toPoint shuts down at a restore point. The next start of such a directory goes on
// with what the settings say then.
func toPoint(s *site, h *history) {
	r := s.restore("--restore-point", "here", "--action", "shutdown")
	if status, err := server.Probe(r.dir); err != nil || status.Running {
		s.t.Fatalf("the server was to shut down: %+v, %v", status, err)
	}
	if at, err := pg.ParseLSN(r.res.RecoveredToLSN); err != nil || at < h.point.lsn {
		s.t.Errorf("it recovered to %s, want to the restore point at %s: %v", r.res.RecoveredToLSN, h.point.lsn, err)
	}
	r.start(map[string]string{"recovery_target_action": "promote"})
	r.leftRecovery(s.t)
	must, may := h.point.around()
	h.holds(s.t, r, must, may)
	r.lives(s.t)
}

func toImmediate(s *site, h *history) {
	r := s.restore("--immediate")
	if r.res.BackupID != h.backup.id {
		s.t.Errorf("backup %s was restored, want %s", r.res.BackupID, h.backup.id)
	}
	must, may := h.backup.end.around()
	h.holds(s.t, r, must, may)
	r.lives(s.t)
}

// toLatest restores without --start: the server is started by other means.
func toLatest(s *site, h *history) {
	r := s.restoreCold("--workers", "4")
	r.start(nil)
	r.leftRecovery(s.t)
	h.holds(s.t, r, everything, everything)
	r.lives(s.t)
	r.checkIndexes(s.t)
	if !h.pg.ChecksumsOff {
		r.checkPages(s.t)
	}
}
