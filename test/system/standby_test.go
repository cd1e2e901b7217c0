package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// follows is the site as a standby of it has it: the same repository, and a
// configuration of its own.
func (s *site) follows(t *testing.T, yaml string) *site {
	t.Helper()
	c := *s
	c.t, c.cluster = t, s.cluster.Standby(t, "s1")
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	c.config = filepath.Join(s.dir, "standby.yaml")
	text = []byte(strings.NewReplacer(s.cluster.Dir, c.cluster.Dir, s.cluster.SocketDir, c.cluster.SocketDir,
		fmt.Sprint("port: ", s.cluster.Port()), fmt.Sprint("port: ", c.cluster.Port())).Replace(string(text)))
	if err := os.WriteFile(c.config, append(text, yaml...), 0o644); err != nil {
		t.Fatal(err)
	}
	return &c
}

// Backups from a standby, full and incremental, are what the WAL gives for the same
// moment; and so is one from the primary that goes on from them.
func TestBackupFromStandby(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec(kilometre)
	first := s.backup()
	far := s.follows(t, "")
	load := s.cluster.LightLoad(t, 2, 5*time.Millisecond)
	far.ends(exitNotNow, "backup", "-o", "json").says(t, "refused", "standby", "--from standby")
	s.ends(exitNotNow, "backup", "--from", "standby", "-o", "json").says(t, "refused", "primary")

	for _, turn := range []struct {
		on       *site
		args     []string
		kind     string
		detector string
	}{
		{far, []string{"--from", "standby"}, "incremental", "wal"},
		{far, []string{"--from", "auto", "--detect", "lsn"}, "incremental", "lsn"},
		{far, []string{"--from", "standby", "--kind", "full"}, "full", ""},
		{s, nil, "incremental", "wal"},
		{far, []string{"--from", "standby"}, "incremental", "wal"},
	} {
		s.cluster.Exec("UPDATE road SET pad = md5(random()::text) WHERE i % 50 = 7")
		res := turn.on.ok(append([]string{"backup", "-o", "json"}, turn.args...)...)
		var b backup
		res.decode(t, &b)
		if b.Kind != turn.kind || b.Detector != turn.detector || b.FromStandby != (turn.on == far) {
			t.Errorf("with %q the backup is %s, by %q, from a standby: %t; the log:\n%s", turn.args, b.Kind, b.Detector, b.FromStandby, res.stderr)
		}
		one := s.restore("--backup", b.ID, "--immediate", "--set", "autovacuum=off")
		two := s.restore("--backup", first.ID, "--lsn", b.StopLSN, "--exclusive", "--set", "autovacuum=off")
		one.leftRecovery(t)
		two.leftRecovery(t)
		one.stop()
		two.stop()
		sameRelations(t, fmt.Sprint(turn.args), one.dir, two.dir)
	}
	load.Stop()
}

// Without a way to the primary a backup starts at the last restartpoint, and ends when
// the primary archives by itself.
func TestStandbyAlone(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{pg: pgtest.Options{Settings: map[string]string{"archive_timeout": "1s"}}})
	s.cluster.Exec(kilometre)
	far := s.follows(t, "")
	s.cluster.SetHBA("local all all trust", "host replication all 127.0.0.1/32 trust", "host all all 127.0.0.1/32 reject")
	stop := s.cluster.LightLoad(t, 1, 20*time.Millisecond)
	res := far.ok("backup", "--from", "standby", "-o", "json")
	stop.Stop()
	if !strings.Contains(res.stderr, "the primary cannot be asked") || !strings.Contains(res.stderr, "pg_hba") {
		t.Errorf("the log does not say that the primary refuses:\n%s", res.stderr)
	}
	if n := value[int](t, s.restore("--immediate"), "SELECT count(*) FROM public.road"); n != 60000 {
		t.Errorf("the copy has %d rows", n)
	}
}

// What keeps a standby from being backed up is said.
func TestStandbyRefusals(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec(kilometre)
	far := s.follows(t, "\nbackup: {archive_timeout: 3s}\n")
	far.cluster.Exec("SELECT pg_wal_replay_pause()")
	s.cluster.Exec("CREATE TABLE later ()")
	far.ends(exitNotNow, "backup", "--from", "standby", "-o", "json").says(t, "refused", "replay", "pg_is_wal_replay_paused")
	far.cluster.Exec("SELECT pg_wal_replay_resume()")

	r := far.begin("backup", "--from", "standby", "--rate-limit", "2MB", "-o", "json")
	far.underWay("the backup copies", func(j job) bool { return j.Done > 0 })
	far.cluster.Promote()
	res := far.finish(r)
	if res.code != exitNotNow {
		t.Errorf("after a promotion the backup ended so: %s", res)
	}
	res.says(t, "promoted", "run it again")
}
