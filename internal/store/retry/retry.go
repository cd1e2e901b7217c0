package retry

import (
	"context"
	"io"
	"iter"

	"github.com/salvor-dr/salvor/internal/store"
)

// SmallMax is how many bytes of an object are kept to be written again. Locks,
// heads and other documents are smaller.
const SmallMax = 256 << 10

// Store repeats the operations of another store. It is a store.Store and a
// store.Wrapper.
type Store struct {
	store.Store
	policy Policy
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Wrapper = (*Store)(nil)
)

// New wraps a store. Closing it closes the store.
func New(s store.Store, p Policy) *Store { return &Store{s, p.WithDefaults()} }

// Unwrap is the store whose operations are repeated.
func (s *Store) Unwrap() store.Store { return s.Store }

// Open opens a range, again where that fails. Reads are not repeated.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (r io.ReadCloser, err error) {
	err = s.policy.Do(ctx, func(ctx context.Context) error {
		r, err = s.Store.Open(ctx, key, offset, length)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Stat describes an object, again where that fails.
func (s *Store) Stat(ctx context.Context, key string) (o store.Object, err error) {
	err = s.policy.Do(ctx, func(ctx context.Context) error {
		o, err = s.Store.Stat(ctx, key)
		return err
	})
	return o, err
}

// Delete removes an object, again where that fails and there is no match.
func (s *Store) Delete(ctx context.Context, key string, match store.Version) error {
	if match != "" {
		return s.Store.Delete(ctx, key, match) // a second one could not tell whether the first had succeeded
	}
	return s.policy.Do(ctx, func(ctx context.Context) error { return s.Store.Delete(ctx, key, "") })
}

// List yields the objects. Where the store's own list breaks off, another one
// goes on after the last entry; the bounds of the policy count from there.
func (s *Store) List(ctx context.Context, prefix string, o store.ListOptions) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		after := o
		stopped, more := false, true
		for more && !stopped {
			err := s.policy.Do(ctx, func(ctx context.Context) error {
				more = false
				for entry, err := range s.Store.List(ctx, prefix, after) {
					if err != nil && more {
						return nil // there was progress: begin to count anew
					}
					if err != nil {
						return err
					}
					after.After, more = entry.Key, true
					if stopped = !yield(entry, nil); stopped {
						return nil
					}
				}
				more = false
				return nil
			})
			if err != nil {
				yield(store.Object{}, err)
				return
			}
		}
	}
}
