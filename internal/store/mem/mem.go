package mem

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
)

// Store is a store in memory. It is a store.Store.
type Store struct {
	o Options

	mu      sync.Mutex
	objects map[string]object
	changes int64 // numbers the versions
	used    int64 // bytes, committed and pending
	crashed bool
}

type object struct {
	data    []byte // never changed
	modTime time.Time
	version store.Version
}

var _ store.Store = (*Store)(nil)

// New makes an empty store.
func New(o Options) *Store { return &Store{o: o, objects: map[string]object{}} }

// Crash ends this store as a crash of the machine would, and returns the one
// that is found afterwards: with what was committed, and nothing else. Every
// call to the old one, and to its open readers and writers, is
// store.ErrUnavailable from now on.
func (s *Store) Crash() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crashed = true
	c := New(s.o)
	c.objects = maps.Clone(s.objects)
	c.changes = s.changes
	for _, o := range c.objects {
		c.used += int64(len(o.data))
	}
	return c
}

// before judges a call: the context, the hook, the crash. It returns the Len
// that the hook left. The lock is not held.
func (s *Store) before(ctx context.Context, op Op, key string, n int) (int, error) {
	c := Call{Op: op, Key: key, Len: n}
	err := context.Cause(ctx)
	if err == nil && s.o.Hook != nil {
		err = s.o.Hook(ctx, &c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.crashed {
		err = fmt.Errorf("%w: it has crashed", store.ErrUnavailable)
	}
	if err != nil {
		return c.Len, s.fail(op, key, err)
	}
	return c.Len, nil
}

func (s *Store) fail(op Op, key string, err error) error {
	return fmt.Errorf("%s of %s in %s: %w", op, key, s, err)
}

// Create starts an object.
func (s *Store) Create(ctx context.Context, key string, o store.CreateOptions) (store.Writer, error) {
	if err := store.ValidateKey(key); err != nil {
		return nil, err
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if _, err := s.before(ctx, OpCreate, key, 0); err != nil {
		return nil, err
	}
	before := func(op Op, n int) (int, error) { return s.before(ctx, op, key, n) }
	return &writer{s: s, key: key, o: o, before: before}, nil
}

type writer struct {
	s      *Store
	key    string
	o      store.CreateOptions
	before func(Op, int) (int, error)
	data   []byte
	failed error
	ended  bool
}

func (w *writer) Write(p []byte) (int, error) {
	if w.ended {
		return 0, w.s.fail(OpWrite, w.key, store.ErrEnded)
	}
	if w.failed != nil {
		return 0, w.failed
	}
	n, err := w.before(OpWrite, len(p))
	if err != nil && n == len(p) {
		n = 0 // the hook did not say how far it comes
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if free := w.s.o.Capacity - w.s.used; w.s.o.Capacity > 0 && int64(n) > free && err == nil {
		n, err = int(free), w.s.fail(OpWrite, w.key, store.ErrNoSpace)
	}
	if n < len(p) && err == nil {
		err = w.s.fail(OpWrite, w.key, io.ErrShortWrite)
	}
	w.data = append(w.data, p[:n]...)
	w.s.used += int64(n)
	w.failed = err
	return n, err
}

func (w *writer) Commit() (store.Object, error) {
	if w.ended {
		return store.Object{}, w.s.fail(OpCommit, w.key, store.ErrEnded)
	}
	err := w.failed
	if err == nil {
		_, err = w.before(OpCommit, 0)
	}
	if err == nil {
		var o store.Object
		if o, err = w.s.publish(w.key, w.data, w.o); err == nil {
			w.ended = true
			return o, nil
		}
	}
	_ = w.Abort() // it cannot fail
	return store.Object{}, err
}

func (w *writer) Abort() error {
	if w.ended {
		return nil
	}
	w.ended = true
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.used -= int64(len(w.data))
	w.data = nil
	return nil
}

func (s *Store) publish(key string, data []byte, o store.CreateOptions) (store.Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	there, ok := s.objects[key]
	switch {
	case o.IfAbsent && ok:
		return store.Object{}, s.fail(OpCommit, key, store.ErrExists)
	case o.IfMatch != "" && there.version != o.IfMatch:
		return store.Object{}, s.fail(OpCommit, key, store.ErrChanged)
	}
	if other := s.conflict(key); other != "" {
		return store.Object{}, s.fail(OpCommit, key, fmt.Errorf("%w: there is an object %s", store.ErrInvalidKey, other))
	}
	s.changes++
	now := time.Unix(1_700_000_000, s.changes*int64(time.Millisecond))
	if s.o.Now != nil {
		now = s.o.Now()
	}
	s.used -= int64(len(there.data))
	made := object{data: data, modTime: now, version: store.Version(strconv.FormatInt(s.changes, 10))}
	s.objects[key] = made
	return made.describe(key), nil
}

// conflict finds an object that would need to be a folder of key, or the
// reverse.
func (s *Store) conflict(key string) string {
	for i := range len(key) {
		if key[i] == '/' {
			if _, ok := s.objects[key[:i]]; ok {
				return key[:i]
			}
		}
	}
	for other := range s.objects {
		if strings.HasPrefix(other, key) && len(other) > len(key) && other[len(key)] == '/' {
			return other
		}
	}
	return ""
}

func (o object) describe(key string) store.Object {
	return store.Object{Key: key, Size: int64(len(o.data)), ModTime: o.modTime, Version: o.version}
}

func (s *Store) find(ctx context.Context, op Op, key string) (object, error) {
	if err := store.ValidateKey(key); err != nil {
		return object{}, err
	}
	if _, err := s.before(ctx, op, key, 0); err != nil {
		return object{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	if !ok {
		return object{}, s.fail(op, key, store.ErrNotFound)
	}
	return o, nil
}

// Open reads a range.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	o, err := s.find(ctx, OpOpen, key)
	if err != nil {
		return nil, err
	}
	have, want, err := store.Range(int64(len(o.data)), offset, length)
	if err != nil {
		return nil, s.fail(OpOpen, key, err)
	}
	left := o.data[offset : offset+have]
	read := func(p []byte) (int, error) {
		if len(left) == 0 {
			return 0, io.EOF
		}
		p = p[:min(len(p), len(left))]
		n, err := s.before(ctx, OpRead, key, len(p))
		if err != nil && n == len(p) {
			n = 0
		}
		copy(p[:n], left)
		left = left[n:]
		return n, err
	}
	return store.NewRangeReader(ctx, readerFunc(read), want, nil), nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (store.Object, error) {
	o, err := s.find(ctx, OpStat, key)
	if err != nil {
		return store.Object{}, err
	}
	return o.describe(key), nil
}

// List yields the objects that exist when it begins.
func (s *Store) List(ctx context.Context, prefix string, o store.ListOptions) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		if err := store.ValidatePrefix(prefix); err != nil {
			yield(store.Object{}, err)
			return
		}
		if _, err := s.before(ctx, OpList, prefix, 0); err != nil {
			yield(store.Object{}, err)
			return
		}
		for _, entry := range s.entries(prefix, o) {
			if err := context.Cause(ctx); err != nil {
				yield(store.Object{}, s.fail(OpList, prefix, err))
				return
			}
			if !yield(entry, nil) {
				return
			}
		}
	}
}

func (s *Store) entries(prefix string, o store.ListOptions) []store.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	var entries []store.Object
	last := ""
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		entry := s.objects[key].describe(key)
		if part, _, deeper := strings.Cut(key[len(prefix):], "/"); o.Delimited && deeper {
			entry = store.Object{Key: prefix + part + "/", Prefix: true}
		}
		if entry.Key > o.After && entry.Key != last {
			entries = append(entries, entry)
		}
		last = entry.Key
	}
	return entries
}

// Delete removes an object.
func (s *Store) Delete(ctx context.Context, key string, match store.Version) error {
	if err := store.ValidateKey(key); err != nil {
		return err
	}
	if _, err := s.before(ctx, OpDelete, key, 0); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	there, ok := s.objects[key]
	if match != "" && there.version != match {
		return s.fail(OpDelete, key, store.ErrChanged)
	}
	if ok {
		delete(s.objects, key)
		s.used -= int64(len(there.data))
	}
	return nil
}

// String is "mem:".
func (s *Store) String() string { return "mem:" }

// Close does nothing: a store that is reopened in a test is the same one.
func (s *Store) Close() error { return nil }
