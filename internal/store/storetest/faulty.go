package storetest

import (
	"context"
	"fmt"
	"io"
	"iter"
	"regexp"
	"slices"
	"sync"

	"github.com/salvor-dr/salvor/internal/store"
)

// Op is a kind of operation that a Fault befalls.
type Op string

// The operations.
const (
	OpCreate Op = "create"
	OpWrite  Op = "write"
	OpCommit Op = "commit"
	OpOpen   Op = "open"
	OpRead   Op = "read"
	OpStat   Op = "stat"
	OpList   Op = "list" // Key is matched against the prefix
	OpDelete Op = "delete"
)

// Fault is something that goes wrong once, or again and again.
type Fault struct {
	Op Op
	// Key is a regular expression that the key must match; "" is every key.
	Key string
	// Nth is the operation that the fault befalls, counted from 1 among those
	// that match since the fault was added; 0 is each of them. A read or write
	// counts when its reader or writer comes to At.
	Nth int
	// Err is what is returned. Where it is nil, nothing fails (see Flip).
	// For a read, io.ErrUnexpectedEOF is a body cut short as the contract allows
	// it, and io.EOF a backend that lies about its end.
	Err error
	// Done lets a Commit or Delete happen, and loses only its reply.
	Done bool
	// At is where a read or write fails: at the byte of the object with this
	// number. What is before it is read or written first.
	At int64
	// Flip inverts the lowest bit of byte At of what is read or written.
	Flip bool
}

// Faulty is a store that passes everything on to another one, but for its
// faults. It may be used from many goroutines.
type Faulty struct {
	store.Store

	mu     sync.Mutex
	faults []*armed
	fired  int
	calls  map[call]int
}

type call struct {
	op  Op
	key string
}

type armed struct {
	Fault
	key  *regexp.Regexp
	seen int
}

var _ store.Store = (*Faulty)(nil)

// NewFaulty wraps a store. Closing it closes the store.
func NewFaulty(s store.Store, faults ...Fault) *Faulty {
	f := &Faulty{Store: s, calls: map[call]int{}}
	f.Add(faults...)
	return f
}

// Add adds faults. A Key that is no regular expression panics.
func (f *Faulty) Add(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range faults {
		f.faults = append(f.faults, &armed{Fault: fault, key: regexp.MustCompile(fault.Key)})
	}
}

// Clear takes all faults away.
func (f *Faulty) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// Fired is how many times a fault has befallen an operation.
func (f *Faulty) Fired() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fired
}

// Calls is how many operations of a kind there were on keys that match a regular
// expression, failed ones too.
func (f *Faulty) Calls(op Op, key string) int {
	re := regexp.MustCompile(key)
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for c, times := range f.calls {
		if c.op == op && re.MatchString(c.key) {
			n += times
		}
	}
	return n
}

// count notes an operation.
func (f *Faulty) count(op Op, key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[call{op, key}]++
}

// hit notes an operation, and returns the fault that befalls it, if any.
func (f *Faulty) hit(op Op, key string) *armed {
	f.count(op, key)
	f.mu.Lock()
	defer f.mu.Unlock()
	var hit *armed
	for _, a := range f.faults {
		if a.Op == op && a.key.MatchString(key) && f.fires(a) && hit == nil {
			hit = a
		}
	}
	return hit
}

// fires counts a match, and says whether it is the one. The lock is held.
func (f *Faulty) fires(a *armed) bool {
	a.seen++
	if a.Nth != 0 && a.Nth != a.seen {
		return false
	}
	f.fired++
	return true
}

func (a *armed) fail(key string) error {
	if a == nil || a.Err == nil {
		return nil
	}
	if a.Err == io.EOF {
		return io.EOF // readers compare it as it is
	}
	return fmt.Errorf("injected fault at %s of %s: %w", a.Op, key, a.Err)
}

// Create starts an object.
func (f *Faulty) Create(ctx context.Context, key string, o store.CreateOptions) (store.Writer, error) {
	if err := f.hit(OpCreate, key).fail(key); err != nil {
		return nil, err
	}
	w, err := f.Store.Create(ctx, key, o)
	if err != nil {
		return nil, err
	}
	return &faultyWriter{Writer: w, f: f, key: key, stream: f.stream(OpWrite, key, 0)}, nil
}

// Open reads a range.
func (f *Faulty) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if err := f.hit(OpOpen, key).fail(key); err != nil {
		return nil, err
	}
	r, err := f.Store.Open(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	return &faultyReader{ReadCloser: r, f: f, key: key, stream: f.stream(OpRead, key, offset)}, nil
}

// Stat describes an object.
func (f *Faulty) Stat(ctx context.Context, key string) (store.Object, error) {
	if err := f.hit(OpStat, key).fail(key); err != nil {
		return store.Object{}, err
	}
	return f.Store.Stat(ctx, key)
}

// List lists objects. A fault comes before the first.
func (f *Faulty) List(ctx context.Context, prefix string, o store.ListOptions) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		if err := f.hit(OpList, prefix).fail(prefix); err != nil {
			yield(store.Object{}, err)
			return
		}
		f.Store.List(ctx, prefix, o)(yield)
	}
}

// Delete removes an object.
func (f *Faulty) Delete(ctx context.Context, key string, match store.Version) error {
	fault := f.hit(OpDelete, key)
	if err := fault.fail(key); err != nil && !fault.Done {
		return err
	}
	if err := f.Store.Delete(ctx, key, match); err != nil {
		return err
	}
	return fault.fail(key)
}

// stream is the way of a reader or writer along an object's bytes.
type stream struct {
	f       *Faulty
	key     string
	pos     int64
	pending []*armed // those not come to yet
	failed  error
}

func (f *Faulty) stream(op Op, key string, pos int64) stream {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := stream{f: f, key: key, pos: pos}
	for _, a := range f.faults {
		if a.Op == op && a.key.MatchString(key) && a.At >= pos {
			s.pending = append(s.pending, a)
		}
	}
	slices.SortStableFunc(s.pending, func(a, b *armed) int { return int(min(max(a.At-b.At, -1), 1)) })
	return s
}

// next says how many of n bytes may pass, what befalls the first of them, and
// whether it is to be flipped.
func (s *stream) next(n int) (pass int, flip bool, err error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	for len(s.pending) > 0 && s.pending[0].At == s.pos && n > 0 && s.failed == nil {
		a := s.pending[0]
		s.pending = s.pending[1:]
		if s.f.fires(a) {
			flip = flip != a.Flip
			s.failed = a.fail(s.key)
		}
	}
	if s.failed != nil {
		return 0, false, s.failed
	}
	if len(s.pending) > 0 {
		n = int(min(int64(n), s.pending[0].At-s.pos))
	}
	return n, flip, nil
}

type faultyReader struct {
	io.ReadCloser
	f   *Faulty
	key string
	stream
}

func (r *faultyReader) Read(p []byte) (int, error) {
	r.f.count(OpRead, r.key)
	pass, flip, err := r.next(len(p))
	if err != nil {
		return 0, err
	}
	n, err := r.ReadCloser.Read(p[:pass])
	if flip && n > 0 {
		p[0] ^= 1
	}
	r.pos += int64(n)
	return n, err
}

type faultyWriter struct {
	store.Writer
	f   *Faulty
	key string
	stream
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	w.f.count(OpWrite, w.key)
	done := 0
	for {
		pass, flip, err := w.next(len(p) - done)
		if err != nil {
			return done, err
		}
		part := p[done : done+pass]
		if flip && pass > 0 {
			part = slices.Clone(part) // the bytes are the caller's
			part[0] ^= 1
		}
		n, err := w.Writer.Write(part)
		w.pos += int64(n)
		done += n
		if err != nil || done == len(p) {
			return done, err
		}
	}
}

// Commit publishes the object. After a Write that failed it fails too.
func (w *faultyWriter) Commit() (store.Object, error) {
	fault := w.f.hit(OpCommit, w.key)
	err := w.failed
	if err == nil && (fault == nil || !fault.Done) {
		err = fault.fail(w.key)
	}
	if err != nil {
		_ = w.Abort() // the first error is the one that tells
		return store.Object{}, err
	}
	o, err := w.Writer.Commit()
	if err == nil {
		err = fault.fail(w.key)
	}
	if err != nil {
		return store.Object{}, err
	}
	return o, nil
}
