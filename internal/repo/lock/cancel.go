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

// request is the content of the object that asks a holder to stop.
type request struct {
	FormatVersion int       `json:"format_version"`
	Token         repo.ID   `json:"token"` // of the holding that is meant
	By            string    `json:"by"`
	At            time.Time `json:"at"` // to be shown, never compared
}

// Cancel asks the holding with this token to stop, and returns when the request is
// there. Who asked first for the same holding is the one who is named. A request for a
// holding that has ended is obeyed by nobody, and Wait removes it; where it is seen to
// have ended already, the error is ErrNotHeld.
func (l *Locks) Cancel(ctx context.Context, what string, token repo.ID, by string) error {
	data, err := json.MarshalIndent(request{repo.FormatVersion, token, by, l.clock.Now().UTC()}, "", "  ")
	if err != nil {
		return err
	}
	condition := store.CreateOptions{IfAbsent: true}
	for {
		_, err := store.Put(ctx, l.store, cancelKey(what), data, condition)
		if err == nil {
			return nil
		}
		if !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrChanged) {
			return fmt.Errorf("asking the holder of %s to stop: %w", what, err)
		}
		there, version, err := l.readRequest(ctx, what)
		if err != nil {
			return err
		}
		if version == "" {
			condition = store.CreateOptions{IfAbsent: true}
			continue
		}
		if there.Token == token {
			return nil
		}
		// It means another holding: a former one, if this one lasts still.
		ours, err := l.holds(ctx, what, token)
		if err != nil {
			return err
		}
		if !ours {
			return fmt.Errorf("asking the holder of %s to stop: it has ended: %w", what, ErrNotHeld)
		}
		condition = store.CreateOptions{IfMatch: version}
	}
}

// holds says whether the holding with this token lasts.
func (l *Locks) holds(ctx context.Context, what string, token repo.ID) (bool, error) {
	d, _, err := l.read(ctx, what)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && d.Token == token, err
}

func cancelKey(what string) string { return prefix + what + cancelSuffix }

// readRequest gives the request that is there and a version that is not newer; "" if
// there is none. One that cannot be read names no holding.
func (l *Locks) readRequest(ctx context.Context, what string) (request, store.Version, error) {
	obj, err := l.store.Stat(ctx, cancelKey(what))
	if errors.Is(err, store.ErrNotFound) {
		return request{}, "", nil
	}
	if err != nil {
		return request{}, "", fmt.Errorf("looking for a request to stop %s: %w", what, err)
	}
	data, err := store.Get(ctx, l.store, cancelKey(what), maxObject)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return request{}, "", nil
	case errors.Is(err, store.ErrTooLarge):
		return request{}, obj.Version, nil
	case err != nil:
		return request{}, "", fmt.Errorf("reading the request to stop %s: %w", what, err)
	}
	var r request
	if err := json.Unmarshal(data, &r); err != nil {
		return request{}, obj.Version, nil
	}
	return r, obj.Version, nil
}

// removeRequest removes the request of this version, and no newer one.
func (l *Locks) removeRequest(ctx context.Context, what string, v store.Version) error {
	err := l.store.Delete(ctx, cancelKey(what), v)
	if errors.Is(err, store.ErrChanged) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// withdraw removes the request that means the holding, if there is one.
func (l *Locks) withdraw(ctx context.Context, what string, token repo.ID) error {
	r, version, err := l.readRequest(ctx, what)
	if err != nil || version == "" || r.Token != token {
		return err
	}
	return l.removeRequest(ctx, what, version)
}

// requests looks for requests to stop until ctx ends. One that means this holding ends
// the holder's work, and stays until Release, so that who asks again finds it. One that
// means another is of the past, if this holding lasts after it was read, and is removed.
// That the store does not answer is no news: renewals will tell.
func (e *Lease) requests(ctx context.Context) {
	tick := time.NewTicker(cancelEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r, version, err := e.locks.readRequest(ctx, e.what)
		switch {
		case err != nil || version == "":
		case r.Token == e.doc.Token:
			e.cancel(&Cancelled{By: r.By, At: r.At})
			return
		default:
			if ours, err := e.locks.holds(ctx, e.what, e.doc.Token); ours && err == nil {
				_ = e.locks.removeRequest(ctx, e.what, version) // tried again at the next tick
			}
		}
	}
}
