package limit

import (
	"context"
	"fmt"
	"io"
	"iter"

	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/store"
)

// Options of a Store. The zero value limits nothing.
type Options struct {
	// Upload and Download are the most bytes a second that are written and read;
	// 0 is no limit.
	Upload, Download int64
	// Operations is how many calls run at the same time; 0 is no limit.
	Operations int
	// Clock measures and waits; nil is clock.System.
	Clock clock.Clock
}

// Store bounds what is taken of another store. It is a store.Store and a
// store.Wrapper.
type Store struct {
	store.Store
	up, down *pace
	slots    chan struct{} // nil without a limit
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Wrapper = (*Store)(nil)
)

// New wraps a store. Closing it closes the store.
func New(s store.Store, o Options) *Store {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	l := &Store{Store: s, up: newPace(o.Upload, o.Clock), down: newPace(o.Download, o.Clock)}
	if o.Operations > 0 {
		l.slots = make(chan struct{}, o.Operations)
	}
	return l
}

// Unwrap is the store that is limited.
func (s *Store) Unwrap() store.Store { return s.Store }

// enter waits for its turn; leave ends it.
func (s *Store) enter(ctx context.Context) error {
	if s.slots == nil {
		return nil
	}
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for a turn at %s: %w", s, context.Cause(ctx))
	}
}

func (s *Store) leave() {
	if s.slots != nil {
		<-s.slots
	}
}

// do makes a call in its turn.
func (s *Store) do(ctx context.Context, call func() error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	return call()
}

// Create starts an object.
func (s *Store) Create(ctx context.Context, key string, o store.CreateOptions) (store.Writer, error) {
	var w store.Writer
	err := s.do(ctx, func() (err error) {
		w, err = s.Store.Create(ctx, key, o)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &writer{Writer: w, s: s,
		do:   func(call func() error) error { return s.do(ctx, call) },
		wait: func(n int) error { return s.up.wait(ctx, n) }}, nil
}

type writer struct {
	store.Writer
	s    *Store
	do   func(func() error) error
	wait func(n int) error

	ended bool // then the writer says so by itself, at once
}

// Write writes in pieces, each when its time has come.
func (w *writer) Write(p []byte) (done int, err error) {
	if w.ended {
		return w.Writer.Write(p)
	}
	for {
		piece := w.s.up.piece(p[done:])
		if err := w.wait(len(piece)); err != nil {
			return done, err
		}
		var n int
		err := w.do(func() (err error) {
			n, err = w.Writer.Write(piece)
			return err
		})
		done += n
		if err != nil || done == len(p) {
			return done, err
		}
	}
}

// Commit publishes the object. That it ends the writer is also true when its turn
// does not come.
func (w *writer) Commit() (o store.Object, err error) {
	if w.ended {
		return w.Writer.Commit()
	}
	w.ended = true
	began := false
	err = w.do(func() (err error) {
		began = true
		o, err = w.Writer.Commit()
		return err
	})
	if !began {
		_ = w.Writer.Abort() // the first error is the one that tells
	}
	return o, err
}

// Abort drops the object. It waits for nothing: what is dropped is taken from nobody.
func (w *writer) Abort() error {
	w.ended = true
	return w.Writer.Abort()
}

// Open reads a range.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	var r io.ReadCloser
	err := s.do(ctx, func() (err error) {
		r, err = s.Store.Open(ctx, key, offset, length)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &reader{ReadCloser: r, s: s,
		do:   func(call func() error) error { return s.do(ctx, call) },
		wait: func(n int) error { return s.down.wait(ctx, n) }}, nil
}

type reader struct {
	io.ReadCloser
	s    *Store
	do   func(func() error) error
	wait func(n int) error
}

// Read reads a piece, and returns when its time has come.
func (r *reader) Read(p []byte) (n int, err error) {
	err = r.do(func() (err error) {
		n, err = r.ReadCloser.Read(r.s.down.piece(p))
		return err
	})
	if werr := r.wait(n); werr != nil && (err == nil || err == io.EOF) {
		err = werr
	}
	return n, err
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (o store.Object, err error) {
	err = s.do(ctx, func() (err error) {
		o, err = s.Store.Stat(ctx, key)
		return err
	})
	return o, err
}

// List yields the objects. While its caller looks at one it takes no turn.
func (s *Store) List(ctx context.Context, prefix string, o store.ListOptions) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		if err := s.enter(ctx); err != nil {
			yield(store.Object{}, err)
			return
		}
		for entry, err := range s.Store.List(ctx, prefix, o) {
			s.leave()
			if !yield(entry, err) || err != nil {
				return
			}
			if err := s.enter(ctx); err != nil {
				yield(store.Object{}, err)
				return
			}
		}
		s.leave()
	}
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string, match store.Version) error {
	return s.do(ctx, func() error { return s.Store.Delete(ctx, key, match) })
}
