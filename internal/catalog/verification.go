package catalog

import (
	"context"
	"time"

	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// Verification is what the proofs of a repository tell of one backup.
//
// It is what was found, and not who says so: signatures are not checked. Whoever can
// write to the repository and has its key could have written a proof.
type Verification struct {
	// Last is the newest verification, however it ended; its ID is empty if there is none.
	Last Verified
	// Best is the newest of those that passed at the highest level. One that found
	// problems takes back all that passed before it.
	Best Verified
	// Failed is the newest at the highest level of those that found problems and after which
	// none of that level or a higher one has passed; its ID is empty if there is none. So it
	// is empty for a backup that is sound as far as is known, and for one of which nothing
	// is known.
	Failed Verified
	// Restore is the newest restore that was measured to its end: one that somebody asked
	// for, or that of a verification that passed.
	Restore Restored
}

// Verified is a verification of a backup.
type Verified struct {
	ID    string // of its proof
	At    time.Time
	Level VerifyLevel
	OK    bool
}

// Restored is a restore of a backup.
type Restored struct {
	ID      string // of its proof; "" if there was none
	At      time.Time
	Seconds float64 // until the server had reached its target
}

// add counts a proof that is newer than those before.
func (v *Verification) add(p Proof) {
	if seconds := p.RestoreSeconds(); p.OK && seconds > 0 {
		v.Restore = Restored{p.ID, p.StartedAt, seconds}
	}
	if p.Kind != VerifyProof || p.Level.Rank() == 0 {
		return
	}
	v.Last = Verified{p.ID, p.StartedAt, p.Level, p.OK}
	switch {
	case !p.OK:
		v.Best = Verified{}
		if p.Level.Rank() >= v.Failed.Level.Rank() {
			v.Failed = v.Last
		}
		return
	case p.Level.Rank() >= v.Failed.Level.Rank():
		v.Failed = Verified{}
	}
	if p.Level.Rank() >= v.Best.Level.Rank() {
		v.Best = v.Last
	}
}

// RestoreSeconds is how long a restore took until the server had reached its target, 0 if
// none did. One that was made over what was there already tells nothing of a whole one.
func (p Proof) RestoreSeconds() float64 {
	if p.Delta || p.CopySeconds <= 0 || p.ReplaySeconds <= 0 {
		return 0
	}
	return p.CopySeconds + p.ReplaySeconds
}

// ReadVerifications reads all proofs of a cluster that a repository has, and says what
// they tell of each backup, by its identifier: also of backups that are gone. A backup of
// which they tell nothing is not in it, and the zero Verification is right for it.
//
// Proofs that cannot be read are left out, and given as errors that name them: what they
// say counts neither for nor against a backup.
//
// From a cache that has them (KeptUnder), ten thousand proofs take some tenths of a second
// of processor time. Who wants the proofs themselves, too, calls WalkProofs and
// Verifications.Add.
func ReadVerifications(ctx context.Context, objects *seal.Objects, cluster string) (all Verifications, unreadable []error, err error) {
	all = Verifications{}
	unreadable, err = WalkProofs(ctx, objects, cluster, func(p SignedProof) { all.Add(p.Proof) })
	if err != nil {
		return nil, nil, err
	}
	return all, unreadable, nil
}

// Verifications is what is known of backups, by their identifiers.
type Verifications map[string]Verification

// Add counts a proof, in the order in which they were written.
func (v Verifications) Add(p Proof) {
	of := v[p.BackupID]
	of.add(p)
	v[p.BackupID] = of
}
