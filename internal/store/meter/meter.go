package meter

import (
	"context"
	"errors"
	"io"
	"iter"
	"maps"
	"sync"
	"time"

	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/store"
)

// Store counts what is done with another store. It is a store.Store and a
// store.Wrapper.
type Store struct {
	store.Store
	clock clock.Clock

	mu     sync.Mutex
	counts map[Op]*Counts
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Wrapper = (*Store)(nil)
)

// New wraps a store, and measures by a clock; nil is clock.System. Closing it closes
// the store.
func New(s store.Store, c clock.Clock) *Store {
	if c == nil {
		c = clock.System()
	}
	m := &Store{Store: s, clock: c, counts: map[Op]*Counts{}}
	for _, op := range ops() {
		m.counts[op] = &Counts{Op: op}
	}
	return m
}

// Unwrap is the store whose operations are counted.
func (s *Store) Unwrap() store.Store { return s.Store }

// Counts is what was counted so far, for each kind of operation, in the order put,
// get, stat, list, delete.
func (s *Store) Counts() []Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Counts
	for _, op := range ops() {
		c := *s.counts[op]
		c.Errors = maps.Clone(c.Errors)
		all = append(all, c)
	}
	return all
}

func (s *Store) change(op Op, change func(*Counts)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.counts[op])
}

// operation is one under way. It is for one goroutine.
type operation struct {
	s     *Store
	op    Op
	took  time.Duration
	err   error // the first one
	ended bool
}

// call measures a call that belongs to the operation.
func (o *operation) call(call func() error) {
	began := o.s.clock.Now()
	err := call()
	o.took += o.s.clock.Now().Sub(began)
	if o.err == nil && !errors.Is(err, io.EOF) {
		o.err = err
	}
}

func (o *operation) moved(n int) {
	if n > 0 {
		o.s.change(o.op, func(c *Counts) { c.Bytes += int64(n) })
	}
}

// end counts the operation, once.
func (o *operation) end() {
	if !o.ended {
		o.ended = true
		o.s.change(o.op, func(c *Counts) { c.add(o.took, o.err) })
	}
}

// one counts an operation of one call.
func (s *Store) one(op Op, call func() error) {
	o := operation{s: s, op: op}
	o.call(call)
	o.end()
}

// Create starts an object.
func (s *Store) Create(ctx context.Context, key string, opts store.CreateOptions) (w store.Writer, err error) {
	o := &operation{s: s, op: Put}
	o.call(func() error {
		w, err = s.Store.Create(ctx, key, opts)
		return err
	})
	if err != nil {
		o.end()
		return nil, err
	}
	return &writer{w, o}, nil
}

type writer struct {
	store.Writer
	o *operation
}

func (w *writer) Write(p []byte) (n int, err error) {
	w.o.call(func() error {
		n, err = w.Writer.Write(p)
		return err
	})
	w.o.moved(n)
	return n, err
}

func (w *writer) Commit() (made store.Object, err error) {
	w.o.call(func() error {
		made, err = w.Writer.Commit()
		return err
	})
	w.o.end()
	return made, err
}

func (w *writer) Abort() (err error) {
	w.o.call(func() error {
		err = w.Writer.Abort()
		return err
	})
	if !w.o.ended {
		w.o.s.change(Put, func(c *Counts) { c.Aborted++ })
	}
	w.o.end()
	return err
}

// Open reads a range.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (r io.ReadCloser, err error) {
	o := &operation{s: s, op: Get}
	o.call(func() error {
		r, err = s.Store.Open(ctx, key, offset, length)
		return err
	})
	if err != nil {
		o.end()
		return nil, err
	}
	return &reader{r, o}, nil
}

type reader struct {
	io.ReadCloser
	o *operation
}

func (r *reader) Read(p []byte) (n int, err error) {
	r.o.call(func() error {
		n, err = r.ReadCloser.Read(p)
		return err
	})
	r.o.moved(n)
	return n, err
}

func (r *reader) Close() (err error) {
	r.o.call(func() error {
		err = r.ReadCloser.Close()
		return err
	})
	r.o.end()
	return err
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (o store.Object, err error) {
	s.one(Stat, func() error {
		o, err = s.Store.Stat(ctx, key)
		return err
	})
	return o, err
}

// List yields the objects. What its caller does with each is not measured.
func (s *Store) List(ctx context.Context, prefix string, lo store.ListOptions) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		o := &operation{s: s, op: List}
		defer o.end()
		began := s.clock.Now()
		for entry, err := range s.Store.List(ctx, prefix, lo) {
			o.took += s.clock.Now().Sub(began)
			o.err = err
			if !yield(entry, err) {
				return
			}
			began = s.clock.Now()
		}
		o.took += s.clock.Now().Sub(began)
	}
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string, match store.Version) (err error) {
	s.one(Delete, func() error {
		err = s.Store.Delete(ctx, key, match)
		return err
	})
	return err
}
