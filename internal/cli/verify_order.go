package cli

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
)

// candidate is a backup that may be verified.
type candidate struct {
	repository *repository
	place      catalog.Place
	id         string
	why        string // it was chosen, where nobody named it
}

// proveMost puts backups into the order in which verifying them proves most: first those
// that were never verified at the level, then those whose last proof is oldest; of equals
// the newest backup, since that is the one to be restored. A verification that found
// something counts as one: to find it again proves nothing new.
func proveMost(all []candidate, level catalog.VerifyLevel, known func(candidate) catalog.Verification) {
	at := map[*candidate]time.Time{}
	order := make([]*candidate, len(all))
	for i := range all {
		c := all[i]
		order[i] = &c
		at[&c], c.why = lastProof(known(c), level)
	}
	slices.SortStableFunc(order, func(a, b *candidate) int {
		return cmp.Or(at[a].Compare(at[b]), strings.Compare(b.id, a.id)) // the zero time is before all
	})
	for i, c := range order {
		all[i] = *c
	}
}

// lastProof says when a backup was last verified at a level or a higher one, the zero
// time if it never was, and puts that into words.
func lastProof(v catalog.Verification, level catalog.VerifyLevel) (time.Time, string) {
	switch {
	case v.Failed.ID != "":
		return v.Failed.At, "found damaged at " + formatTime(v.Failed.At)
	case v.Best.ID != "" && v.Best.Level.Rank() >= level.Rank():
		return v.Best.At, "last verified at " + formatTime(v.Best.At)
	case v.Best.ID != "":
		return time.Time{}, "verified at level " + string(v.Best.Level) + " only"
	}
	return time.Time{}, "never verified"
}
