package cache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"sync"

	"github.com/salvor-dr/salvor/internal/store"
)

// Store keeps objects of another store. It is a store.Store and a store.Wrapper.
type Store struct {
	store.Store
	o Options

	mu     sync.Mutex
	groups map[string]*group // by prefix
}

// group is the kept objects under a prefix. Their bytes are in files, and not in memory.
type group struct {
	loaded  bool
	file    *os.File // as it was when it was loaded; nil if there was none
	fresh   *os.File // of what is not in the file; nil if there is nothing
	written int64    // to fresh
	entries map[string]entry
	size    int64                    // of the entries' bytes
	listed  map[string]store.Version // what lists of this Store have named
	whole   bool                     // a list has named all that there is
	changed bool                     // entries are not what the file has
}

// entry is where the bytes of a kept object are.
type entry struct {
	version store.Version
	from    io.ReaderAt
	at      int64
	size    int64
}

// bytes reads them.
func (e entry) bytes() ([]byte, error) {
	data := make([]byte, e.size)
	if n, err := e.from.ReadAt(data, e.at); n < len(data) {
		return nil, err
	}
	return data, nil
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Wrapper = (*Store)(nil)
)

// New wraps a store. It reads nothing before it must. Closing it writes what is to be
// kept, and closes the store.
func New(s store.Store, o Options) *Store {
	return &Store{Store: s, o: o.withDefaults(), groups: map[string]*group{}}
}

// Unwrap is the store whose objects are kept.
func (s *Store) Unwrap() store.Store { return s.Store }

// List yields what the store lists, and remembers it.
func (s *Store) List(ctx context.Context, prefix string, o store.ListOptions) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		for entry, err := range s.Store.List(ctx, prefix, o) {
			if err == nil && !entry.Prefix {
				if name := s.o.Group(entry.Key); name != "" {
					s.mu.Lock()
					s.group(name).listed[entry.Key] = entry.Version
					s.mu.Unlock()
				}
			}
			if !yield(entry, err) || err != nil {
				return
			}
		}
		if o == (store.ListOptions{}) {
			s.mu.Lock()
			s.group(prefix).whole = true // if the prefix is no group's, this one stays empty
			s.mu.Unlock()
		}
	}
}

// group gives a group, which need not be loaded.
func (s *Store) group(name string) *group {
	g := s.groups[name]
	if g == nil {
		g = &group{entries: map[string]entry{}, listed: map[string]store.Version{}}
		s.groups[name] = g
	}
	return g
}

// Open reads a range, from the cache if it has the version that was listed.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	name := s.o.Group(key)
	if name == "" {
		return s.Store.Open(ctx, key, offset, length)
	}
	version, e, kept := s.look(name, key)
	if kept {
		data, err := e.bytes()
		if err == nil {
			return openKept(ctx, key, data, offset, length)
		}
		s.o.Failed(fmt.Errorf("reading the cache: %w", err))
		s.Forget(key)
	}
	r, err := s.Store.Open(ctx, key, offset, length)
	if err != nil || version == "" || offset != 0 || length >= 0 {
		return r, err
	}
	return &keeper{ReadCloser: r, keep: func(data []byte) { s.keep(name, key, version, data) }}, nil
}

// look gives the version of the object that was listed, "" for none, and where its bytes
// are if they are kept.
func (s *Store) look(name, key string) (listed store.Version, e entry, kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group(name)
	listed, ok := g.listed[key]
	if !ok || listed == "" {
		return "", entry{}, false
	}
	s.load(name, g)
	e, ok = g.entries[key]
	if ok && e.version != listed {
		g.drop(key)
		return listed, entry{}, false
	}
	return listed, e, ok
}

func (s *Store) load(name string, g *group) {
	if g.loaded {
		return
	}
	g.loaded = true
	var err error
	if g.file, g.entries, err = s.read(name); err != nil {
		s.o.Failed(err)
		g.changed = true // to be written anew
	}
	for _, e := range g.entries {
		g.size += e.size
	}
}

func (s *Store) keep(name, key string, v store.Version, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group(name)
	if g.listed[key] != v {
		return // removed or replaced meanwhile
	}
	s.load(name, g)
	g.drop(key)
	if g.size+int64(len(data)) > s.o.GroupMax {
		return
	}
	e, err := s.spool(name, g, data)
	if err != nil {
		s.o.Failed(fmt.Errorf("writing the cache: %w", err))
		return
	}
	e.version = v
	g.entries[key] = e
	g.size += e.size
	g.changed = true
}

// drop removes an entry, and says whether there was one.
func (g *group) drop(key string) bool {
	e, ok := g.entries[key]
	if ok {
		delete(g.entries, key)
		g.size -= e.size
		g.changed = true
	}
	return ok
}

// Forget drops the kept copy of an object, and says whether there was one: it was of
// no use to who read it. The next Open reads the object from the store.
func (s *Store) Forget(key string) bool {
	name := s.o.Group(key)
	if name == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.group(name).drop(key)
}

// unlist makes the object one that is not read from the cache.
func (s *Store) unlist(name, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group(name)
	delete(g.listed, key)
	g.drop(key)
}

// Delete removes an object, and its copy.
func (s *Store) Delete(ctx context.Context, key string, match store.Version) error {
	err := s.Store.Delete(ctx, key, match)
	if name := s.o.Group(key); name != "" {
		s.unlist(name, key)
	}
	return err
}

// Create starts an object. A copy of one that it replaces is dropped.
func (s *Store) Create(ctx context.Context, key string, o store.CreateOptions) (store.Writer, error) {
	w, err := s.Store.Create(ctx, key, o)
	name := s.o.Group(key)
	if err != nil || name == "" {
		return w, err
	}
	return &writer{w, func() { s.unlist(name, key) }}, nil
}

type writer struct {
	store.Writer
	unlist func()
}

// Commit publishes the object.
func (w *writer) Commit() (store.Object, error) {
	o, err := w.Writer.Commit()
	w.unlist()
	return o, err
}

// openKept is Open of bytes that are kept.
func openKept(ctx context.Context, key string, data []byte, offset, length int64) (io.ReadCloser, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	have, want, err := store.Range(int64(len(data)), offset, length)
	if err != nil {
		return nil, fmt.Errorf("reading the kept copy of %s: %w", key, err)
	}
	return store.NewRangeReader(ctx, bytes.NewReader(data[offset:offset+have]), want, nil), nil
}

// keeper gathers what is read of an object, for when its end is reached.
type keeper struct {
	io.ReadCloser
	keep func([]byte) // nil once the object is kept, or too large
	data []byte
}

// Read reads from the store.
func (k *keeper) Read(p []byte) (int, error) {
	n, err := k.ReadCloser.Read(p)
	switch {
	case k.keep == nil:
	case len(k.data)+n > objectMax, err != nil && err != io.EOF:
		k.keep, k.data = nil, nil
	default:
		k.data = append(k.data, p[:n]...)
		if err == io.EOF {
			k.keep(k.data)
			k.keep, k.data = nil, nil
		}
	}
	return n, err
}

// Close writes the groups that have changed, and closes the store.
func (s *Store) Close() error {
	s.save()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups {
		for _, f := range []*os.File{g.file, g.fresh} {
			if f != nil {
				_ = f.Close() // what it held has been written, or told as failed
			}
		}
		g.file, g.fresh = nil, nil
	}
	return s.Store.Close()
}
