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
	prefix = "locks/"

	// TTL is how long a lease lives without a renewal. A holder that is slower
	// than this loses it; who waits for a dead holder on another host waits this
	// long.
	TTL = 60 * time.Second
	// renewEvery leaves two more tries before the lease runs out.
	renewEvery = TTL / 3
	pollEvery  = time.Second
	maxObject  = 16 << 10
)

// ErrLost says that another holder has the lease, or may have it.
var ErrLost = errors.New("the lock was lost")

// Held says that another holder has the lease now.
type Held struct {
	What   string
	Holder Holder
}

// Error implements error.
func (h *Held) Error() string {
	return fmt.Sprintf("%s is locked by process %d on %s since %s", h.What, h.Holder.PID, h.Holder.Host,
		h.Holder.Since.UTC().Format(time.RFC3339))
}

// Holder is who holds a lease.
type Holder struct {
	Host      string    `json:"host"`
	PID       int       `json:"pid"`
	BootID    string    `json:"boot_id,omitempty"`       // of the host, changes when it starts
	StartedAt string    `json:"process_start,omitempty"` // of the process, since a pid is used again
	Since     time.Time `json:"since"`
}

// document is the content of a lease's object.
type document struct {
	FormatVersion int       `json:"format_version"`
	Token         repo.ID   `json:"token"` // of this holding
	Holder        Holder    `json:"holder"`
	RenewedAt     time.Time `json:"renewed_at"` // by the holder's clock: to be shown, never compared
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

// Lease is a lock that is held. It must be ended by Release.
type Lease struct {
	locks   *Locks
	what    string
	doc     document
	version store.Version
	cancel  context.CancelCauseFunc
	done    chan struct{}
}

// Acquire takes the lease called what, and renews it until Release. The context
// it returns is cancelled with ErrLost when a renewal shows that another has it,
// or when none got through for a time to live.
//
// It fails with *Held if another holds it. A holder of this host whose process is
// gone is replaced at once; waiting is called before a holder of another host
// that shows no life is watched for TTL.
func (l *Locks) Acquire(ctx context.Context, what string, waiting func(Holder)) (*Lease, context.Context, error) {
	for {
		lease := &Lease{locks: l, what: what, doc: l.fresh()}
		obj, err := lease.put(ctx, store.CreateOptions{IfAbsent: true})
		if err == nil {
			return lease.start(ctx, obj)
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
		obj, err = lease.put(ctx, store.CreateOptions{IfMatch: version})
		if err == nil {
			return lease.start(ctx, obj)
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
	held := &Held{What: what, Holder: old.Holder}
	switch gone, known := l.self.knows(old.Holder); {
	case known && gone:
		return nil
	case known, l.clock.Now().Sub(old.RenewedAt).Abs() < TTL:
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
		}
	}
}

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

func (e *Lease) put(ctx context.Context, o store.CreateOptions) (store.Object, error) {
	data, err := json.MarshalIndent(e.doc, "", "  ")
	if err != nil {
		return store.Object{}, err
	}
	return store.Put(ctx, e.locks.store, prefix+e.what, data, o)
}

func (e *Lease) start(ctx context.Context, obj store.Object) (*Lease, context.Context, error) {
	e.version = obj.Version
	e.done = make(chan struct{})
	held, cancel := context.WithCancelCause(ctx)
	e.cancel = cancel
	go e.renew(held)
	return e, held, nil
}

// renew keeps the lease alive until its context ends.
func (e *Lease) renew(ctx context.Context) {
	defer close(e.done)
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	last := e.locks.clock.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		e.doc.RenewedAt = e.locks.clock.Now().UTC()
		obj, err := e.put(ctx, store.CreateOptions{IfMatch: e.version})
		switch {
		case err == nil:
			e.version, last = obj.Version, e.locks.clock.Now()
		case errors.Is(err, store.ErrChanged) && e.ours(ctx):
			last = e.locks.clock.Now() // a renewal had got through, and its answer not
		case errors.Is(err, store.ErrChanged), errors.Is(err, store.ErrNotFound),
			e.locks.clock.Now().Sub(last) >= TTL:
			e.cancel(fmt.Errorf("renewing the lock %s: %w", e.what, errors.Join(ErrLost, err)))
			return
		}
	}
}

// ours says whether the object is still of this holding, and takes note of its version.
func (e *Lease) ours(ctx context.Context) bool {
	d, version, err := e.locks.read(ctx, e.what)
	if err != nil || d.Token != e.doc.Token {
		return false
	}
	e.version = version
	return true
}

// Check says whether the lease is still held, by reading it.
func (e *Lease) Check(ctx context.Context) error {
	d, _, err := e.locks.read(ctx, e.what)
	if errors.Is(err, store.ErrNotFound) || err == nil && d.Token != e.doc.Token {
		return fmt.Errorf("checking the lock %s: %w", e.what, ErrLost)
	}
	return err
}

// Release gives the lease back. It is safe after the lease was lost: another's is
// not touched.
func (e *Lease) Release(ctx context.Context) error {
	e.cancel(nil)
	<-e.done
	err := e.locks.store.Delete(ctx, prefix+e.what, e.version)
	if errors.Is(err, store.ErrChanged) && e.ours(ctx) {
		err = e.locks.store.Delete(ctx, prefix+e.what, e.version)
	}
	if err == nil || errors.Is(err, store.ErrChanged) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return fmt.Errorf("releasing the lock %s: %w", e.what, err)
}
