package retry

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/salvor-dr/salvor/internal/store"
)

// Create starts an object. The store hears of it at Commit, or when it becomes
// larger than SmallMax.
func (s *Store) Create(ctx context.Context, key string, o store.CreateOptions) (store.Writer, error) {
	if err := store.ValidateKey(key); err != nil {
		return nil, err
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("creating %s in %s: %w", key, s, err)
	}
	return &writer{s: s, key: key, o: o,
		cause:  func() error { return context.Cause(ctx) },
		create: func() (store.Writer, error) { return s.create(ctx, key, o) },
		put:    func(data []byte) (store.Object, error) { return s.put(ctx, key, data, o) },
	}, nil
}

func (s *Store) create(ctx context.Context, key string, o store.CreateOptions) (w store.Writer, err error) {
	err = s.policy.Do(ctx, func(ctx context.Context) error {
		w, err = s.Store.Create(ctx, key, o)
		return err
	})
	return w, err
}

// put writes a small object, and again where that fails.
func (s *Store) put(ctx context.Context, key string, data []byte, o store.CreateOptions) (made store.Object, err error) {
	var open, unknown error // of an attempt that may have published the object; the outcome when that cannot be told
	err = s.policy.Do(ctx, func(ctx context.Context) error {
		var err error
		made, err = store.Put(ctx, s.Store, key, data, o)
		broken := errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrChanged)
		if !broken || open == nil {
			open = err
			return err
		}
		made, err = s.published(ctx, key, data)
		if errors.Is(err, errNotOurs) {
			unknown = fmt.Errorf("%w; after that: %w", open, err)
			return nil
		}
		return err
	})
	if err = cmp.Or(unknown, err); err != nil {
		return store.Object{}, err
	}
	return made, nil
}

// errNotOurs says that the object there is not the one that was written.
var errNotOurs = errors.New("the object there holds other bytes, so whether this one was ever there is not known")

// published looks for the object that an earlier attempt may have published. The
// error is of no kind of the contract's that speaks of a condition.
func (s *Store) published(ctx context.Context, key string, data []byte) (store.Object, error) {
	before, err := s.Store.Stat(ctx, key)
	var there []byte
	if err == nil {
		there, err = store.Get(ctx, s.Store, key, int64(len(data)))
	}
	switch {
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrTooLarge):
		return store.Object{}, errNotOurs
	case err != nil:
		return store.Object{}, err
	case !bytes.Equal(there, data):
		return store.Object{}, errNotOurs
	}
	return before, nil
}

// writer keeps an object's bytes while they are few.
type writer struct {
	s      *Store
	key    string
	o      store.CreateOptions
	cause  func() error
	create func() (store.Writer, error)
	put    func([]byte) (store.Object, error)

	buf    []byte
	large  store.Writer // where the bytes go once they are too many
	failed error
	ended  bool
}

func (w *writer) fail(doing string, err error) error {
	return fmt.Errorf("%s %s in %s: %w", doing, w.key, w.s, err)
}

// Write adds bytes.
func (w *writer) Write(p []byte) (int, error) {
	if w.ended {
		return 0, w.fail("writing", store.ErrEnded)
	}
	if w.failed != nil {
		return 0, w.failed
	}
	if err := w.cause(); err != nil {
		w.failed = w.fail("writing", err)
		return 0, w.failed
	}
	if w.large == nil && len(w.buf)+len(p) <= SmallMax {
		w.buf = append(w.buf, p...)
		return len(p), nil
	}
	if w.failed = w.enlarge(); w.failed != nil {
		return 0, w.failed
	}
	return w.large.Write(p)
}

// enlarge hands over to a writer of the store.
func (w *writer) enlarge() error {
	if w.large != nil {
		return nil
	}
	large, err := w.create()
	if err != nil {
		return err
	}
	w.large = large
	_, err = large.Write(w.buf)
	w.buf = nil
	return err
}

// Commit publishes the object.
func (w *writer) Commit() (store.Object, error) {
	if w.ended {
		return store.Object{}, w.fail("committing", store.ErrEnded)
	}
	if w.failed != nil {
		_ = w.Abort() // the first error is the one that tells
		return store.Object{}, w.failed
	}
	w.ended = true
	if w.large != nil {
		return w.large.Commit()
	}
	if err := w.cause(); err != nil {
		return store.Object{}, w.fail("committing", err)
	}
	return w.put(w.buf)
}

// Abort drops the object.
func (w *writer) Abort() error {
	if w.ended {
		return nil
	}
	w.ended, w.buf = true, nil
	if w.large != nil {
		return w.large.Abort()
	}
	return nil
}
