package chaos

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
)

// list asks for the backups of a repository.
func (s *site) list(r *repository) map[string]backup {
	s.t.Helper()
	return s.listAll("--repo", r.name)[r.name]
}

// listAll asks for the backups, and gives them by repository.
func (s *site) listAll(args ...string) map[string]map[string]backup {
	s.t.Helper()
	var doc struct {
		Items []backup `json:"items"`
	}
	res := s.ok(append([]string{"backups", "list", "-o", "json"}, args...)...)
	if !res.document(&doc) {
		s.failf("no document: %s", res)
	}
	all := map[string]map[string]backup{}
	for _, b := range doc.Items {
		if all[b.Repository] == nil {
			all[b.Repository] = map[string]backup{}
		}
		all[b.Repository][b.ID] = b
	}
	return all
}

// check holds the site to what must be true whatever was killed.
func (s *site) check() {
	s.t.Helper()
	s.checkBackups()
	s.checkArchiving()
	s.checkServer()
}

// checkBackups compares what is listed with what is known, and sees that all of it is
// whole.
func (s *site) checkBackups() {
	s.t.Helper()
	listed := s.listAll()
	for _, r := range s.repos {
		s.checkListed(r, listed[r.name])
	}
}

func (s *site) checkListed(r *repository, listed map[string]backup) {
	s.t.Helper()
	for id := range r.backups {
		if _, ok := listed[id]; !ok {
			s.failf("backup %s was reported done, and is not listed in %s", id, r.name)
		}
	}
	for id := range listed {
		if _, ok := r.backups[id]; !ok {
			s.failf("backup %s is listed in %s, and nobody made it", id, r.name)
		}
	}
	if _, err := r.whole(s.t.Context()); err != nil {
		s.failf("repository %s: %v", r.name, err)
	}
}

// archive makes everything that is committed by now part of the archive, and gives
// the position up to which it is.
func (s *site) archive() pg.LSN {
	s.t.Helper()
	to, err := pg.ParseLSN(value[string](s, "SELECT pg_current_wal_insert_lsn()::text"))
	if err != nil {
		s.failf("%v", err)
	}
	file := value[string](s, "SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
	s.exec("SELECT pg_logical_emit_message(true, 'chaos', 'the end of a segment')")
	s.exec("SELECT pg_switch_wal()")
	s.await(file+" is archived", func() bool {
		return value[bool](s, "SELECT coalesce(last_archived_wal, '') >= $1 FROM pg_stat_archiver", file)
	})
	return to
}

// checkArchiving sees that the server archives, and that what it archived is in both
// repositories as it was.
func (s *site) checkArchiving() {
	s.t.Helper()
	s.archive()
	if failed := value[int64](s, "SELECT failed_count FROM pg_stat_archiver"); failed > s.failed {
		s.failf("the server's archiver has failed %d times; its log ends:\n%s", failed-s.failed, tail(s.cluster.Log()))
	}
	for _, name := range s.noteSegments() {
		s.checkSegment(name)
	}
	s.checkSegment(s.anySegment())
}

func tail(log string) string {
	lines := strings.Split(log, "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// noteSegments takes note of the segments archived since the last time.
func (s *site) noteSegments() (added []string) {
	s.t.Helper()
	last := value[string](s, "SELECT last_archived_wal FROM pg_stat_archiver")
	entries, err := os.ReadDir(filepath.Join(s.cluster.Dir, "pg_wal"))
	if err != nil {
		s.failf("%v", err)
	}
	for _, e := range entries {
		name := e.Name()
		if _, err := pg.ParseSegment(name, segmentMB<<20); err != nil || name > last || s.wal[name] != nil {
			continue
		}
		s.wal[name] = s.digest(s.walFile(name))
		added = append(added, name)
	}
	return added
}

func (s *site) walFile(name string) string { return filepath.Join(s.cluster.Dir, "pg_wal", name) }

func (s *site) digest(path string) []byte {
	s.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		s.failf("%v", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		s.failf("%v", err)
	}
	return h.Sum(nil)
}

// anySegment draws one that was archived.
func (s *site) anySegment() string {
	names := make([]string, 0, len(s.wal))
	for name := range s.wal {
		names = append(names, name)
	}
	slices.Sort(names)
	return names[s.rng.IntN(len(names))]
}

func (s *site) checkSegment(name string) {
	s.t.Helper()
	for _, r := range s.repos {
		sum, err := r.segment(s.t.Context(), name)
		if err != nil {
			s.failf("%s was archived; in repository %s: %v", name, r.name, err)
		}
		if !bytes.Equal(sum, s.wal[name]) {
			s.failf("%s in repository %s is not what was archived", name, r.name)
		}
	}
}

// checkServer sees that nothing of ours is left in the server.
func (s *site) checkServer() {
	s.t.Helper()
	const left = `SELECT (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'salvor') + (SELECT count(*) FROM pg_replication_slots)`
	s.await("no session or slot of salvor's is left", func() bool { return value[int](s, left) == 0 })
}

// checkNone sees that folders of a repository are empty.
func (s *site) checkNone(r *repository, folders ...string) {
	s.t.Helper()
	for _, folder := range folders {
		files, err := r.files(folder)
		if err != nil {
			s.failf("%v", err)
		}
		if len(files) > 0 {
			s.failf("nothing runs, and repository %s has %q", r.name, files)
		}
	}
}

// temporary lists the temporary files of both repositories.
func (s *site) temporary() []string {
	s.t.Helper()
	var all []string
	for _, r := range s.repos {
		files, err := r.files(".tmp")
		if err != nil {
			s.failf("%v", err)
		}
		all = append(all, files...)
	}
	return all
}

// age makes files look as if they had been written so long ago.
func (s *site) age(files []string, by time.Duration) {
	s.t.Helper()
	then := time.Now().Add(-by)
	for _, path := range files {
		if err := os.Chtimes(path, then, then); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.failf("%v", err)
		}
	}
}
