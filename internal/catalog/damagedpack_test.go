package catalog

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/repo"
)

// The newest verification of each backup that read everything says which packs are
// damaged, and what was found since.
func TestDamagedPacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	elsewhere := testPlace
	elsewhere.Incarnation = "00000000000000ff"
	at := 0
	verified := func(id string, level VerifyLevel, packs ...repo.ID) {
		t.Helper()
		p := Proof{Kind: VerifyProof, BackupID: id, Level: level, OK: len(packs) == 0, StartedAt: minute(float64(at))}
		for _, pack := range packs {
			p.Problems = append(p.Problems, Problem{Kind: "damaged", Object: testPlace.PackName(pack)},
				Problem{Kind: "damaged", Object: elsewhere.PackName(repo.ID{0xFF})}, Problem{Kind: "wal_hole", Object: testPlace.WALName(1, "000000010000000000000001")})
		}
		at++
		_, err := WriteProof(t.Context(), w.objects, testPlace, p, minute(float64(at)), nil)
		w.must(err)
	}
	want := func(ids ...repo.ID) {
		t.Helper()
		all := map[repo.ID]bool{}
		for _, id := range ids {
			all[id] = true
		}
		got, unreadable, err := DamagedPacks(t.Context(), w.objects, testPlace)
		if d := cmp.Diff(all, got); d != "" || err != nil || len(unreadable) > 0 {
			t.Errorf("%v, %v\n%s", err, unreadable, d)
		}
	}
	want()
	verified(b1, VerifyData, repo.ID{1}, repo.ID{2})
	want(repo.ID{1}, repo.ID{2})
	verified(b1, VerifyObjects) // which reads less
	want(repo.ID{1}, repo.ID{2})
	verified(b1, VerifyObjects, repo.ID{3})
	want(repo.ID{1}, repo.ID{2}, repo.ID{3})
	verified(b1, VerifyData, repo.ID{2})
	verified(b2, VerifyRestore)
	want(repo.ID{2})
	verified(b2, VerifyData, repo.ID{4})
	want(repo.ID{2}, repo.ID{4})
	verified(b1, VerifyRestore, repo.ID{5}) // which stopped at that
	want(repo.ID{2}, repo.ID{4}, repo.ID{5})
	verified(b1, VerifyRestore)
	want(repo.ID{4})
}
