package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/proof"
)

func proofCommand(s *session) *cobra.Command {
	var name string
	list := proofListCommand(s, &name)
	cmd := group("proof", "See and check what restores and verifications have shown", groupDaily,
		list, proofShowCommand(s, &name), proofVerifyCommand(s, &name), proofExportCommand(s, &name), proofKeyCommand(s))
	cmd.RunE = list.RunE // without a word behind it, list
	cmd.PersistentFlags().StringVar(&name, "repo", "", "`name` of the repository (else all)")
	return cmd
}

// foundProof is a proof with the repository that has it.
type foundProof struct {
	catalog.SignedProof
	repo      string
	signature signatureState
}

// signatureState is what is known of a proof's signature.
type signatureState string

// The states of signatures.
const (
	signatureValid     signatureState = "valid"     // by a key that is trusted
	signatureNone      signatureState = "unsigned"  // nobody vouches for it
	signatureOther     signatureState = "other_key" // by a key that is not known here
	signatureForged    signatureState = "forged"    // not of what the proof says
	signatureUnchecked signatureState = "unchecked" // there is one, and no key to check it with
)

// checkSignature checks an envelope with the keys that are trusted.
func checkSignature(e proof.Envelope, keys []proof.PublicKey) signatureState {
	_, err := e.Check(keys...)
	switch {
	case err == nil:
		return signatureValid
	case errors.Is(err, proof.ErrUnsigned):
		return signatureNone
	case len(keys) == 0:
		return signatureUnchecked
	case errors.Is(err, proof.ErrForged):
		return signatureForged
	}
	return signatureOther
}

// trustedKeys is the public key of the configuration's own, if there is one. Without it,
// signatures are not checked, which a warning says.
func (s *session) trustedKeys(ctx context.Context, c *config.Config) []proof.PublicKey {
	signer, err := signerOf(ctx, c)
	switch {
	case err != nil:
		s.log.Warn("signatures are not checked", "error", err)
		return nil
	case signer == nil:
		return nil
	}
	return []proof.PublicKey{signer.Public()}
}

// allProofs reads the proofs of the cluster in the named repository, or in all, in the
// order in which each was written, and gives those apart that cannot be read.
func (s *session) allProofs(ctx context.Context, c *config.Config, name string, keys []proof.PublicKey) (all []foundProof, unreadable []error, err error) {
	err = s.eachRepository(ctx, c, name, func(r *repository) (bool, error) {
		bad, err := catalog.WalkProofs(ctx, r.objects, c.Cluster, func(p catalog.SignedProof) {
			all = append(all, foundProof{p, r.name, checkSignature(p.Envelope, keys)})
		})
		for _, err := range bad {
			unreadable = append(unreadable, fmt.Errorf("repository %s: %w", r.name, err))
		}
		return false, err
	})
	slices.SortStableFunc(all, func(a, b foundProof) int { return strings.Compare(a.ID, b.ID) })
	return all, unreadable, err
}

// proofView is a proof in documents.
type proofView struct {
	FormatVersion int `json:"format_version,omitempty"` // hides the proof's own: the printer has one
	catalog.Proof
	RestoreSeconds float64        `json:"restore_seconds,omitempty"`
	KeptIn         string         `json:"kept_in"` // the repository, by its name here
	Signature      signatureState `json:"signature"`
	KeyIDs         []string       `json:"key_ids"`
	HeadDigest     string         `json:"head_sha256,omitempty"`
	Digest         string         `json:"envelope_sha256"`
}

func (f *foundProof) view() any {
	return proofView{Proof: f.Proof, RestoreSeconds: roundUp(f.RestoreSeconds()), KeptIn: f.repo, Signature: f.signature,
		KeyIDs: append([]string{}, f.Envelope.KeyIDs()...), HeadDigest: f.HeadDigest, Digest: f.Digest}
}

func proofListCommand(s *session, name *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the records of restores and verifications, oldest first", Args: positional(),
		RunE: s.run(func(ctx context.Context, _ []string) error {
			c, err := s.config()
			if err != nil {
				return err
			}
			all, unreadable, err := s.allProofs(ctx, c, *name, s.trustedKeys(ctx, c))
			if err != nil {
				return err
			}
			items := make([]viewer, len(all))
			for i := range all {
				items[i] = &all[i]
			}
			if err := s.out.list(items, proofsTable(all)); err != nil {
				return err
			}
			if len(unreadable) > 0 {
				return foundProblem("the other proofs are not touched by it", "%d more cannot be read: %w", len(unreadable), errors.Join(unreadable...))
			}
			return nil
		}),
	}
}

// proofsTable is the table of proofs.
type proofsTable []foundProof

func (all proofsTable) writeTo(w io.Writer) error {
	t := table{empty: "Nothing was proven yet: salvor verify, or salvor restore --to DIR --start",
		columns: []column{{title: "id"}, {title: "what"}, {title: "backup"}, {title: "started"}, {title: "took", right: true}, {title: "result"}, {title: "signature"}, {title: "repository"}}}
	for _, p := range all {
		t.rows = append(t.rows, []string{p.ID, p.what(), p.BackupID, formatTime(p.StartedAt), formatDuration(secondsOf(p.Seconds)), p.result(), string(p.signature), p.repo})
	}
	return t.writeTo(w)
}

// what names a kind of proof, and its level.
func (f foundProof) what() string { return strings.TrimSpace(string(f.Kind) + " " + string(f.Level)) }

func (f foundProof) result() string {
	switch n := len(f.Problems); {
	case f.OK:
		return "ok"
	case n == 1:
		return "1 PROBLEM"
	case n > 1:
		return fmt.Sprintf("%d PROBLEMS", n)
	}
	return "NOT OK"
}

func proofShowCommand(s *session, name *string) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show one record", Args: positional("ID"),
		RunE: s.run(func(ctx context.Context, args []string) error {
			c, err := s.config()
			if err != nil {
				return err
			}
			p, err := s.findProof(ctx, c, *name, args[0])
			if err != nil {
				return err
			}
			p.signature = checkSignature(p.Envelope, s.trustedKeys(ctx, c))
			return s.out.document(p.view(), p.details())
		}),
	}
}

// findProof finds a proof in the named repository, or in any.
func (s *session) findProof(ctx context.Context, c *config.Config, name, id string) (found foundProof, err error) {
	if !catalog.ValidBackupID(id) {
		return found, usageError("`salvor proof list` shows those that there are", "%q is not the identifier of a proof", id)
	}
	ok := false
	err = s.eachRepository(ctx, c, name, func(r *repository) (bool, error) {
		p, err := catalog.FindProof(ctx, r.objects, c.Cluster, id)
		if errors.Is(err, catalog.ErrNoProof) {
			return false, nil
		}
		found, ok = foundProof{SignedProof: p, repo: r.name}, err == nil
		return ok, err
	})
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", id, catalog.ErrNoProof)
	}
	return found, err
}

func (f *foundProof) details() details {
	d := details{{"proof", f.ID}, {"what", f.what()}, {"of backup", f.BackupID + " in " + f.Repository}, {"result", f.result()},
		{"started", formatTime(f.StartedAt)}, {"took", formatDuration(secondsOf(f.Seconds))},
		{"by", fmt.Sprintf("salvor %s on %s, with %d processors", f.Program, f.Host, f.CPUs)}}
	if f.Size > 0 {
		d = append(d, detail{"restored", fmt.Sprintf("%s in %s; %s fetched, %s written", formatBytes(int64(f.Size)), formatDuration(secondsOf(f.CopySeconds)), formatBytes(int64(f.Fetched)), formatBytes(int64(f.Written)))})
	}
	if f.RecoveredTo != 0 {
		d = append(d, detail{"recovered to", fmt.Sprintf("%s (target: %s), %s of WAL in %s", f.RecoveredTo, f.Target, formatBytes(int64(f.Replayed)), formatDuration(secondsOf(f.ReplaySeconds)))})
	}
	for _, c := range f.Checks {
		d = append(d, detail{"check", c.String()})
	}
	for _, p := range f.Problems {
		d = append(d, detail{"problem", p.String()})
	}
	d = append(d, detail{"signature", strings.TrimSpace(string(f.signature) + " " + strings.Join(f.Envelope.KeyIDs(), " "))})
	if f.Previous != nil {
		d = append(d, detail{"previous", f.Previous.ID})
	}
	return append(d, detail{"backup's head", f.HeadDigest})
}

func proofExportCommand(s *session, name *string) *cobra.Command {
	return &cobra.Command{
		Use: "export ID", Short: "Print one record as it was signed", Args: positional("ID"),
		Long: `Print the signed envelope of a record, whatever --output says: a file of it can be
checked anywhere, with salvor proof verify FILE --public-key KEY or other tools for
DSSE and in-toto.`,
		RunE: s.run(func(ctx context.Context, args []string) error {
			c, err := s.config()
			if err != nil {
				return err
			}
			p, err := s.findProof(ctx, c, *name, args[0])
			if err != nil {
				return err
			}
			return written(text(append(p.Bytes, '\n')).writeTo(s.stdout))
		}),
	}
}

func proofKeyCommand(s *session) *cobra.Command {
	return &cobra.Command{
		Use: "key", Short: "Print the public key that checks what this configuration signs", Args: positional(),
		Long: `Print the public key, as PEM. Keep it somewhere else than what it checks: whoever
can change both the records and the key that you check them with can forge both.`,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			c, err := s.config()
			if err != nil {
				return err
			}
			signer, err := signerOf(ctx, c)
			if err != nil {
				return err
			}
			if signer == nil {
				return &failed{exitUsage, "no_proof_key", noSignerFix(c), errors.New("the configuration has no key that signs proofs")}
			}
			key := signer.Public()
			return s.out.document(struct {
				KeyID string `json:"key_id"`
				PEM   string `json:"public_key"`
			}{key.ID(), string(key.PEM())}, text(key.PEM()))
		}),
	}
}

// noSignerFix says how a configuration gets a key that signs proofs.
func noSignerFix(c *config.Config) string {
	return fmt.Sprintf("add  proof: {key: {file: salvor.proof.key}}  to %s, and run: salvor -c %s init", c.File(), shellWord(c.File()))
}
