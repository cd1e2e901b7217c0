package storetest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
	"github.com/salvor-dr/salvor/internal/store/storetest"
)

// Without faults the wrapper changes nothing.
func TestFaultyConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return storetest.NewFaulty(mem.New(mem.Options{})) }, storetest.InMemory)
}

func put(s store.Store, key, data string) error {
	_, err := store.Put(context.Background(), s, key, []byte(data), store.CreateOptions{})
	return err
}

func get(s store.Store, key string) (string, error) {
	data, err := store.Get(context.Background(), s, key, 1<<20)
	return string(data), err
}

func TestFaultyOperations(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for op, do := range map[storetest.Op]func(store.Store) error{
		storetest.OpCreate: func(s store.Store) error { return put(s, "a/new", "x") },
		storetest.OpWrite:  func(s store.Store) error { return put(s, "a/new", "x") },
		storetest.OpCommit: func(s store.Store) error { return put(s, "a/new", "x") },
		storetest.OpOpen:   func(s store.Store) error { _, err := get(s, "a/k"); return err },
		storetest.OpRead:   func(s store.Store) error { _, err := get(s, "a/k"); return err },
		storetest.OpStat:   func(s store.Store) error { _, err := s.Stat(ctx, "a/k"); return err },
		storetest.OpDelete: func(s store.Store) error { return s.Delete(ctx, "a/other", "") },
		storetest.OpList: func(s store.Store) (err error) {
			for _, e := range s.List(ctx, "a/", store.ListOptions{}) {
				err = e
			}
			return err
		},
	} {
		s := storetest.NewFaulty(mem.New(mem.Options{}))
		for _, key := range []string{"a/k", "a/other", "b"} {
			if err := put(s, key, "hello"); err != nil {
				t.Fatal(err)
			}
		}
		s.Add(storetest.Fault{Op: op, Key: "^a/", Nth: 2, Err: store.ErrUnavailable})
		for i, want := range []error{nil, store.ErrUnavailable, nil} {
			if err := do(s); !errors.Is(err, want) {
				t.Errorf("%s number %d: error is %v, want %v", op, i+1, err, want)
			}
		}
		if s.Fired() != 1 {
			t.Errorf("%s: %d faults fired", op, s.Fired())
		}
		if n := s.Calls(op, "^a/"); n < 3 {
			t.Errorf("%s: %d calls were counted", op, n)
		}
		s.Clear()
		s.Add(storetest.Fault{Op: op, Key: "^b", Err: store.ErrUnavailable})
		if err := do(s); err != nil {
			t.Errorf("%s: a fault of another key: %v", op, err)
		}
	}
}

func TestFaultyRead(t *testing.T) {
	t.Parallel()
	s := storetest.NewFaulty(mem.New(mem.Options{}))
	if err := put(s, "k", "0123456789"); err != nil {
		t.Fatal(err)
	}
	read := func(offset int64) (string, error) {
		r, err := s.Open(context.Background(), "k", offset, -1)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		return string(data), errors.Join(err, r.Close())
	}
	for _, c := range []struct {
		fault  storetest.Fault
		offset int64
		want   string
		kind   error
	}{
		{storetest.Fault{At: 4, Err: store.ErrUnavailable}, 0, "0123", store.ErrUnavailable},
		{storetest.Fault{At: 4, Err: store.ErrUnavailable}, 3, "3", store.ErrUnavailable},
		{storetest.Fault{At: 4, Err: store.ErrUnavailable}, 5, "56789", nil},
		{storetest.Fault{At: 4, Err: io.ErrUnexpectedEOF}, 0, "0123", io.ErrUnexpectedEOF},
		{storetest.Fault{At: 10, Err: store.ErrUnavailable}, 0, "0123456789", store.ErrUnavailable},
		{storetest.Fault{At: 4, Flip: true}, 0, "0123556789", nil},
		{storetest.Fault{At: 0, Flip: true}, 0, "1123456789", nil},
		{storetest.Fault{At: 99, Flip: true}, 0, "0123456789", nil},
	} {
		s.Clear()
		c.fault.Op = storetest.OpRead
		s.Add(c.fault)
		if got, err := read(c.offset); got != c.want || !errors.Is(err, c.kind) {
			t.Errorf("%+v from %d: read %q, %v; want %q, %v", c.fault, c.offset, got, err, c.want, c.kind)
		}
	}
}

// A backend that ends early and says that all is well.
func TestFaultyReadLies(t *testing.T) {
	t.Parallel()
	s := storetest.NewFaulty(mem.New(mem.Options{}), storetest.Fault{Op: storetest.OpRead, At: 4, Err: io.EOF})
	if err := put(s, "k", "0123456789"); err != nil {
		t.Fatal(err)
	}
	if got, err := get(s, "k"); got != "0123" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestFaultyWrite(t *testing.T) {
	t.Parallel()
	s := storetest.NewFaulty(mem.New(mem.Options{}))
	s.Add(storetest.Fault{Op: storetest.OpWrite, At: 4, Nth: 1, Err: store.ErrNoSpace},
		storetest.Fault{Op: storetest.OpWrite, Key: "flip", At: 2, Flip: true})
	w, err := s.Create(t.Context(), "k", store.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write([]byte("012345")); n != 4 || !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("a full disk: %d, %v", n, err)
	}
	if _, err := w.Commit(); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Commit after a failed Write: %v", err)
	}
	if _, err := get(s, "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after a failed Commit: %v", err)
	}
	data := []byte("012345")
	if err := errors.Join(put(s, "k", string(data)), put(s, "flip", string(data))); err != nil {
		t.Fatal(err)
	}
	good, _ := get(s, "k")
	bad, _ := get(s, "flip")
	if good != "012345" || bad != "013345" || !bytes.Equal(data, []byte("012345")) {
		t.Errorf("stored were %q and %q, and the caller has %q", good, bad, data)
	}
}

// The reply is lost, the work is done.
func TestFaultyLostReply(t *testing.T) {
	t.Parallel()
	s := storetest.NewFaulty(mem.New(mem.Options{}),
		storetest.Fault{Op: storetest.OpCommit, Nth: 1, Err: store.ErrUnavailable, Done: true},
		storetest.Fault{Op: storetest.OpDelete, Nth: 1, Err: store.ErrUnavailable, Done: true})
	if err := put(s, "k", "x"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Commit: %v", err)
	}
	if got, err := get(s, "k"); got != "x" || err != nil {
		t.Errorf("after a Commit whose reply was lost: %q, %v", got, err)
	}
	if err := s.Delete(t.Context(), "k", ""); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Delete: %v", err)
	}
	if _, err := get(s, "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after a Delete whose reply was lost: %v", err)
	}
}
