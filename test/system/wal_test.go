package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// PostgreSQL ends a recovery on every exit of restore_command from 1 to 125: only
// what is proven absent may end so.
func TestFetchExits(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{noArchive: true})
	c := s.cluster
	var files []string
	for range 4 {
		c.Exec("SELECT pg_logical_emit_message(true, 'a', 'b')")
		files = append(files, pgtest.QueryValue[string](c, "SELECT pg_walfile_name(pg_current_wal_lsn())"))
		c.SwitchWAL()
	}
	dest := filepath.Join(s.dir, "fetched")
	s.ends(exitAbsent, "wal", "fetch", files[0], dest)
	path := func(i int) string { return filepath.Join(c.Dir, "pg_wal", files[i]) }
	s.ok("wal", "push", path(0))
	s.ok("wal", "push", path(2))

	s.ok("wal", "fetch", files[0], dest)
	sameFile(t, path(0), dest)
	s.ends(exitFault, "wal", "fetch", files[1], dest) // a hole
	s.ends(1, "wal", "fetch", "--standby", files[1], dest)
	s.ends(exitAbsent, "wal", "fetch", files[3], dest)
	s.ends(exitAbsent, "wal", "fetch", "--standby", files[3], dest)
	s.ends(exitAbsent, "wal", "fetch", "00000002.history", dest)
	s.ends(exitAbsent, "wal", "fetch", "--standby", "00000002.history", dest)

	s.ends(exitFault, "wal", "fetch", files[0])
	s.ends(exitFault, "wal", "fetch", "--no-such-flag", files[0], dest)
	s.ends(exitFault, "wal", "fetch", "neither", dest)
	s.ends(exitFault, "wal", "fetch", files[0], filepath.Join(s.dir, "no", "such", "directory"))
	s.ends(exitFault, "wal", "fetch", "--incarnation", "0123456789abcdef", files[0], dest)
	moved := s.repo + ".away"
	if err := os.Rename(s.repo, moved); err != nil {
		t.Fatal(err)
	}
	s.ends(exitFault, "wal", "fetch", files[3], dest)
	if err := os.Rename(moved, s.repo); err != nil {
		t.Fatal(err)
	}
	s.damage(s.one("/"+files[0]), 5000)
	if err := os.Remove(dest); err != nil {
		t.Fatal(err)
	}
	s.ends(exitFault, "wal", "fetch", files[0], dest)
	s.ends(1, "wal", "fetch", "--standby", files[0], dest)
	if _, err := os.Stat(dest); !os.IsNotExist(err) {
		t.Error("a damaged segment was handed out")
	}
	left, err := filepath.Glob(filepath.Join(s.dir, ".salvor-fetch-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
	if err := os.WriteFile(s.config, []byte("cluster: [\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	s.ends(exitFault, "wal", "fetch", files[2], dest)
}

// one is the only object whose path holds the words.
func (s *site) one(words string) string {
	s.t.Helper()
	all := s.objects(words)
	if len(all) != 1 {
		s.t.Fatalf("there are objects %q with %q, want one", all, words)
	}
	return all[0]
}

// damage flips the lowest bit of a byte; negative numbers count from the end.
func (s *site) damage(path string, at int) {
	s.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if at = min(at, len(data)-1); at < 0 {
		at += len(data)
	}
	data[at] ^= 1
	info, err := os.Stat(path)
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err == nil {
		err = os.Chmod(path, info.Mode())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestPush(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{noArchive: true})
	c := s.cluster
	file := pgtest.QueryValue[string](c, "SELECT pg_walfile_name(pg_current_wal_lsn())")
	c.SwitchWAL()
	path := filepath.Join(c.Dir, "pg_wal", file)
	var doc struct {
		Repositories []struct{ Outcome string }
	}
	s.ok("wal", "push", path, "-o", "json").decode(t, &doc)
	if len(doc.Repositories) != 1 || doc.Repositories[0].Outcome != "stored" {
		t.Errorf("the first push: %+v", doc)
	}
	s.ok("wal", "push", path, "-o", "json").decode(t, &doc)
	if doc.Repositories[0].Outcome != "present" {
		t.Errorf("the second push: %+v", doc)
	}
	// Other content under the same name is refused, and the first stays.
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	good := strings.Clone(string(data))
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s.ends(1, "wal", "push", path, "-o", "json").says(t, "conflict", file, "never overwritten")
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(s.dir, "fetched")
	s.ok("wal", "fetch", file, dest)
	sameFile(t, path, dest)

	// A segment of another cluster, and one under another's name.
	other := pgtest.New(t, pgtest.Options{})
	foreign := pgtest.QueryValue[string](other, "SELECT pg_walfile_name(pg_current_wal_lsn())")
	other.SwitchWAL()
	s.copyInto(filepath.Join(other.Dir, "pg_wal", foreign), filepath.Join(c.Dir, "pg_wal", "000000010000000000000077"))
	s.ends(1, "wal", "push", filepath.Join(c.Dir, "pg_wal", "000000010000000000000077"), "-o", "json").says(t, "foreign_file")
	s.copyInto(path, filepath.Join(c.Dir, "pg_wal", "000000010000000000000078"))
	s.ends(1, "wal", "push", filepath.Join(c.Dir, "pg_wal", "000000010000000000000078"), "-o", "json").says(t, "foreign_file")
	// A whole cluster that no repository knows.
	r := s.ends(exitNotNow, "wal", "push", filepath.Join(other.Dir, "pg_wal", foreign), "-o", "json")
	r.says(t, "not_initialised", "salvor init")
	for _, f := range []string{"000000010000000000000077", "000000010000000000000078"} {
		if err := os.Remove(filepath.Join(c.Dir, "pg_wal", f)); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *site) copyInto(from, to string) {
	s.t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err == nil {
		err = os.Chown(to, s.cluster.UID, s.cluster.GID)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}
