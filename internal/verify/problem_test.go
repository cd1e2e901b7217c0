package verify

import (
	"fmt"
	"testing"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/repo"
)

// However many files and pages the list tells of, each damaged pack is named, so that
// nothing new rests on it: the proof of such a list can be written, and says so.
func TestEachPackIsNamed(t *testing.T) {
	t.Parallel()
	const packs = 1500
	name := func(n int) string { return place.PackName(repo.ID{byte(n >> 8), byte(n), 1}) }
	for what, files := range map[string]int{"many files each": 2000, "one file each": 0} {
		var p problems
		for n := range files {
			p.add(catalog.Problem{Kind: Damaged, Object: name(0), File: fmt.Sprintf("base/1/%d", n), Detail: "damaged"})
		}
		for range 2 {
			for n := range packs {
				p.add(catalog.Problem{Kind: BadPage, Object: name(n), File: "base/1/1259", Detail: fmt.Sprintf("page %d", n)})
				p.add(catalog.Problem{Kind: WALDamaged, Object: place.WALName(1, fmt.Sprintf("%024X", n)), Detail: "damaged"})
			}
		}
		w := newWorld(t, nil, nil)
		v := catalog.Proof{Kind: catalog.VerifyProof, BackupID: first, Level: catalog.VerifyData, Problems: p.list, StartedAt: hour(9)}
		must[catalog.Proof](t)(catalog.WriteProof(t.Context(), w.objects, place, v, clock.System().Now(), nil))
		damaged, _, err := catalog.DamagedPacks(t.Context(), w.objects, place)
		if err != nil || len(damaged) != packs {
			t.Errorf("%s: %d packs of %d are known: %v", what, len(damaged), packs, err)
		}
		if len(p.list) > catalog.MaxProblems+packs || p.more == 0 {
			t.Errorf("%s: the list has %d, and %d more", what, len(p.list), p.more)
		}
	}
}
