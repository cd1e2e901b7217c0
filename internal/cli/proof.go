package cli

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/proof"
	"github.com/salvor-dr/salvor/internal/restore"
)

const (
	// proofPatience is how long a restore that is done waits for its record: it may
	// have been made from a repository that is hardly there.
	proofPatience = 10 * time.Second
	// proofsRead is how many restores an estimate looks at: the newest, since machines
	// and databases change.
	proofsRead = 20
)

// newProof begins the record of a restore or a verification of a backup. Who did it fills
// in what it found, and OK, and gives it to keepProof.
func (s *session) newProof(c *config.Config, repository string, kind catalog.ProofKind, backupID string) catalog.Proof {
	return catalog.Proof{Kind: kind, Program: versionOf(s.version, s.commit, readBuild()).Version,
		Host: c.Node.Name, CPUs: runtime.GOMAXPROCS(0), StartedAt: s.clock.Now().UTC(), Repository: repository, BackupID: backupID}
}

// copied notes what a restore wrote, and how long that took.
func (s *session) copied(p *catalog.Proof, r restore.Result) {
	p.Size, p.Fetched, p.Written, p.Delta = r.Restored, r.Fetched, r.Written, r.Compared > 0
	p.CopySeconds = s.clock.Now().Sub(p.StartedAt).Seconds()
}

// replayed notes how long a server that was started then took to reach its target. A
// standby has none.
func (s *session) replayed(p *catalog.Proof, o restore.Options, started restore.Started, began time.Time) {
	if !o.Standby {
		reached(p, o.Choice, o.Target, started.LSN, s.clock.Now().Sub(began).Seconds())
	}
}

// reached notes how far a server recovered, and how long that took, unless it replayed
// nothing.
func reached(p *catalog.Proof, c catalog.Choice, t catalog.Target, to pg.LSN, seconds float64) {
	if start := c.Backup.StartLSN; to > start {
		p.Target, p.StartLSN, p.RecoveredTo, p.Replayed, p.ReplaySeconds = t.Kind.String(), start, to, uint64(to-start), seconds
	}
}

// keepProof signs a record that is done, and writes it to the place of its backup's
// cluster. It gives it its identifier, which it returns, the name of the record before it,
// and how long all took, if v does not say that.
//
// It is no fault if it cannot be kept, and "" is returned: who may read a repository need
// not be allowed to write to it. Of a restore that is told only to who asks for debug, of
// all else as a warning. One that cannot be signed is kept without, with a warning.
func (s *session) keepProof(ctx context.Context, c *config.Config, r *repository, p catalog.Place, v catalog.Proof) (id string) {
	now := s.clock.Now()
	if v.Seconds == 0 {
		v.Seconds = roundUp(now.Sub(v.StartedAt).Seconds())
	}
	signer, err := signerOf(ctx, c)
	if err != nil {
		s.log.Warn("what was proven is kept without a signature", "error", err)
	}
	ctx, cancel := context.WithTimeout(ctx, proofPatience)
	defer cancel()
	v, err = catalog.WriteProof(ctx, r.objects, p, v, now, signer)
	if err != nil {
		level := slog.LevelWarn
		if v.Kind == catalog.RestoreProof {
			level = slog.LevelDebug
		}
		s.log.Log(ctx, level, "what was proven is not kept", "repository", r.name, "backup", v.BackupID, "error", err)
		return ""
	}
	return v.ID
}

// signerOf gives the configured key that signs proofs, nil if there is none.
func signerOf(ctx context.Context, c *config.Config) (*proof.Signer, error) {
	if c.Proof.Key.IsZero() {
		return nil, nil
	}
	text, err := c.Proof.Key.Resolve(ctx)
	if err != nil {
		return nil, &failed{exitUsage, "key_unreadable", "", fmt.Errorf("the key that signs proofs: %w", err)}
	}
	signer, err := proof.ParseSigner([]byte(text))
	if err != nil {
		return nil, &failed{exitUsage, "key_invalid", "", fmt.Errorf("the key that signs proofs (%s): %w", c.Proof.Key, err)}
	}
	return signer, nil
}

// proven is what the proofs of a repository tell.
type proven struct {
	backups  catalog.Verifications
	measured []catalog.Proof // of restores, the newest; the last is the newest
	restored catalog.Proof   // the newest of those out of which a server came that reached its target
	verified catalog.Proof   // the newest verification that has passed
}

// proven reads the proofs of a repository. Without those that cannot be read, which are
// told of as warnings, the backups are there all the same.
func (s *session) proven(ctx context.Context, c *config.Config, r *repository) proven {
	v := proven{backups: catalog.Verifications{}}
	unreadable, err := catalog.WalkProofs(ctx, r.objects, c.Cluster, func(p catalog.SignedProof) { v.add(p.Proof) })
	if err != nil {
		unreadable = append(unreadable, err)
	}
	for _, err := range unreadable {
		s.log.Warn(fmt.Sprintf("going on without what was proven: %v", err), "repository", r.name)
	}
	return v
}

// verifications are what the proofs of a repository tell of backups.
func (s *session) verifications(ctx context.Context, c *config.Config, r *repository) catalog.Verifications {
	return s.proven(ctx, c, r).backups
}

// add counts a proof that was written after those before.
func (v *proven) add(p catalog.Proof) {
	v.backups.Add(p)
	if p.CopySeconds > 0 {
		if len(v.measured) == proofsRead {
			v.measured = slices.Delete(v.measured, 0, 1)
		}
		v.measured = append(v.measured, p)
	}
	if p.OK && p.RecoveredTo != 0 {
		v.restored = p
	}
	if p.OK && p.Kind == catalog.VerifyProof {
		v.verified = p
	}
}

// provenDetails say what is known of a backup.
func provenDetails(v catalog.Verification) details {
	d := details{{"verified", "never"}}
	if best := v.Best; best.ID != "" {
		d[0].value = fmt.Sprintf("level %s, %s", best.Level, formatTime(best.At))
	}
	if failed := v.Failed; failed.ID != "" {
		d = append(d, detail{"FAILED", fmt.Sprintf("level %s, %s: salvor proof show %s", failed.Level, formatTime(failed.At), failed.ID)})
	}
	if v.Restore.ID != "" {
		d = append(d, detail{"restored", fmt.Sprintf("%s, in %s", formatTime(v.Restore.At), formatDuration(secondsOf(v.Restore.Seconds)))})
	}
	return d
}

// estimateView is how long a restore would take, in documents.
type estimateView struct {
	Copy         float64  `json:"copy_seconds"`
	Replay       *float64 `json:"replay_seconds,omitempty"`
	Total        *float64 `json:"total_seconds,omitempty"`
	Low          *float64 `json:"low_seconds,omitempty"`
	High         *float64 `json:"high_seconds,omitempty"`
	Measurements int      `json:"measurements"`
	Here         bool     `json:"this_host"`
}

// estimate says how long a restore would take on a host, by those before; nil if none
// tells.
func (v *proven) estimate(host string, w restore.Work) *estimateView {
	e, ok := restore.EstimateTime(w, host, v.measured)
	if !ok {
		return nil
	}
	return viewOfEstimate(e)
}

func viewOfEstimate(e restore.Estimate) *estimateView {
	v := &estimateView{Copy: roundUp(e.Copy.Likely), Measurements: e.Measurements, Here: e.Here}
	if e.Replay != (restore.Span{}) {
		t := e.Total()
		replay, total, low, high := roundUp(e.Replay.Likely), roundUp(t.Likely), roundUp(t.Low), roundUp(t.High)
		v.Replay, v.Total, v.Low, v.High = &replay, &total, &low, &high
	}
	return v
}

// roundUp makes whole milliseconds of seconds.
func roundUp(seconds float64) float64 { return math.Ceil(seconds*1000) / 1000 }

// details say it to people; v may be nil.
func (v *estimateView) details() details {
	const one = "`salvor restore … --start` measures one"
	if v == nil {
		return details{{"would take", "not known: no restore has been measured yet; " + one}}
	}
	part := func(seconds float64) string { return formatDuration(secondsOf(seconds)) }
	restores, where := "restores", "on this host"
	if v.Measurements == 1 {
		restores = "restore"
	}
	if !v.Here {
		where = "elsewhere"
	}
	by := fmt.Sprintf("by %d %s measured %s", v.Measurements, restores, where)
	if v.Replay == nil {
		return details{{"would take", fmt.Sprintf("about %s to copy (%s), and then to replay: no replay has been measured yet; %s", part(v.Copy), by, one)}}
	}
	return details{{"would take", fmt.Sprintf("about %s: %s to copy, %s to replay (%s to %s, %s)", part(*v.Total), part(v.Copy), part(*v.Replay), part(*v.Low), part(*v.High), by)}}
}
