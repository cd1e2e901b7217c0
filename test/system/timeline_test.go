package system

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// notes gives the rows of the table that these tests write to.
func notes(t testing.TB, r *restored) string {
	t.Helper()
	return value[string](t, r, "SELECT string_agg(what, ' ' ORDER BY what) FROM public.note")
}

// at is the site with another data directory: what the configuration is on a host
// that took over.
func (s *site) at(r *restored) *site {
	s.t.Helper()
	data, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	text := strings.NewReplacer(
		"data_dir: "+s.cluster.Dir, "data_dir: "+r.dir,
		"host: "+s.cluster.SocketDir, "host: "+r.sock,
		fmt.Sprintf("port: %d", s.cluster.Port()), fmt.Sprintf("port: %d", copyPort),
	).Replace(string(data))
	c := *s
	c.config = filepath.Join(s.dir, filepath.Base(r.sock)+".yaml")
	if err := os.WriteFile(c.config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chown(c.config, s.cluster.UID, s.cluster.GID); err != nil {
		s.t.Fatal(err)
	}
	return &c
}

// archived waits until the server of a copy has archived all of its WAL.
func (r *restored) archived(t testing.TB) {
	t.Helper()
	r.exec(t, "SELECT pg_logical_emit_message(true, 'end', 'of the test')")
	file := value[string](t, r, "SELECT pg_walfile_name(pg_switch_wal())")
	r.s.cluster.Eventually(file+" is archived", func() bool {
		return value[bool](t, r, "SELECT coalesce(last_archived_wal, '') >= $1 FROM pg_stat_archiver", file)
	})
}

// A standby restored from the backup follows by restore_command; it is promoted
// while the old primary lives on, and both archive.
func TestPromotion(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	c.Exec("CREATE TABLE note (what text); INSERT INTO note VALUES ('1backup')")
	first := s.backup()
	two := s.restore("--standby")
	c.Exec("INSERT INTO note VALUES ('2followed')")
	s.archiveAll()
	c.Eventually("the standby follows", func() bool { return notes(t, two) == "1backup 2followed" })
	if err := server.Promote(t.Context(), two.dir); err != nil {
		t.Fatal(err)
	}
	two.exec(t, "INSERT INTO public.note VALUES ('4new')")
	two.archived(t)
	// The old primary comes back and archives the segment in which it was left, and more.
	c.Exec("INSERT INTO note VALUES ('3old')")
	s.archiveAll()
	c.Exec("INSERT INTO note VALUES ('5older')")
	s.archiveAll()
	if h := s.objects("/wal/00000002/00000002.history"); len(h) != 1 {
		t.Errorf("the new timeline's history: %q", h)
	}
	const old, fresh = "1backup 2followed 3old 5older", "1backup 2followed 4new"
	for _, try := range []struct {
		timeline, want string
		number         int
	}{{"latest", fresh, 2}, {"2", fresh, 2}, {"current", old, 1}, {"1", old, 1}} {
		r := s.restore("--timeline", try.timeline)
		if got := notes(t, r); got != try.want || r.res.Timeline != try.number {
			t.Errorf("--timeline %s leads to %q along timeline %d, want %q along %d", try.timeline, got, r.res.Timeline, try.want, try.number)
		}
		r.stop()
	}
	s.ends(exitNotFound, "restore", "--timeline", "7", "--to", filepath.Join(c.TempDir(t), "data"), "-o", "json").says(t, "timeline 7")

	// The new primary is the same cluster: its backups stand beside the old ones.
	after := s.at(two)
	second := after.backup()
	if second.Timeline != 2 {
		t.Errorf("the new primary's backup is on timeline %d", second.Timeline)
	}
	two.exec(t, "INSERT INTO public.note VALUES ('6last')")
	two.archived(t)
	if list := after.backups(); len(list) != 2 || list[0].ID != first.ID || list[1].ID != second.ID {
		t.Errorf("listed: %+v", list)
	}
	for _, try := range []struct {
		args []string
		want string
		from string
	}{
		{nil, fresh + " 6last", second.ID},
		{[]string{"--timeline", "current"}, fresh + " 6last", second.ID},
		{[]string{"--timeline", "1"}, old, first.ID},
		{[]string{"--backup", first.ID}, fresh + " 6last", first.ID},
	} {
		r := after.restore(try.args...)
		if got := notes(t, r); got != try.want || r.res.BackupID != try.from {
			t.Errorf("%q leads from %s to %q, want from %s to %q", try.args, r.res.BackupID, got, try.from, try.want)
		}
		r.stop()
	}
	var wal struct {
		OK        bool
		Timelines []struct {
			Timeline int
			Ranges   []struct{ State string }
		}
	}
	after.ok("wal", "status", "-o", "json").decode(t, &wal)
	if len(wal.Timelines) != 2 || !wal.OK {
		t.Errorf("wal status: %+v", wal)
	}
}

// A copy does not archive into its original's place, even if its settings say so.
func TestCopyKeepsOut(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	c.Exec("CREATE TABLE note (what text); INSERT INTO note VALUES ('1')")
	s.backup()
	r := s.restore()
	if mode := value[string](t, r, "SHOW archive_mode"); mode != "off" {
		t.Errorf("a copy has archive_mode %s", mode)
	}
	r.stop()
	before := s.objects("/wal/")
	r.start(map[string]string{"archive_mode": "on", "log_min_messages": "log"})
	if value[string](t, r, "SHOW archive_command") != pgtest.QueryValue[string](c, "SHOW archive_command") {
		t.Fatal("the copy has another archive_command")
	}
	r.exec(t, "INSERT INTO public.note VALUES ('2')")
	file := value[string](t, r, "SELECT pg_walfile_name(pg_switch_wal())")
	c.Eventually("the copy's archive_command fails", func() bool {
		return value[int](t, r, "SELECT failed_count FROM pg_stat_archiver") > 0
	})
	if n := value[int](t, r, "SELECT archived_count FROM pg_stat_archiver"); n != 0 {
		t.Errorf("the copy archived %d files", n)
	}
	cmd := s.command("wal", "push", "pg_wal/"+file, "-o", "json")
	cmd.Dir = r.dir
	res := s.finish(s.start(&running{cmd: cmd, text: "wal push of a copy"}))
	if res.code != exitNotNow {
		t.Errorf("want exit %d: %s", exitNotNow, res)
	}
	res.says(t, "foreign_incarnation", "copy")
	if after := s.objects("/wal/"); !slices.Equal(before, after) {
		t.Errorf("the archive was %q and is %q", before, after)
	}
	c.Exec("INSERT INTO note VALUES ('3')")
	s.archiveAll()
	if got := notes(t, s.restore()); got != "1 3" {
		t.Errorf("the original leads to %q", got)
	}
}

// A takeover lives on in a place of its own, and can be backed up and restored.
func TestTakeover(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	c.Exec("CREATE TABLE note (what text); INSERT INTO note VALUES ('1')")
	s.backup()
	s.archiveAll()
	r := s.restore("--takeover")
	if mode := value[string](t, r, "SHOW archive_mode"); mode != "on" {
		t.Errorf("after a takeover archive_mode is %s", mode)
	}
	r.exec(t, "INSERT INTO public.note VALUES ('2taken')")
	r.archived(t)
	if n := value[int](t, r, "SELECT failed_count FROM pg_stat_archiver"); n != 0 {
		t.Errorf("after a takeover archiving failed %d times", n)
	}
	// The original, which should be dead, lives on, and is in nobody's way.
	c.Exec("INSERT INTO note VALUES ('3original')")
	s.archiveAll()
	over := s.at(r)
	// Until it has a backup of its own, the original's leads along its timeline.
	if got := notes(t, over.restore()); got != "1 2taken" {
		t.Errorf("before its first backup the takeover leads to %q", got)
	}
	b := over.backup()
	if b.Timeline != 2 {
		t.Errorf("the backup is on timeline %d", b.Timeline)
	}
	r.exec(t, "INSERT INTO public.note VALUES ('4after')")
	r.archived(t)
	again := over.restore()
	if got := notes(t, again); got != "1 2taken 4after" || again.res.BackupID != b.ID {
		t.Errorf("the takeover leads from %s to %q", again.res.BackupID, got)
	}
	again.checkPages(t)
	if got := notes(t, s.restore()); got != "1 3original" {
		t.Errorf("the original leads to %q", got)
	}
}

// A standalone backup needs no archive, and is not spoiled by one that comes later.
func TestStandalone(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{noArchive: true})
	c := s.cluster
	c.Exec("CREATE TABLE note (what text); INSERT INTO note VALUES ('1')")
	s.ends(exitNotNow, "backup", "-o", "json").says(t, "refused", "archive_mode", "--with-wal")
	load := c.Load(t, 3)
	load.WaitFor(50)
	b := s.backup("--with-wal", "--rate-limit", "20MB")
	load.Stop()
	for _, how := range []string{"--immediate", "--latest"} {
		r := s.restore(how)
		if got := notes(t, r); got != "1" {
			t.Errorf("%s leads to %q", how, got)
		}
		r.checkIndexes(t)
		r.checkPages(t)
	}
	dir := filepath.Join(c.TempDir(t), "data")
	s.ends(exitNotFound, "restore", "--to", dir, "--xid", "100000", "-o", "json").says(t, "not_covered")

	// An archive begins: it lacks the WAL that the backup carries.
	c.Set("archive_mode", "on")
	c.Set("archive_command", s.archiveCommand)
	c.Exec("SELECT pg_switch_wal(); CHECKPOINT")
	c.Restart()
	c.Exec("INSERT INTO note VALUES ('2')")
	s.archiveAll()
	r := s.restore("--immediate", "--backup", b.ID)
	if got := notes(t, r); got != "1" {
		t.Errorf("it leads to %q", got)
	}
	r.checkPages(t)
}

// Lost WAL ends the window, and everything before it can still be recovered to.
func TestHole(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	c := s.cluster
	c.Exec("CREATE TABLE note (what text); INSERT INTO note VALUES ('1')")
	b := s.backup()
	lost := pgtest.QueryValue[string](c, "SELECT pg_walfile_name(pg_current_wal_insert_lsn() + 1)")
	c.Exec("INSERT INTO note VALUES ('2')")
	s.archiveAll()
	c.Exec("INSERT INTO note VALUES ('3')")
	s.archiveAll()
	if err := os.Remove(s.one("/" + lost)); err != nil {
		t.Fatal(err)
	}
	r := s.restore("--immediate")
	if got := notes(t, r); got != "1" {
		t.Errorf("before the hole there was %q", got)
	}
	r.stop()
	if got := notes(t, s.restore("--lsn", b.StopLSN, "--exclusive")); got != "1" {
		t.Errorf("at the hole's edge there was %q", got)
	}
	dir := filepath.Join(c.TempDir(t), "data")
	s.ends(exitNotFound, "restore", "--to", dir, "-o", "json").says(t, "not_covered", lost)
	res := s.ends(exitProblem, "wal", "status", "-o", "json")
	if !strings.Contains(res.stdout, `"lost"`) {
		t.Errorf("wal status does not show it: %s", res)
	}
	// A new backup begins a new window.
	s.backup()
	if got := notes(t, s.restore()); got != "1 2 3" {
		t.Errorf("after the hole there was %q", got)
	}
}
