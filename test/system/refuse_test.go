package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// A backup that could not be restored is refused before it begins, with the setting
// that helps.
func TestBackupRefusals(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{noArchive: true, pg: pgtest.Options{Settings: map[string]string{
		"wal_level": "minimal", "max_wal_senders": "0", "archive_mode": "off",
	}}})
	s.ends(exitNotNow, "backup", "-o", "json").says(t, "refused", "wal_level")
	s.ends(exitNotNow, "backup", "--with-wal", "-o", "json").says(t, "refused", "wal_level")
	s.cluster.Set("wal_level", "replica")
	s.cluster.Restart()
	s.ends(exitNotNow, "backup", "-o", "json").says(t, "refused", "archive_mode = on", "--with-wal")
	s.cluster.Set("archive_mode", "on")
	s.cluster.Restart()
	s.ends(exitNotNow, "backup", "-o", "json").says(t, "refused", "archive_command")

	// An archive_command that keeps nothing is found out.
	s.cluster.Set("archive_command", "/bin/true")
	s.appendConfig("backup: {archive_timeout: 3s}")
	s.ends(1, "backup", "-o", "json").says(t, "archive_timeout", "/bin/true")
	s.cluster.Set("archive_command", "/bin/false")
	s.ends(1, "backup", "-o", "json").says(t, "archive_timeout", "/bin/false", "wal push")
	if list := s.backups(); len(list) != 0 {
		t.Errorf("refused backups are listed: %+v", list)
	}
	// What was copied is kept for the next one, and nobody sees it.
	for _, part := range []string{"/backups/", "/locks/"} {
		if left := s.objects(part); len(left) > 0 {
			t.Errorf("left in the repository: %q", left)
		}
	}
}

// leavesNothing fails the test if the repository holds anything of a backup, or a lock.
func (s *site) leavesNothing() {
	s.t.Helper()
	for _, part := range []string{"/packs/", "/running/", "/backups/", "/locks/"} {
		if left := s.objects(part); len(left) > 0 {
			s.t.Errorf("left in the repository: %q", left)
		}
	}
}

func TestBackupOfAnotherDirectory(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	other := pgtest.New(t, pgtest.Options{Stopped: true})
	replaceInConfig(s, s.cluster.Dir, other.Dir)
	s.ends(exitNotNow, "backup", "-o", "json").says(t, "refused", "data_dir", s.cluster.Dir)
	replaceInConfig(s, other.Dir, s.cluster.Dir)
	// A copy has the same system identifier.
	s.backup()
	copied := s.restore()
	replaceInConfig(s, s.cluster.Dir, copied.dir)
	s.ends(exitNotNow, "backup", "-o", "json").says(t, "refused", "copy", s.cluster.Dir)
}

func replaceInConfig(s *site, old, with string) {
	s.t.Helper()
	data, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	text := strings.ReplaceAll(string(data), old, with)
	if text == string(data) {
		s.t.Fatalf("%s does not have %q", s.config, old)
	}
	if err := os.WriteFile(s.config, []byte(text), 0o640); err != nil {
		s.t.Fatal(err)
	}
}

func TestRestoreRefusals(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.backup()
	dir := s.cluster.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "letter"), []byte("dear"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ends(exitNotNow, "restore", "--to", dir, "-o", "json").says(t, "refused", "not empty", "letter")
	s.ends(exitNotNow, "restore", "--to", s.cluster.Dir, "-o", "json").says(t, "refused", "runs in")
	if got := pgtest.QueryValue[int](s.cluster, "SELECT 1"); got != 1 {
		t.Error("the running server was touched")
	}
	s.cluster.Stop(server.Fast)
	s.ends(exitNotNow, "restore", "--to", s.cluster.Dir, "-o", "json").says(t, "refused", "not empty")
	s.cluster.Start()

	// With another key the repository does not open.
	key := filepath.Join(s.dir, "salvor.key")
	right, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	other := newSite(t, siteOptions{})
	wrong, err := os.ReadFile(filepath.Join(other.dir, "salvor.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, wrong, 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(s.cluster.TempDir(t), "data")
	s.ends(exitRepository, "restore", "--to", fresh, "-o", "json").says(t, "wrong_key")
	s.ends(exitRepository, "backup", "-o", "json").says(t, "wrong_key")
	dest := filepath.Join(s.dir, "fetched")
	s.ends(exitFault, "wal", "fetch", "000000010000000000000001", dest)
	s.ends(exitFault, "wal", "fetch", "00000002.history", dest)
	if err := os.WriteFile(key, right, 0o600); err != nil {
		t.Fatal(err)
	}
	s.ok("restore", "--to", fresh)
}
