package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/proof"
)

func proofVerifyCommand(s *session, name *string) *cobra.Command {
	var all bool
	var keyFiles []string
	cmd := &cobra.Command{
		Use: "verify [ID | FILE...]", Short: "Check the signatures of records, and that none between them is missing", Args: positional("[ID...]"),
		Long: `Check records by their identifiers, all of them, or in files that salvor proof
export has written. Of each is checked:

  signature  by the public key: --public-key, or else the configuration's own
  previous   the record before it, which it names, is there and has not changed
  backup     the backup has not changed since, if it is still there

A file is checked with the public key alone, without a repository or a
configuration; the record that it names is looked for among the other files. Exit 3
says that one did not pass: what is not signed does not pass either.

A record that was removed is missed by the one that names it. The newest is named by
none: to see whether it is still there, keep its identifier elsewhere, and check that.`,
		RunE: s.run(func(ctx context.Context, args []string) error { return s.verifyProofs(ctx, *name, args, all, keyFiles) }),
	}
	cmd.Flags().BoolVar(&all, "all", false, "check all that there are")
	cmd.Flags().StringArrayVar(&keyFiles, "public-key", nil, "`FILE` with a public key, as PEM (else the configuration's own); can be repeated")
	return cmd
}

// States of what a proof names.
const (
	linkOK         = "ok"
	linkNone       = "none"       // it names nothing
	linkMissing    = "missing"    // it is not there
	linkDiffers    = "differs"    // what is there is something else
	linkUnreadable = "unreadable" // it is there, and cannot be read
	linkUnknown    = "unknown"    // nobody has looked
)

// checkedProof is a proof that was checked, in documents.
type checkedProof struct {
	ID        string            `json:"id,omitempty"`
	File      string            `json:"file,omitempty"`
	KeptIn    string            `json:"kept_in,omitempty"`
	Kind      catalog.ProofKind `json:"kind,omitempty"`
	BackupID  string            `json:"backup_id,omitempty"`
	OK        bool              `json:"ok"` // whether it passed; what it says is another thing
	Proven    bool              `json:"proven"`
	Signature signatureState    `json:"signature,omitempty"`
	KeyIDs    []string          `json:"key_ids"`
	Previous  string            `json:"previous"`
	Backup    string            `json:"backup"`
	Problems  []string          `json:"problems"`
}

// checkedProofs is a check of proofs, in documents.
type checkedProofs struct {
	OK     bool           `json:"ok"`
	Proofs []checkedProof `json:"proofs"`
	// Forks are proofs that more than one names as the one before it: those were written
	// at the same time, or one of them is not by who says so.
	Forks      []string `json:"forks"`
	Unreadable []string `json:"unreadable"`
}

func (s *session) verifyProofs(ctx context.Context, name string, args []string, all bool, keyFiles []string) error {
	ids, files := []string{}, []string{}
	for _, a := range args {
		if catalog.ValidBackupID(a) {
			ids = append(ids, a)
		} else {
			files = append(files, a)
		}
	}
	switch {
	case len(args) == 0 && !all:
		return usageError("salvor proof verify --all", "proof verify needs identifiers, files, or --all")
	case all && len(args) > 0:
		return usageError("", "--all and %q exclude each other", args[0])
	}
	var c *config.Config
	if all || len(ids) > 0 || len(keyFiles) == 0 {
		var err error
		if c, err = s.config(); err != nil {
			return err
		}
	}
	keys, err := s.keysToCheckWith(ctx, c, keyFiles)
	if err != nil {
		return err
	}
	v := checkedProofs{Proofs: []checkedProof{}, Forks: []string{}, Unreadable: []string{}}
	if err := v.addFiles(files, keys); err != nil {
		return err
	}
	if all || len(ids) > 0 {
		if err := s.addKept(ctx, c, name, ids, keys, &v); err != nil {
			return err
		}
	}
	bad := len(v.Unreadable)
	for _, p := range v.Proofs {
		if !p.OK {
			bad++
		}
	}
	v.OK = bad == 0
	if err := s.out.document(v, v.text()); err != nil {
		return err
	}
	if bad > 0 {
		return foundProblem("`salvor proof show ID` shows what each says", "%d of %d did not pass", bad, len(v.Proofs)+len(v.Unreadable))
	}
	return nil
}

// keysToCheckWith reads the public keys that are trusted.
func (s *session) keysToCheckWith(ctx context.Context, c *config.Config, files []string) (keys []proof.PublicKey, err error) {
	for _, path := range files {
		data, err := readSmall(path)
		if err != nil {
			return nil, usageError("", "--public-key: %w", err)
		}
		key, err := proof.ParsePublicKey(data)
		if err != nil {
			return nil, usageError("`salvor proof key` prints it", "--public-key %s: %w", path, err)
		}
		keys = append(keys, key)
	}
	if len(files) > 0 {
		return keys, nil
	}
	signer, err := signerOf(ctx, c)
	if err != nil {
		return nil, withHint(err, "the public key is enough: --public-key FILE")
	}
	if signer == nil {
		return nil, &failed{exitUsage, "no_proof_key", "give the public key, --public-key FILE; or " + noSignerFix(c), errors.New("there is no key to check with")}
	}
	return []proof.PublicKey{signer.Public()}, nil
}

// readSmall reads a file that is expected to be small.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, proof.EnvelopeMax+1))
	if err == nil && len(data) > proof.EnvelopeMax {
		err = fmt.Errorf("%s has more than %d bytes, so it is something else", path, proof.EnvelopeMax)
	}
	return data, err
}

// beginCheck begins the check of a proof: its signature.
func beginCheck(p catalog.SignedProof, keys []proof.PublicKey) checkedProof {
	v := checkedProof{ID: p.ID, Kind: p.Kind, BackupID: p.BackupID, Proven: p.OK, Signature: checkSignature(p.Envelope, keys),
		KeyIDs: append([]string{}, p.Envelope.KeyIDs()...), Previous: linkUnknown, Backup: linkUnknown, Problems: []string{}}
	switch v.Signature {
	case signatureNone:
		v.problem("it is not signed: nobody vouches for what it says")
	case signatureForged:
		v.problem("its signature is not of what it says: it was changed, or is forged")
	case signatureOther:
		v.problem("it is signed with another key than those that are trusted; --public-key adds one")
	}
	if p.Previous == nil {
		v.Previous = linkNone
	}
	return v
}

func (v *checkedProof) problem(format string, args ...any) {
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

// chain is what is known of proofs that others may name.
type chain struct {
	digests map[string]string // by identifier; "" of one that cannot be read
	namedBy map[string]int
	whole   bool // what is not in it is not there
}

func (c chain) add(p catalog.SignedProof) {
	c.digests[p.ID] = p.Digest
	if p.Previous != nil {
		c.namedBy[p.Previous.ID]++
	}
}

// link checks the proof that another names.
func (c chain) link(p catalog.SignedProof, v *checkedProof) {
	if p.Previous == nil {
		return
	}
	digest, ok := c.digests[p.Previous.ID]
	switch {
	case ok && digest == p.Previous.Digest:
		v.Previous = linkOK
	case ok && digest == "":
		v.Previous = linkUnreadable
		v.problem("the one before it, %s, cannot be read", p.Previous.ID)
	case ok:
		v.Previous = linkDiffers
		v.problem("the one before it, %s, is not what it was", p.Previous.ID)
	case c.whole:
		v.Previous = linkMissing
		v.problem("the one before it, %s, is gone", p.Previous.ID)
	}
}

// forks names what more than one names.
func (c chain) forks() (ids []string) {
	for id, n := range c.namedBy {
		if n > 1 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// addFiles checks proofs in files.
func (v *checkedProofs) addFiles(files []string, keys []proof.PublicKey) error {
	c := chain{map[string]string{}, map[string]int{}, false}
	proofs := make([]catalog.SignedProof, len(files))
	bad := make([]error, len(files))
	for i, path := range files {
		data, err := readSmall(path)
		if err != nil {
			return usageError("an identifier is as 20261124T065100Z-1f3a5c", "%w", err)
		}
		data = trimLine(data)
		if proofs[i], bad[i] = catalog.ParseProof(data); bad[i] == nil {
			c.add(proofs[i])
		}
	}
	for i, path := range files {
		if bad[i] != nil {
			v.Unreadable = append(v.Unreadable, fmt.Sprintf("%s: %v", path, bad[i]))
			continue
		}
		out := beginCheck(proofs[i], keys)
		c.link(proofs[i], &out)
		out.File, out.OK = path, len(out.Problems) == 0
		v.Proofs = append(v.Proofs, out)
	}
	v.Forks = append(v.Forks, c.forks()...)
	return nil
}

// trimLine cuts off the line end that export adds: the digest is of what was signed.
func trimLine(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		return b[:n-1]
	}
	return b
}

// addKept checks the proofs of those identifiers, or all if there are none, in
// repositories.
func (s *session) addKept(ctx context.Context, c *config.Config, name string, ids []string, keys []proof.PublicKey, v *checkedProofs) error {
	missing, read := map[string]bool{}, map[string]bool{}
	for _, id := range ids {
		missing[id] = true
	}
	err := s.eachRepository(ctx, c, name, func(r *repository) (bool, error) {
		links := chain{map[string]string{}, map[string]int{}, true}
		var chosen []catalog.SignedProof
		bad, err := catalog.WalkProofs(ctx, r.objects, c.Cluster, func(p catalog.SignedProof) {
			links.add(p)
			if len(ids) == 0 || slices.Contains(ids, p.ID) {
				chosen = append(chosen, p)
			}
		})
		if err != nil {
			return false, err
		}
		for _, err := range bad {
			var u *catalog.UnreadableProof
			if errors.As(err, &u) {
				links.digests[u.ID] = ""
				if len(ids) > 0 && !slices.Contains(ids, u.ID) {
					continue
				}
				delete(missing, u.ID)
			}
			v.Unreadable = append(v.Unreadable, fmt.Sprintf("repository %s: %v", r.name, err))
		}
		heads := map[string]string{}
		for _, p := range chosen {
			delete(missing, p.ID)
			out := beginCheck(p, keys)
			links.link(p, &out)
			if err := checkHead(ctx, r, p, heads, &out); err != nil {
				return false, err
			}
			out.KeptIn, out.OK = r.name, len(out.Problems) == 0
			v.Proofs = append(v.Proofs, out)
		}
		v.Forks = append(v.Forks, links.forks()...)
		read[r.name] = true
		return false, nil
	})
	for _, rc := range c.Repositories {
		if name == "" && !read[rc.Name] && len(ids) == 0 {
			v.Unreadable = append(v.Unreadable, fmt.Sprintf("repository %s: all that it has", rc.Name)) // the log says why
		}
	}
	for id := range missing {
		if err == nil {
			err = fmt.Errorf("%s: %w", id, catalog.ErrNoProof)
		}
	}
	return err
}

// checkHead looks whether the backup is the one that was proven. digests remembers what
// was looked at.
func checkHead(ctx context.Context, r *repository, p catalog.SignedProof, digests map[string]string, v *checkedProof) error {
	if p.HeadDigest == "" {
		v.Backup = linkNone
		return nil
	}
	key := catalog.HeadName(p.Place, p.BackupID)
	digest, ok := digests[key]
	if !ok {
		var err error
		digest, err = catalog.HeadDigest(ctx, r.objects, p.Place, p.BackupID)
		if err != nil && !errors.Is(err, catalog.ErrNoBackup) {
			return err
		}
		digests[key] = digest
	}
	switch digest {
	case p.HeadDigest:
		v.Backup = linkOK
	case "":
		v.Backup = linkMissing // it was removed, as backups are, and what was proven of it stays
	default:
		v.Backup = linkDiffers
		v.problem("the head of backup %s is not the one that it had then", p.BackupID)
	}
	return nil
}

func (v checkedProofs) text() tabular {
	return lines(func(w io.Writer) {
		t := table{empty: "There is nothing to check.", columns: []column{{title: "proof"}, {title: "signature"}, {title: "previous"}, {title: "backup"}, {title: "result"}}}
		for _, p := range v.Proofs {
			name := p.ID
			if p.File != "" {
				name = p.File + " (" + p.ID + ")"
			}
			t.rows = append(t.rows, []string{name, string(p.Signature), p.Previous, p.Backup, map[bool]string{true: "ok", false: "NOT OK"}[p.OK]})
		}
		if len(t.rows) > 0 || len(v.Unreadable) == 0 {
			_ = t.writeTo(w) // to memory
		}
		for _, p := range v.Proofs {
			for _, problem := range p.Problems {
				fmt.Fprintf(w, "%s: %s\n", p.ID, problem)
			}
		}
		for _, u := range v.Unreadable {
			fmt.Fprintf(w, "cannot be read: %s\n", u)
		}
		for _, id := range v.Forks {
			fmt.Fprintf(w, "%s is named by more than one as the one before it: they were written at the same time\n", id)
		}
	})
}
