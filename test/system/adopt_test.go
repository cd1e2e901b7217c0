package system

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// lumber is 120 MB that no codec makes smaller: several packs for each worker.
const lumber = "CREATE TABLE lumber AS SELECT i, sha512(i::text::bytea) || sha512(('a' || i)::bytea) || sha512(('b' || i)::bytea) || sha512(('c' || i)::bytea) AS pad FROM generate_series(1, 400000) i"

// What a killed backup had stored is used by the next, also while another backup is
// deleted; and what nobody uses goes when its grace period is over.
func TestAdoptPacks(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	old := s.backup()
	s.cluster.Exec(lumber)
	s.cluster.Exec("CHECKPOINT")
	s.killBackup(len(s.objects("/packs/")) + 2)
	kept := len(s.objects("/packs/"))

	r := s.begin("backup", "--kind", "full", "--rate-limit", "40MB", "-o", "json")
	s.cluster.Eventually("the next backup runs", func() bool { return len(s.objects("/running/")) == 2 })
	s.ends(exitNotNow, "backups", "delete", old.ID, "--yes", "-o", "json").says(t, "last_backup")
	s.ok("backups", "delete", old.ID, "--yes", "--last")
	var b struct {
		backup
		Adopted int64 `json:"adopted_bytes"`
	}
	res := s.finish(r)
	if res.code != exitDone {
		t.Fatalf("the next backup: %s", res)
	}
	res.decode(t, &b)
	if b.Adopted < 60<<20 || b.Stored > 150<<20-b.Adopted {
		t.Errorf("of %d packs %d bytes were adopted, and %d stored", kept, b.Adopted, b.Stored)
	}
	if list := s.backups(); len(list) != 1 || list[0].ID != b.ID {
		t.Fatalf("there are %+v", list)
	}
	if n := value[int](t, s.restore(), "SELECT count(DISTINCT pad) FROM public.lumber"); n != 400000 {
		t.Errorf("the copy has %d rows", n)
	}

	s.killBackup(len(s.objects("/packs/")) + 1)
	s.age(48 * time.Hour)
	s.backup()
	last := s.backup()
	s.ok("backups", "delete", b.ID, "--yes")
	s.ok("backups", "delete", s.backups()[0].ID, "--yes")
	if left := slices.Concat(s.objects("/running/"), s.objects("/tombstones/"), s.objects("/locks/")); len(left) > 0 {
		t.Errorf("left in the repository: %q", left)
	}
	if packs := s.objects("/packs/"); len(packs) > 8 {
		t.Errorf("backup %s, the only one, of 140 MB, has %d packs", last.ID, len(packs))
	}
	s.restoreCold()
}

// killBackup kills a backup once there are so many packs.
func (s *site) killBackup(packs int) {
	s.t.Helper()
	r := s.begin("backup", "--kind", "full", "--rate-limit", "60MB", "--workers", "1")
	s.cluster.Eventually(fmt.Sprintf("there are %d packs", packs), func() bool { return len(s.objects("/packs/")) >= packs })
	r.signal(s.t, syscall.SIGKILL)
	if res := s.finish(r); res.code == exitDone {
		s.t.Fatal("the backup ended before it was killed")
	}
}

// age makes everything in the repository older.
func (s *site) age(by time.Duration) {
	s.t.Helper()
	for _, path := range s.objects("/") {
		then := time.Now().Add(-by)
		if err := os.Chtimes(path, then, then); err != nil {
			s.t.Fatal(err)
		}
	}
}
