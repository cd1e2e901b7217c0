package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
)

// Lease is a lock that is held. It must be ended by Release.
type Lease struct {
	locks  *Locks
	what   string
	cancel context.CancelCauseFunc // of the holder's work
	end    context.CancelFunc      // of what runs beside it
	beside sync.WaitGroup

	// Of the one goroutine that renews; of Release afterwards.
	doc     document
	version store.Version
	began   time.Time // the last renewal that got through

	expiry   *time.Timer
	failure  atomic.Pointer[error] // of the last renewal, if it failed
	report   atomic.Pointer[func() json.RawMessage]
	reported chan struct{} // there is a report now
}

// take makes or replaces the lease's object. When it fails with neither ErrExists nor
// ErrChanged the object may be there all the same: then it is looked at.
func (e *Lease) take(ctx context.Context, o store.CreateOptions) (bool, error) {
	e.began = e.locks.clock.Now()
	obj, err := e.put(ctx, o)
	if err == nil {
		e.version = obj.Version
		return true, nil
	}
	if !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrChanged) && ctx.Err() == nil {
		if ours, lookErr := e.ours(ctx); ours && lookErr == nil {
			return true, nil
		}
	}
	return false, err
}

func (e *Lease) put(ctx context.Context, o store.CreateOptions) (store.Object, error) {
	data, err := json.MarshalIndent(e.doc, "", "  ")
	if err != nil {
		return store.Object{}, err
	}
	return store.Put(ctx, e.locks.store, prefix+e.what, data, o)
}

// start begins the holding. Renewals go on until Release, also when ctx is done: who
// holds the lock has to clean up then.
func (e *Lease) start(ctx context.Context) (*Lease, context.Context, error) {
	e.reported = make(chan struct{}, 1)
	held, cancel := context.WithCancelCause(ctx)
	e.cancel = cancel
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	e.end = end
	e.expiry = time.AfterFunc(e.left(), e.expire)
	e.beside.Go(func() { e.renewals(alive) })
	e.beside.Go(func() { e.requests(alive) })
	return e, held, nil
}

// left is how long the lease is safe from others.
func (e *Lease) left() time.Duration { return TTL - e.locks.clock.Now().Sub(e.began) }

// expire ends the holder's work, since no renewal got through for a time to live:
// also where one hangs.
func (e *Lease) expire() {
	var last error
	if p := e.failure.Load(); p != nil {
		last = *p
	}
	e.lose(last)
}

func (e *Lease) lose(why error) {
	e.cancel(fmt.Errorf("renewing the lock %s: %w", e.what, errors.Join(ErrLost, why)))
}

// Report makes the lease tell how far its holder has come: report is called before each
// renewal, which carries what it returns, and renewals come every ten seconds from then
// on, the first one at once. What is not JSON of at most ReportMax bytes is left out.
// report must not block, and is not called after Release.
func (e *Lease) Report(report func() json.RawMessage) {
	e.report.Store(&report)
	select {
	case e.reported <- struct{}{}:
	default:
	}
}

// renewals keep the lease alive until ctx ends or the lease is lost.
func (e *Lease) renewals(ctx context.Context) {
	due := time.NewTimer(renewEvery)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		case <-e.reported:
		}
		err := e.renew(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, store.ErrChanged), errors.Is(err, store.ErrNotFound):
			e.lose(err)
			return
		case err != nil:
			e.failure.Store(&err)
		}
		if e.report.Load() != nil {
			due.Reset(reportEvery)
		} else {
			due.Reset(renewEvery)
		}
	}
}

// renew fails with store.ErrChanged or ErrNotFound if the lease is another's.
func (e *Lease) renew(ctx context.Context) error {
	began := e.locks.clock.Now()
	e.doc.RenewedAt, e.doc.Report = began.UTC(), e.reportNow()
	obj, err := e.put(ctx, store.CreateOptions{IfMatch: e.version})
	if errors.Is(err, store.ErrChanged) {
		ours, lookErr := e.ours(ctx)
		if lookErr != nil {
			return lookErr
		}
		if ours { // a renewal had got through, and its answer not
			began = e.locks.clock.Now()
			obj, err = e.put(ctx, store.CreateOptions{IfMatch: e.version})
		}
	}
	if err == nil {
		e.version, e.began = obj.Version, began
		e.expiry.Reset(e.left())
	}
	return err
}

func (e *Lease) reportNow() json.RawMessage {
	f := e.report.Load()
	if f == nil {
		return nil
	}
	if r := (*f)(); len(r) <= ReportMax && json.Valid(r) {
		return r
	}
	return nil
}

// ours says whether the object is of this holding, and takes note of its version.
func (e *Lease) ours(ctx context.Context) (bool, error) {
	d, version, err := e.locks.read(ctx, e.what)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil || d.Token != e.doc.Token {
		return false, err
	}
	e.version = version
	return true, nil
}

// Check says whether the lease is still held, by reading it.
func (e *Lease) Check(ctx context.Context) error {
	ours, err := e.locks.holds(ctx, e.what, e.doc.Token)
	if err == nil && !ours {
		return fmt.Errorf("checking the lock %s: %w", e.what, ErrLost)
	}
	return err
}

// Release gives the lease back. It is safe after the lease was lost: another's is
// not touched.
func (e *Lease) Release(ctx context.Context) error {
	e.cancel(nil)
	e.end()
	e.beside.Wait()
	e.expiry.Stop()
	err := e.locks.store.Delete(ctx, prefix+e.what, e.version)
	if errors.Is(err, store.ErrChanged) {
		var ours bool
		if ours, err = e.ours(ctx); ours {
			err = e.locks.store.Delete(ctx, prefix+e.what, e.version)
		}
	}
	if err != nil && !errors.Is(err, store.ErrChanged) && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("releasing the lock %s: %w", e.what, err)
	}
	// One that came too late. It would harm nobody, so it may also stay.
	_ = e.locks.withdraw(ctx, e.what, e.doc.Token)
	return nil
}
