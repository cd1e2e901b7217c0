package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
)

const (
	prefix       = "locks/"
	cancelSuffix = ".cancel"

	// TTL is how long a lease lives without a renewal. A holder that is slower
	// than this loses it; who waits for a dead holder on another host waits this
	// long.
	TTL = 60 * time.Second
	// renewEvery leaves two more tries before the lease runs out.
	renewEvery = TTL / 3
	// reportEvery is how old a report may be. It is five requests a minute more than
	// a lease without one costs.
	reportEvery = 10 * time.Second
	// cancelEvery is how often a holder looks for a request to stop: nobody who
	// asked for it waits for long, and S3 takes a cent for a day of it.
	cancelEvery = 3 * time.Second
	pollEvery   = time.Second
	maxObject   = 16 << 10

	// ReportMax is the most bytes of a report.
	ReportMax = 4 << 10
)

// Holder is who holds a lease.
type Holder struct {
	Host         string    `json:"host"`
	PID          int       `json:"pid"`
	BootID       string    `json:"boot_id,omitempty"`       // of the host, changes when it starts
	PIDNamespace string    `json:"pid_namespace,omitempty"` // in which the pid counts: containers of one host have their own
	StartedAt    string    `json:"process_start,omitempty"` // of the process, since a pid is used again
	Since        time.Time `json:"since"`
}

// document is the content of a lease's object.
type document struct {
	FormatVersion int             `json:"format_version"`
	Token         repo.ID         `json:"token"` // of this holding
	Holder        Holder          `json:"holder"`
	RenewedAt     time.Time       `json:"renewed_at"` // by the holder's clock: to be shown, never compared
	Report        json.RawMessage `json:"report,omitempty"`
}

// Locks makes leases in one store.
type Locks struct {
	store store.Store
	clock clock.Clock
	self  Holder
}

// New makes the leases of this process.
func New(st store.Store, c clock.Clock) (*Locks, error) {
	self, err := thisProcess()
	return &Locks{store: st, clock: c, self: self}, err
}

// Acquire takes the lease called what, and renews it until Release. The context
// it returns is cancelled with ErrLost when a renewal shows that another has it,
// or when none got through for a time to live, and with *Cancelled when somebody
// asked for that.
//
// It fails with *Held if another holds it. A holder of this host whose process is
// gone is replaced at once; waiting is called before one that shows no life, and
// cannot be known to be gone, is watched for TTL.
func (l *Locks) Acquire(ctx context.Context, what string, waiting func(Holder)) (*Lease, context.Context, error) {
	for {
		lease := &Lease{locks: l, what: what, doc: l.fresh()}
		taken, err := lease.take(ctx, store.CreateOptions{IfAbsent: true})
		if taken {
			return lease.start(ctx)
		}
		if !errors.Is(err, store.ErrExists) {
			return nil, nil, fmt.Errorf("locking %s: %w", what, err)
		}
		old, version, err := l.read(ctx, what)
		if errors.Is(err, store.ErrNotFound) {
			continue // released just now
		}
		if err != nil {
			return nil, nil, err
		}
		if err := l.expired(ctx, what, old, version, waiting); err != nil {
			return nil, nil, err
		}
		taken, err = lease.take(ctx, store.CreateOptions{IfMatch: version})
		if taken {
			return lease.start(ctx)
		}
		if !errors.Is(err, store.ErrChanged) && !errors.Is(err, store.ErrNotFound) {
			return nil, nil, fmt.Errorf("taking over the lock %s: %w", what, err)
		}
	}
}

func (l *Locks) fresh() document {
	d := document{FormatVersion: repo.FormatVersion, Token: repo.NewID(), Holder: l.self, RenewedAt: l.clock.Now().UTC()}
	d.Holder.Since = d.RenewedAt
	return d
}

// expired returns nil when the holder is dead, and *Held while it may live.
func (l *Locks) expired(ctx context.Context, what string, old document, version store.Version, waiting func(Holder)) error {
	held := &Held{What: what, Holder: old.Holder, Report: old.Report}
	switch l.life(old) {
	case Gone:
		return nil
	case Alive:
		return held
	}
	if waiting != nil {
		waiting(old.Holder)
	}
	timer := time.NewTimer(TTL)
	defer timer.Stop()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return nil
		case <-poll.C:
			obj, err := l.store.Stat(ctx, prefix+what)
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			if err == nil && obj.Version != version {
				return held
			}
			if l.life(old) == Gone {
				return nil
			}
		}
	}
}

// read gives the lease's document, with a version that is not newer: what is then done
// if the version matches is done to what was read.
func (l *Locks) read(ctx context.Context, what string) (document, store.Version, error) {
	obj, err := l.store.Stat(ctx, prefix+what)
	if err != nil {
		return document{}, "", fmt.Errorf("looking at the lock %s: %w", what, err)
	}
	data, err := store.Get(ctx, l.store, prefix+what, maxObject)
	if err != nil {
		return document{}, "", fmt.Errorf("reading the lock %s: %w", what, err)
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return document{}, "", repo.Damaged(prefix+what, "it is not the JSON that was written")
	}
	return d, obj.Version, nil
}
