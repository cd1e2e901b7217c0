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
// gone is replaced at once. One that shows no life, and cannot be known to be gone, is
// watched for TTL, and so is a lease that cannot be read; waiting, unless nil, is told
// before, by the *Held or *Unreadable. It fails with *Unreadable if somebody changed such
// a lease meanwhile, and it cannot be read still.
func (l *Locks) Acquire(ctx context.Context, what string, waiting func(why error)) (*Lease, context.Context, error) {
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
		if err != nil && !errors.As(err, new(*Unreadable)) {
			return nil, nil, err
		}
		if err := l.expired(ctx, what, old, version, err, waiting); err != nil {
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

// expired returns nil when the holder is dead, and *Held while it may live. Of a lease
// that cannot be read, for which unreadable is why, it is dead when nobody changes it.
func (l *Locks) expired(ctx context.Context, what string, old document, version store.Version, unreadable error, waiting func(error)) error {
	var held error = &Held{What: what, Holder: old.Holder, Report: old.Report}
	gone := func() bool { return unreadable == nil && l.life(old) == Gone }
	switch {
	case unreadable != nil:
		held = unreadable
	case gone():
		return nil
	case l.life(old) == Alive:
		return held
	}
	if waiting != nil {
		waiting(held)
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
			switch {
			case errors.Is(err, store.ErrNotFound), gone():
				return nil
			case err != nil || obj.Version == version:
			case unreadable == nil:
				return held
			default:
				return l.repaired(ctx, what)
			}
		}
	}
}

// repaired says who has a lease that could not be read, and has changed.
func (l *Locks) repaired(ctx context.Context, what string) error {
	d, _, err := l.read(ctx, what)
	switch {
	case err == nil:
		return &Held{What: what, Holder: d.Holder, Report: d.Report}
	case errors.Is(err, store.ErrNotFound):
		return nil
	}
	return err
}

// read gives the lease's document, with a version that is not newer: what is then done
// if the version matches is done to what was read. With *Unreadable, too, it gives the
// version.
func (l *Locks) read(ctx context.Context, what string) (document, store.Version, error) {
	obj, err := l.store.Stat(ctx, prefix+what)
	if err != nil {
		return document{}, "", fmt.Errorf("looking at the lock %s: %w", what, err)
	}
	data, err := store.Get(ctx, l.store, prefix+what, maxObject)
	if errors.Is(err, store.ErrTooLarge) {
		return document{}, obj.Version, &Unreadable{what, repo.Damaged(prefix+what, "it has more than %d bytes", maxObject)}
	}
	if err != nil {
		return document{}, "", fmt.Errorf("reading the lock %s: %w", what, err)
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		return document{}, obj.Version, &Unreadable{what, repo.Damaged(prefix+what, "it is not the JSON that was written")}
	}
	if d.FormatVersion != repo.FormatVersion {
		return document{}, obj.Version, &Unreadable{what, fmt.Errorf("object %s%s has format version %d, this release reads %d: %w",
			prefix, what, d.FormatVersion, repo.FormatVersion, repo.ErrUnknownFormat)}
	}
	return d, obj.Version, nil
}
