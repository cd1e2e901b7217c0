package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// ProofKind is what a proof proves.
type ProofKind string

// The kinds of proofs: of a restore that somebody asked for, which has succeeded, and of
// a verification, which says itself how it went.
const (
	RestoreProof ProofKind = "restore"
	VerifyProof  ProofKind = "verify"
)

// VerifyLevel is how far a verification goes. Each level includes those before it.
type VerifyLevel string

// The levels: everything that the backup needs is there; it was read, and is what was
// stored; it was restored, and its server ran.
const (
	VerifyObjects VerifyLevel = "objects"
	VerifyData    VerifyLevel = "data"
	VerifyRestore VerifyLevel = "restore"
)

// Rank orders levels: 1 to 3, and 0 for what is none.
func (l VerifyLevel) Rank() int {
	return 1 + slices.Index([]VerifyLevel{VerifyObjects, VerifyData, VerifyRestore}, l)
}

// Problem is something wrong with a backup.
type Problem struct {
	Kind   string `json:"kind"`             // missing, damaged, …: a word for programs
	Object string `json:"object,omitempty"` // of the repository
	File   string `json:"file,omitempty"`   // of the data directory
	Detail string `json:"detail"`           // for people
}

// Check is one thing that a verification looked at.
type Check struct {
	Name    string  `json:"name"`
	OK      bool    `json:"ok"`
	Seconds float64 `json:"duration_seconds"`
	Detail  string  `json:"detail,omitempty"` // what was found, or what was looked at
	// Skipped says that it could not be made, for a reason that lies with the host: then
	// it is not OK, and no problem of the backup.
	Skipped bool `json:"skipped,omitempty"`
}

// Proof is the record of a restore or a verification that was done: what it was, what it
// found, and how long it took. It is kept when its backup goes.
type Proof struct {
	FormatVersion int       `json:"format_version"`
	ID            string    `json:"id"`
	Kind          ProofKind `json:"kind"`
	Program       string    `json:"salvor_version"`
	Host          string    `json:"host"`
	CPUs          int       `json:"cpus"` // that the program used at most
	StartedAt     time.Time `json:"started_at"`
	Repository    string    `json:"repository"` // its name in the configuration
	BackupID      string    `json:"backup_id"`

	OK       bool        `json:"ok"`
	Seconds  float64     `json:"duration_seconds"`   // of all of it
	Level    VerifyLevel `json:"level,omitempty"`    // of a verification
	Checks   []Check     `json:"checks,omitempty"`   // of a verification
	Problems []Problem   `json:"problems,omitempty"` // at most MaxProblems

	// What follows is there if a data directory was restored.

	Size        uint64  `json:"size_bytes"`    // of the data directory
	Fetched     uint64  `json:"fetched_bytes"` // from the store, as stored
	Written     uint64  `json:"written_bytes"`
	Delta       bool    `json:"delta"`        // something that was there already was compared
	CopySeconds float64 `json:"copy_seconds"` // until the directory was durable

	// What follows is there if the server was started and reached its target.

	Target        string  `json:"target,omitempty"` // a TargetKind in words
	StartLSN      pg.LSN  `json:"start_lsn,omitzero"`
	RecoveredTo   pg.LSN  `json:"recovered_to_lsn,omitzero"`
	Replayed      uint64  `json:"replayed_bytes,omitempty"` // of WAL, between the two
	ReplaySeconds float64 `json:"replay_seconds,omitempty"` // from the server's start until it had done its action
}

// MaxProblems is how many problems a proof holds: a repository that lost a disk has more
// than anybody reads.
const MaxProblems = 1000

// NewProofID makes an identifier that sorts by time.
func NewProofID(now time.Time) string { return NewBackupID(now) }

// WriteProof writes a proof to the place of its backup's cluster. It fails with
// store.ErrExists if there is one of its identifier.
func WriteProof(ctx context.Context, objects *seal.Objects, p Place, v Proof) error {
	if !ValidBackupID(v.ID) {
		return fmt.Errorf("%q is not the identifier of a proof", v.ID)
	}
	v.FormatVersion = repo.FormatVersion
	return putDocument(ctx, objects, p.proofName(v.ID), seal.Proof, v)
}

// ReadProof reads one. It fails with store.ErrNotFound if there is none.
func ReadProof(ctx context.Context, objects *seal.Objects, p Place, id string) (Proof, error) {
	name := p.proofName(id)
	v, err := getDocument[Proof](ctx, objects, name, seal.Proof)
	switch {
	case err != nil:
		return Proof{}, err
	case v.FormatVersion != repo.FormatVersion:
		return Proof{}, fmt.Errorf("%s has format version %d, this release reads %d: %w", name, v.FormatVersion, repo.FormatVersion, repo.ErrUnknownFormat)
	case v.ID != id:
		return Proof{}, repo.Damaged(name, "it is that of %q", v.ID)
	}
	return v, nil
}

// ReadProofs reads the newest proofs of a cluster, in whichever of its places they are:
// at most so many, newest first. Those that cannot be read count too, and are given as
// errors that name them.
func ReadProofs(ctx context.Context, objects *seal.Objects, cluster string, most int) (proofs []Proof, unreadable []error, err error) {
	newest, err := listProofs(ctx, objects, cluster, most)
	if err != nil {
		return nil, nil, err
	}
	for _, n := range newest {
		v, err := ReadProof(ctx, objects, n.place, n.id)
		switch {
		case err == nil:
			proofs = append(proofs, v)
		case errors.Is(err, store.ErrNotFound): // it went meanwhile
		case repo.Unreadable(err):
			unreadable = append(unreadable, fmt.Errorf("proof %s: %w", n.id, err))
		default:
			return nil, nil, fmt.Errorf("reading proof %s: %w", n.id, err)
		}
	}
	return proofs, unreadable, nil
}

// named is a proof by its name.
type named struct {
	place Place
	id    string
}

// listProofs names the newest proofs of a cluster, newest first. It holds no more names
// than are asked for.
func listProofs(ctx context.Context, objects *seal.Objects, cluster string, most int) ([]named, error) {
	var newest []named
	prefix := clustersPrefix + cluster + "/"
	for o, err := range objects.Store().List(ctx, prefix, store.ListOptions{Delimited: true}) {
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", prefix, err)
		}
		p, err := parsePlace(cluster, strings.TrimSuffix(strings.TrimPrefix(o.Key, prefix), "/"))
		if err != nil {
			continue // not ours
		}
		for o, err := range objects.Store().List(ctx, p.proofsPrefix(), store.ListOptions{}) {
			if err != nil {
				return nil, fmt.Errorf("listing %s: %w", p.proofsPrefix(), err)
			}
			id := strings.TrimPrefix(o.Key, p.proofsPrefix())
			if !ValidBackupID(id) {
				continue
			}
			at, _ := slices.BinarySearchFunc(newest, id, func(n named, id string) int { return strings.Compare(id, n.id) })
			if at < most {
				newest = slices.Insert(newest, at, named{p, id})
				newest = newest[:min(len(newest), most)]
			}
		}
	}
	return newest, nil
}
