package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/lock"
)

// reportKind tells the report of a backup from those of others.
const reportKind = "backup"

// phaseMax is the most bytes of a phase's name.
const phaseMax = 32

// Report is what a running backup tells of itself through its lease, so that it can be
// watched from any host that reaches the repository.
type Report struct {
	Kind      string    `json:"kind"`
	ID        string    `json:"id"` // the backup that is being made
	Phase     string    `json:"phase"`
	Done      uint64    `json:"done_bytes"`                     // of the data directory
	Total     uint64    `json:"total_bytes,omitzero"`           // 0: not known yet
	Rate      float64   `json:"rate_bytes_per_second,omitzero"` // since the report before; 0: not known
	StartedAt time.Time `json:"started_at"`
}

// ParseReport reads the report in a lease. It fails if it is not one of a backup.
func ParseReport(data []byte) (Report, error) {
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return Report{}, fmt.Errorf("reading the report of a backup: %w", err)
	}
	switch {
	case r.Kind != reportKind:
		return Report{}, fmt.Errorf("the report is not of a backup, but of kind %.20q", r.Kind)
	case !catalog.ValidBackupID(r.ID):
		return Report{}, fmt.Errorf("the report names a backup %.40q, which cannot be", r.ID)
	case r.Rate < 0:
		r.Rate = 0
	}
	if !validPhase(r.Phase) {
		r.Phase = ""
	}
	return r, nil
}

// validPhase tells a word from what should not come to a terminal.
func validPhase(s string) bool {
	for _, c := range []byte(s) {
		if c != '-' && (c < 'a' || c > 'z') {
			return false
		}
	}
	return len(s) <= phaseMax
}

// reporter follows the events of a backup.
type reporter struct {
	now func() time.Time

	mu   sync.Mutex
	r    Report
	at   time.Time // of the last report that was made in the phase of the copy
	done uint64    // by then
}

// tell makes the backup's lease report what its events say.
func (r *run) tell(lease *lock.Lease) {
	p := &reporter{now: r.Clock.Now, r: Report{Kind: reportKind, ID: r.id, Phase: "begin", StartedAt: r.Clock.Now().UTC()}}
	phase, progress := r.Events.Phase, r.Events.Progress
	r.Events.Phase = func(name string) {
		p.phase(name)
		phase(name)
	}
	r.Events.Progress = func(done, total uint64) {
		p.progress(done, total)
		progress(done, total)
	}
	lease.Report(p.report)
}

func (p *reporter) phase(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.r.Phase, p.r.Rate, p.at = name, 0, time.Time{}
}

func (p *reporter) progress(done, total uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at.IsZero() {
		p.at, p.done = p.now(), done
	}
	p.r.Done, p.r.Total = max(done, p.r.Done), total // events of several workers may change places
}

// report makes the report, and measures the rate since the one before.
func (p *reporter) report() json.RawMessage {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if took := now.Sub(p.at).Seconds(); !p.at.IsZero() && took > 0 {
		p.r.Rate = float64(p.r.Done-p.done) / took
		p.at, p.done = now, p.r.Done
	}
	data, err := json.Marshal(p.r)
	if err != nil {
		return nil // of numbers and texts: it cannot fail
	}
	return data
}

// reason gives the error of a backup that failed. One that somebody cancelled says so,
// whatever it was at when it heard of it.
func (r *run) reason(held context.Context, err error) error {
	var c *lock.Cancelled
	if errors.As(context.Cause(held), &c) {
		return fmt.Errorf("backup %s: %w", r.id, c)
	}
	if errors.Is(err, conn.ErrRoleChanged) {
		return refuse("run it again", "the standby was promoted while it was backed up")
	}
	if errors.Is(err, conn.ErrTimelineChanged) {
		return refuse("run it again; if it says so once more, make a checkpoint: CHECKPOINT on the primary, then on the standby", "%v", err)
	}
	if r.prior != nil && errors.Is(err, repo.ErrDamaged) {
		return &DamagedParent{r.parent.ID, err}
	}
	return err
}
