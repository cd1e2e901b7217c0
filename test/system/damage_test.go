package system

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// A page that is damaged on the disk does not spoil the backup: it is named.
func TestDamagedPage(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec(kilometre + "; CHECKPOINT")
	rel := pgtest.QueryValue[string](s.cluster, "SELECT pg_relation_filepath('road')")
	f, err := os.OpenFile(filepath.Join(s.cluster.Dir, rel), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("damage"), 7*8192+5000); err != nil {
		t.Fatal(err)
	}
	r := s.ends(exitProblem, "backup", "-o", "json")
	if !strings.Contains(r.stderr, rel) {
		t.Errorf("it does not say which file: %s", r)
	}
	var b backup
	r.decode(t, &b)
	if len(b.Damaged) != 1 || b.Damaged[0].Path != rel || b.Damaged[0].Block != 7 {
		t.Errorf("damaged pages: %+v", b.Damaged)
	}
	if list := s.backups(); len(list) != 1 || list[0].ID != b.ID || len(list[0].Damaged) != 1 {
		t.Errorf("listed: %+v", list)
	}
	copied := s.restore()
	if n := value[int](t, copied, "SELECT count(*) FROM pg_class WHERE relname = 'road'"); n != 1 {
		t.Error("the copy lacks the table")
	}
}

// Every kind of object, damaged: the restore names it, and makes no database.
func TestDamagedRepository(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec(kilometre)
	b := s.backup()
	s.archiveAll()
	root := s.cluster.TempDir(t)
	s.damagedHead(b.ID, root)
	s.withoutObject("/packs/", root)
	s.withoutObject("/origin", root)
	for _, part := range []string{"/head", "/files", "/packs", "/keys/"} {
		for _, at := range []int{3, 200, -5} {
			s.damaged(root, part, at)
		}
	}
	for _, at := range []int{3, 200, 5000} { // a pack's end is not needed for a restore
		s.damaged(root, "/packs/", at)
	}
	// Archived WAL: the server must not take it for the end of the archive.
	wal := s.objects("/wal/00000001/")
	segment := ""
	for _, w := range wal {
		if !strings.Contains(w, ".backup") {
			segment = w
		}
	}
	dir := filepath.Join(root, "wal")
	s.damage(segment, 2000)
	r := s.run(append([]string{"restore", "--to", dir, "-o", "json"}, startArgs(root)...)...)
	if r.code == exitDone {
		t.Errorf("the server came up without the damaged WAL: %s", r)
	}
	s.damage(segment, 2000)
	s.ok("restore", "--to", filepath.Join(root, "whole"))
}

// damagedHead says everywhere that the backup is there, and cannot be read.
func (s *site) damagedHead(id, root string) {
	s.t.Helper()
	head := s.objects("/" + id + "/head")[0]
	name := strings.TrimPrefix(head, s.repo+"/")
	s.damage(head, 200)
	for _, args := range [][]string{{"restore", "--backup", id, "--to", filepath.Join(root, "no")}, {"backups", "show", id}} {
		s.ends(exitRepository, append(args, "-o", "json")...).says(s.t, "damaged", name)
	}
	if r := s.ends(exitProblem, "backups", "list"); !strings.Contains(r.stderr, name) {
		s.t.Errorf("the list does not name the damaged head: %s", r)
	}
	s.damage(head, 200)
}

// withoutObject restores without the first of the objects.
func (s *site) withoutObject(part, root string) {
	s.t.Helper()
	object := s.objects(part)[0]
	hidden := filepath.Join(root, "hidden")
	if err := os.Rename(object, hidden); err != nil {
		s.t.Fatal(err)
	}
	to := filepath.Join(root, "data")
	s.ends(exitRepository, "restore", "--to", to, "-o", "json").says(s.t, "damaged", strings.TrimPrefix(object, s.repo+"/"), "missing")
	if err := errors.Join(os.Rename(hidden, object), os.RemoveAll(to)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) damaged(root, part string, at int) {
	s.t.Helper()
	object, size := "", int64(-1)
	for _, o := range s.objects(part) {
		info, err := os.Stat(o)
		if err != nil {
			s.t.Fatal(err)
		}
		// The largest, since a small pack is mostly footer, which a restore does not read.
		if (part != "/packs" || strings.HasSuffix(o, "/packs")) && info.Size() > size {
			object, size = o, info.Size()
		}
	}
	if object == "" {
		s.t.Fatalf("there is no object %s", part)
	}
	dir := filepath.Join(root, "data")
	s.damage(object, at)
	r := s.run("restore", "--to", dir, "-o", "json")
	s.damage(object, at)
	if r.code != exitRepository {
		s.t.Errorf("byte %d of %s: want exit %d: %s", at, object, exitRepository, r)
	} else if part != "/keys/" {
		r.says(s.t, strings.TrimPrefix(object, s.repo+"/"))
	}
	if _, err := os.Stat(filepath.Join(dir, "global", "pg_control")); err == nil && r.code != exitDone {
		s.t.Errorf("byte %d of %s: there is a pg_control", at, object)
	}
	if err := os.RemoveAll(dir); err != nil {
		s.t.Fatal(err)
	}
}
