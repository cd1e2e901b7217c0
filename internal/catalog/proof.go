package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/proof"
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

// ProofRef names a proof such that no other can stand in its place.
type ProofRef struct {
	ID     string `json:"id"`
	Digest string `json:"digest"` // SHA-256 of its envelope, in hexadecimal digits
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

// String says it to people.
func (p Problem) String() string {
	parts := slices.DeleteFunc([]string{p.Kind, p.Object, p.File, p.Detail}, func(s string) bool { return s == "" })
	return strings.Join(parts, ": ")
}

// String says it to people.
func (c Check) String() string {
	result := "ok"
	switch {
	case c.Skipped:
		result = "skipped"
	case !c.OK:
		result = "NOT OK"
	}
	s := fmt.Sprintf("%s: %s, in %.1f s", c.Name, result, c.Seconds)
	if c.Detail != "" {
		s += "; " + c.Detail
	}
	return s
}

// Proof is the record of a restore or a verification that was done: what it was, what it
// found, and how long it took. It is kept when its backup goes.
//
// In the repository it is the predicate of a statement about the backup, in an envelope
// that may be signed: see package proof, and SignedProof.
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
	// Previous is the newest proof of the cluster that the repository had when this one
	// was written; nil if it had none.
	Previous *ProofRef `json:"previous,omitempty"`

	OK       bool        `json:"ok"`
	Seconds  float64     `json:"duration_seconds"`   // of all of it
	Level    VerifyLevel `json:"level,omitempty"`    // of a verification
	Checks   []Check     `json:"checks,omitempty"`   // of a verification
	Problems []Problem   `json:"problems,omitempty"` // see MaxProblems

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

// MaxProblems is how many problems of one kind of check a proof tells one by one: a
// repository that lost a disk has more than anybody reads. Beyond, it names only damaged
// packs, each once, for DamagedPacks.
const MaxProblems = 1000

// PredicateType says that a statement's predicate is a Proof.
const PredicateType = "https://github.com/salvor-dr/salvor/proof/v1"

// SignedProof is a proof with the envelope that it came in. Nothing has checked the
// signatures.
type SignedProof struct {
	Proof
	Place      Place  // where it is kept; zero for one that comes from elsewhere
	HeadDigest string // SHA-256 of the backup's head as it was stored; "" if it had none
	Envelope   proof.Envelope
	Digest     string // of the envelope's bytes, by which the next proof names it
	Bytes      []byte // of the envelope
}

// Signed says whether anybody vouches for it.
func (p SignedProof) Signed() bool { return len(p.Envelope.Signatures) > 0 }

// WriteProof signs a proof, and writes it to the place of its backup's cluster. It gives
// it an identifier, and the name of the proof before it: the newest one that any place of
// the cluster has. A proof that is written at the same time may name the same one. It
// returns what was written.
//
// signer may be nil: then the proof is not signed.
func WriteProof(ctx context.Context, objects *seal.Objects, p Place, v Proof, now time.Time, signer *proof.Signer) (Proof, error) {
	digest, err := HeadDigest(ctx, objects, p, v.BackupID)
	if err != nil && !errors.Is(err, ErrNoBackup) {
		return v, err
	}
	for range proofAttempts {
		before, err := newestProof(ctx, objects, p.Cluster)
		if err != nil {
			return v, err
		}
		v.Previous = before
		if v.ID = NewBackupID(now); before != nil {
			v.ID = proofIDAfter(before.ID, v.ID)
		}
		err = putProof(ctx, objects, p, v, digest, signer)
		if !errors.Is(err, store.ErrExists) {
			v.FormatVersion = repo.FormatVersion
			return v, err
		}
	}
	return v, fmt.Errorf("writing a proof to %s: others take each name that is tried", p.proofsPrefix())
}

// proofAttempts is how often another name is tried. That two who write at once draw the
// same one of four thousand is rare.
const proofAttempts = 10

// proofIDAfter gives an identifier behind another, so that the newest proof is the one
// that was written last: fresh, or if that is not behind it, since both are of one second
// or a clock was ahead, one a little behind the other.
func proofIDAfter(before, fresh string) string {
	if fresh[:16] > before[:16] {
		return fresh
	}
	const step = 1 << 12
	last, err1 := strconv.ParseUint(before[17:], 16, 32)
	random, err2 := strconv.ParseUint(fresh[17:], 16, 32)
	at, err3 := time.Parse("20060102T150405Z", before[:16])
	if next := last + 1 + random%step; errors.Join(err1, err2, err3) == nil && next < 1<<24 {
		return before[:17] + fmt.Sprintf("%06x", next)
	}
	return NewBackupID(at.Add(time.Second))
}

// putProof writes a proof as it is, under its identifier.
func putProof(ctx context.Context, objects *seal.Objects, p Place, v Proof, headDigest string, signer *proof.Signer) error {
	v.FormatVersion = repo.FormatVersion
	predicate, err := json.Marshal(v)
	if err != nil {
		return err
	}
	about := proof.Subject{Name: v.BackupID, Digest: map[string]string{}}
	if headDigest != "" {
		about.Digest["sha256"] = headDigest
	}
	var signers []*proof.Signer
	if signer != nil {
		signers = append(signers, signer)
	}
	envelope, err := proof.Seal(proof.Statement{Subject: []proof.Subject{about}, PredicateType: PredicateType, Predicate: predicate}, signers...)
	if err != nil {
		return err
	}
	return objects.Put(ctx, p.proofName(v.ID), seal.Proof, envelope)
}

// ParseProof reads an envelope with a proof.
func ParseProof(envelope []byte) (SignedProof, error) {
	e, err := proof.Parse(envelope)
	if err != nil {
		return SignedProof{}, err
	}
	s, err := e.Statement()
	if err != nil {
		return SignedProof{}, err
	}
	if s.PredicateType != PredicateType {
		return SignedProof{}, fmt.Errorf("it is a statement of %.80q, this release reads %q: %w", s.PredicateType, PredicateType, repo.ErrUnknownFormat)
	}
	v := SignedProof{Envelope: e, Digest: proof.Digest(envelope), Bytes: envelope}
	if err := json.Unmarshal(s.Predicate, &v.Proof); err != nil {
		return SignedProof{}, fmt.Errorf("reading a proof: %w", err)
	}
	if len(s.Subject) == 1 {
		v.HeadDigest = s.Subject[0].Digest["sha256"]
	}
	return v, v.check(s.Subject)
}

// check says why it is no proof.
func (p Proof) check(subject []proof.Subject) error {
	switch {
	case p.FormatVersion != repo.FormatVersion:
		return fmt.Errorf("it has format version %d, this release reads %d: %w", p.FormatVersion, repo.FormatVersion, repo.ErrUnknownFormat)
	case !ValidBackupID(p.ID):
		return fmt.Errorf("%.80q is not the identifier of a proof", p.ID)
	case len(subject) != 1 || subject[0].Name != p.BackupID:
		return fmt.Errorf("proof %s of backup %.80q is a statement about something else", p.ID, p.BackupID)
	}
	return nil
}

// ReadProof reads one. It fails with store.ErrNotFound if there is none.
func ReadProof(ctx context.Context, objects *seal.Objects, p Place, id string) (SignedProof, error) {
	v, err := readProof(ctx, objects, p, id)
	if err != nil && ctx.Err() == nil && forget(objects, p.proofName(id)) {
		return readProof(ctx, objects, p, id) // a useless copy says nothing of the repository
	}
	return v, err
}

func readProof(ctx context.Context, objects *seal.Objects, p Place, id string) (SignedProof, error) {
	name := p.proofName(id)
	envelope, err := objects.Get(ctx, name, seal.Proof)
	if err != nil {
		return SignedProof{}, err
	}
	v, err := ParseProof(envelope)
	switch {
	case errors.Is(err, repo.ErrUnknownFormat):
		return SignedProof{}, fmt.Errorf("%s: %w", name, err)
	case err != nil:
		return SignedProof{}, repo.Damaged(name, "%v", err)
	case v.ID != id:
		return SignedProof{}, repo.Damaged(name, "it is that of %q", v.ID)
	}
	v.Place = p
	return v, nil
}
