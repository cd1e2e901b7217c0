package catalog

import (
	"context"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// DamagedPacks gives the packs of a place that verifications found damaged: nothing new
// may rest on them. Of each backup the newest verification counts that read everything,
// and what others have found since. Proofs that cannot be read are left out, and given as
// errors that name them.
func DamagedPacks(ctx context.Context, objects *seal.Objects, p Place) (all map[repo.ID]bool, unreadable []error, err error) {
	found := map[string]map[repo.ID]bool{} // by backup
	unreadable, err = WalkProofs(ctx, objects, p.Cluster, func(v SignedProof) {
		if v.Kind != VerifyProof {
			return
		}
		// A restore on trial that failed may not have read what was damaged before.
		everything := v.Level == VerifyData || v.Level == VerifyRestore && v.OK
		if everything || found[v.BackupID] == nil {
			found[v.BackupID] = map[repo.ID]bool{}
		}
		for _, problem := range v.Problems {
			if id, ok := p.PackOf(problem.Object); ok {
				found[v.BackupID][id] = true
			}
		}
	})
	all = map[repo.ID]bool{}
	for _, packs := range found {
		for id := range packs {
			all[id] = true
		}
	}
	return all, unreadable, err
}
