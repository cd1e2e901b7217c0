package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
)

// Option adapts the suite to a backend.
type Option func(*suite)

// InMemory says that the store holds its objects in memory, so that writing a
// large one takes as much.
func InMemory(s *suite) { s.inMemory = true }

// Buffered says that a store takes up to that many bytes of memory for one writer
// or reader, over what the suite allows every store.
func Buffered(bytes uint64) Option { return func(s *suite) { s.buffered = bytes } }

// RoughTimes says that the time which Commit returns may differ by that much from
// the one that the place keeps.
func RoughTimes(d time.Duration) Option { return func(s *suite) { s.roughly = d } }

// large is the test that must run alone, for it measures memory.
const large = "large object"

type suite struct {
	open     func(*testing.T) store.Store
	inMemory bool
	buffered uint64
	roughly  time.Duration
}

// Run is the conformance suite of store.Store. open returns a store that is
// empty and of this test alone; the suite closes it. Call it from a test that is
// not parallel: it measures memory, and runs in parallel what it can.
func Run(t *testing.T, open func(t *testing.T) store.Store, options ...Option) {
	s := &suite{open: open}
	for _, o := range options {
		o(s)
	}
	for _, c := range []struct {
		name string
		test func(*suite, *testing.T, store.Store)
	}{
		{"round trip", (*suite).testRoundTrip},
		{"keys", (*suite).testKeys},
		{"invalid keys", (*suite).testInvalidKeys},
		{"absent", (*suite).testAbsent},
		{"conditions", (*suite).testConditions},
		{"versions", (*suite).testVersions},
		{"delete", (*suite).testDelete},
		{"writer ends", (*suite).testWriterEnds},
		{"writer keeps no buffer", (*suite).testOwnership},
		{"ranges", (*suite).testRanges},
		{"open reader", (*suite).testOpenReader},
		{"get", (*suite).testGet},
		{"list", (*suite).testList},
		{"list like a sorted set", (*suite).testListModel},
		{"list stops", (*suite).testListStops},
		{"cancel", (*suite).testCancel},
		{"race to create", (*suite).testRaceCreate},
		{"race to count", (*suite).testRaceCount},
		{"race in a folder", (*suite).testRaceFolder},
		{"race of readers", (*suite).testRaceReaders},
		{large, (*suite).testLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name != large {
				t.Parallel()
			}
			st := s.open(t)
			c.test(s, t, st)
			must(t, st.Close())
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, what string, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: error is %v, want %v", what, err, kind)
	}
}

func put(t testing.TB, s store.Store, key, data string) store.Object {
	t.Helper()
	o, err := store.Put(context.Background(), s, key, []byte(data), store.CreateOptions{})
	must(t, err)
	return o
}

// holds checks that the object has exactly these bytes.
func holds(t testing.TB, s store.Store, key, data string) {
	t.Helper()
	got, err := store.Get(context.Background(), s, key, int64(len(data)))
	if err != nil {
		t.Errorf("reading %s: %v", key, err)
	} else if string(got) != data {
		t.Errorf("%s holds %.40q (%d bytes), want %.40q (%d bytes)", key, got, len(got), data, len(data))
	}
}

func keys(t testing.TB, s store.Store, prefix string, o store.ListOptions) []string {
	t.Helper()
	var all []string
	for entry, err := range s.List(context.Background(), prefix, o) {
		must(t, err)
		all = append(all, entry.Key)
	}
	return all
}

// noise is bytes that do not repeat, the same for the same seed.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // it cannot fail
	return b
}

func (u *suite) testRoundTrip(t *testing.T, s store.Store) {
	ctx := t.Context()
	for _, size := range []int{0, 1, 511, 4096, 262143, 262144, 262145, 3<<20 + 7} {
		data := noise(uint64(size), size)
		w, err := s.Create(ctx, "a/object", store.CreateOptions{})
		must(t, err)
		rng := rand.New(rand.NewPCG(uint64(size), 1))
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1+rng.IntN(1<<uint(rng.IntN(20))))
			got, err := w.Write(rest[:n])
			if got != n || err != nil {
				t.Fatalf("Write of %d bytes: %d, %v", n, got, err)
			}
			rest = rest[n:]
		}
		made, err := w.Commit()
		must(t, err)
		if made.Key != "a/object" || made.Size != int64(size) || made.Version == "" || made.Prefix || made.ModTime.IsZero() {
			t.Errorf("Commit of %d bytes: %+v", size, made)
		}
		seen, err := s.Stat(ctx, "a/object")
		must(t, err)
		u.same(t, "Stat", seen, made)
		for entry, err := range s.List(ctx, "", store.ListOptions{}) {
			must(t, err)
			u.same(t, "List", entry, made)
		}
		got, err := store.Get(ctx, s, "a/object", int64(size))
		must(t, err)
		if !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back as %d others", size, len(got))
		}
	}
	if s.String() == "" {
		t.Error("the store has no name")
	}
}

func (u *suite) same(t *testing.T, what string, got, want store.Object) {
	t.Helper()
	if got.ModTime.Sub(want.ModTime).Abs() > u.roughly || got.Key != want.Key || got.Size != want.Size ||
		got.Version != want.Version || got.Prefix != want.Prefix {
		t.Errorf("%s says %+v, Commit said %+v", what, got, want)
	}
}

// The buffer of Write is the caller's again at once.
func (*suite) testOwnership(t *testing.T, s store.Store) {
	w, err := s.Create(t.Context(), "k", store.CreateOptions{})
	must(t, err)
	var all []byte
	buf := make([]byte, 300_000)
	for i, n := range []int{10, 300_000, 1, 200_000, 200_000} {
		for j := range n {
			buf[j] = byte('a' + i)
		}
		all = append(all, buf[:n]...)
		_, err := w.Write(buf[:n])
		must(t, err)
	}
	clear(buf)
	_, err = w.Commit()
	must(t, err)
	holds(t, s, "k", string(all))

	got, err := store.Get(t.Context(), s, "k", 1<<20)
	must(t, err)
	clear(got)
	holds(t, s, "k", string(all))
}

func (*suite) testWriterEnds(t *testing.T, s store.Store) {
	ctx := t.Context()
	w, err := s.Create(ctx, "d/e/k", store.CreateOptions{})
	must(t, err)
	_, err = w.Write(noise(1, 1<<20))
	must(t, err)
	_, err = s.Stat(ctx, "d/e/k")
	want(t, "Stat before Commit", err, store.ErrNotFound)
	if got := keys(t, s, "", store.ListOptions{}); len(got) != 0 {
		t.Errorf("before Commit the list shows %q", got)
	}
	must(t, w.Abort())
	must(t, w.Abort())
	_, err = w.Write([]byte("x"))
	want(t, "Write after Abort", err, store.ErrEnded)
	_, err = w.Commit()
	want(t, "Commit after Abort", err, store.ErrEnded)
	if got := keys(t, s, "", store.ListOptions{}); len(got) != 0 {
		t.Errorf("after Abort the list shows %q", got)
	}
	if got := keys(t, s, "", store.ListOptions{Delimited: true}); len(got) != 0 {
		t.Errorf("after Abort the delimited list shows %q", got)
	}

	w, err = s.Create(ctx, "d/e/k", store.CreateOptions{})
	must(t, err)
	_, err = w.Write([]byte("x"))
	must(t, err)
	_, err = w.Commit()
	must(t, err)
	_, err = w.Commit()
	want(t, "Commit after Commit", err, store.ErrEnded)
	_, err = w.Write([]byte("y"))
	want(t, "Write after Commit", err, store.ErrEnded)
	must(t, w.Abort())
	holds(t, s, "d/e/k", "x")
}

// What is replaced or deleted is read to its end, or fails; it is no mixture.
func (*suite) testOpenReader(t *testing.T, s store.Store) {
	ctx := t.Context()
	a, b := bytes.Repeat([]byte("a"), 1<<20), bytes.Repeat([]byte("b"), 1<<20)
	for _, change := range []func(){
		func() { put(t, s, "k", string(b)) },
		func() { must(t, s.Delete(ctx, "k", "")) },
	} {
		put(t, s, "k", string(a))
		r, err := s.Open(ctx, "k", 0, -1)
		must(t, err)
		half := make([]byte, len(a)/2)
		_, err = io.ReadFull(r, half)
		must(t, err)
		change()
		rest, err := io.ReadAll(r)
		if err == nil && !bytes.Equal(append(half, rest...), a) {
			t.Error("a reader got a mixture")
		}
		must(t, r.Close())
	}
}

func (*suite) testGet(t *testing.T, s store.Store) {
	ctx := t.Context()
	put(t, s, "k", "hello")
	for max, kind := range map[int64]error{0: store.ErrTooLarge, 4: store.ErrTooLarge, 5: nil, 1 << 40: nil} {
		data, err := store.Get(ctx, s, "k", max)
		want(t, "Get", err, kind)
		if err == nil && string(data) != "hello" {
			t.Errorf("Get returned %q", data)
		}
	}
	_, err := store.Get(ctx, s, "none", 10)
	want(t, "Get of nothing", err, store.ErrNotFound)
}

// A large object is streamed: neither writing nor reading holds it.
func (u *suite) testLarge(t *testing.T, s store.Store) {
	allowed := 8<<20 + u.buffered
	size := 64 << 20
	if u.inMemory {
		size = 8 << 20 // all of it is held, so there is less to prove
	}
	block := noise(7, 1<<20)
	var made store.Object
	used := allocated(func() {
		w, err := s.Create(t.Context(), "large", store.CreateOptions{IfAbsent: true})
		must(t, err)
		for range size / len(block) {
			_, err := w.Write(block)
			must(t, err)
		}
		made, err = w.Commit()
		must(t, err)
	})
	if used > allowed && !u.inMemory {
		t.Errorf("writing %d bytes took %d bytes of memory", size, used)
	}
	if made.Size != int64(size) {
		t.Errorf("the size is %d, want %d", made.Size, size)
	}
	used = allocated(func() {
		r, err := s.Open(t.Context(), "large", 0, -1)
		must(t, err)
		buf := make([]byte, len(block))
		for range size / len(block) {
			_, err := io.ReadFull(r, buf)
			must(t, err)
			if !bytes.Equal(buf, block) {
				t.Fatal("other bytes came back")
			}
		}
		if n, err := r.Read(buf); n != 0 || err != io.EOF {
			t.Errorf("behind the end: %d, %v", n, err)
		}
		must(t, r.Close())
	})
	if used > allowed {
		t.Errorf("reading %d bytes took %d bytes of memory", size, used)
	}
}
