package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
)

// Life is what can be told of a holder from outside.
type Life int

const (
	// Alive: it renews its lease.
	Alive Life = iota
	// Silent: by this host's clock it did not renew its lease for a time to live. It
	// may be dead, or the clocks of two hosts differ. It loses the lease to the next
	// one who watches it for a time to live.
	Silent
	// Gone: its process has ended; the next one who wants the lease has it.
	Gone
)

// State is a lease that is held, as others see it.
type State struct {
	What      string
	Token     repo.ID // of the holding
	Holder    Holder
	RenewedAt time.Time       // by the holder's clock
	Report    json.RawMessage // empty if the holder tells nothing
	Life      Life
}

// Look says who holds a lease. It fails with ErrNotHeld if nobody does, and with
// *Unreadable if that cannot be told.
func (l *Locks) Look(ctx context.Context, what string) (State, error) {
	d, _, err := l.read(ctx, what)
	if errors.Is(err, store.ErrNotFound) {
		return State{}, fmt.Errorf("%s: %w", what, ErrNotHeld)
	}
	if err != nil {
		return State{}, err
	}
	return State{what, d.Token, d.Holder, d.RenewedAt, d.Report, l.life(d)}, nil
}

// life judges a holder. A process that is there and does not renew is silent: it was
// stopped, or it forgot the lease.
func (l *Locks) life(d document) Life {
	gone, known := l.self.knows(d.Holder)
	switch {
	case known && gone:
		return Gone
	case l.clock.Now().Sub(d.RenewedAt).Abs() < TTL:
		return Alive
	}
	return Silent
}

// Wait waits until the holding with this token has ended, and removes the request that
// asked for it. It says whether the holder died: its process is gone, or it did not
// renew the lease for a whole time to live, measured here.
func (l *Locks) Wait(ctx context.Context, what string, token repo.ID) (died bool, err error) {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	var last store.Version
	var since time.Time
	for {
		d, version, err := l.read(ctx, what)
		switch {
		case errors.Is(err, store.ErrNotFound) || err == nil && d.Token != token:
			return false, l.withdraw(ctx, what, token)
		case errors.Is(err, store.ErrUnavailable): // asked again: there is a limit in ctx
		case err != nil && !errors.As(err, new(*Unreadable)):
			return false, err
		case version != last:
			last, since = version, l.clock.Now()
		}
		seen := version != "" // what cannot be read may be this holding's lease
		if err == nil && l.life(d) == Gone || seen && l.clock.Now().Sub(since) >= TTL {
			return true, l.withdraw(ctx, what, token)
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-poll.C:
		}
	}
}
