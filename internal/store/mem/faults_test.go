package mem_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

func put(s store.Store, key, data string) error {
	_, err := store.Put(context.Background(), s, key, []byte(data), store.CreateOptions{})
	return err
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	s := mem.New(mem.Options{Capacity: 10})
	if err := put(s, "a", "123456"); err != nil {
		t.Fatal(err)
	}
	w, err := s.Create(t.Context(), "b", store.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := w.Write([]byte("12345")); n != 4 || !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("a write over the capacity: %d, %v", n, err)
	}
	if _, err := w.Commit(); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Commit: %v", err)
	}
	// What was given up, replaced or deleted is free again.
	if err := put(s, "b", "1234"); err != nil {
		t.Error(err)
	}
	if err := s.Delete(t.Context(), "a", ""); err != nil {
		t.Fatal(err)
	}
	if err := put(s, "a", "12"); err != nil {
		t.Error(err)
	}
	if err := put(s, "c", "1234"); err != nil {
		t.Error(err)
	}
	if err := put(s, "c", "1"); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("the old bytes must stay while the new ones come: %v", err)
	}
}

func TestHookCuts(t *testing.T) {
	t.Parallel()
	cut := errors.New("cut")
	s := mem.New(mem.Options{Hook: func(_ context.Context, c *mem.Call) error {
		switch {
		case c.Key == "short" && c.Op == mem.OpRead:
			c.Len = min(c.Len, 2)
		case c.Key == "cut" && (c.Op == mem.OpRead || c.Op == mem.OpWrite && c.Len > 5):
			c.Len = 3
			return cut
		case c.Key == "fail" && c.Op == mem.OpCommit:
			return store.ErrUnavailable
		}
		return nil
	}})
	for _, key := range []string{"short", "cut"} {
		if err := put(s, key, "hello"); err != nil {
			t.Fatal(err)
		}
	}
	read := func(key string) (string, error) {
		r, err := s.Open(t.Context(), key, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		return string(data), err
	}
	if got, err := read("short"); got != "hello" || err != nil {
		t.Errorf("short reads add up to %q, %v", got, err)
	}
	if got, err := read("cut"); got != "hel" || !errors.Is(err, cut) {
		t.Errorf("a cut read: %q, %v", got, err)
	}
	if err := put(s, "cut", "longer text"); !errors.Is(err, cut) {
		t.Errorf("a cut write: %v", err)
	}
	if err := put(s, "fail", "x"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a Commit that times out: %v", err)
	}
	if _, err := s.Stat(t.Context(), "fail"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after it: %v", err)
	}
}

func TestHookWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := mem.New(mem.Options{Hook: func(ctx context.Context, c *mem.Call) error {
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}})
		start := time.Now()
		if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("a slow store took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := s.Stat(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call that is given up: %v", err)
		}
	})
}

func TestCrash(t *testing.T) {
	t.Parallel()
	s := mem.New(mem.Options{Capacity: 20})
	if err := put(s, "there", "hello"); err != nil {
		t.Fatal(err)
	}
	w, err := s.Create(t.Context(), "lost", store.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	after := s.Crash()
	if _, err := w.Commit(); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Commit on the store that crashed: %v", err)
	}
	if _, err := s.Stat(t.Context(), "there"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Stat on the store that crashed: %v", err)
	}
	if data, err := store.Get(t.Context(), after, "there", 10); string(data) != "hello" || err != nil {
		t.Errorf("a committed object: %q, %v", data, err)
	}
	if _, err := after.Stat(t.Context(), "lost"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an object that was not committed: %v", err)
	}
	if err := put(after, "lost", strings.Repeat("x", 15)); err != nil {
		t.Errorf("the capacity that is left: %v", err)
	}
}

// An object and a folder cannot have one name, as in a directory.
func TestConflict(t *testing.T) {
	t.Parallel()
	s := mem.New(mem.Options{})
	if err := errors.Join(put(s, "a", "x"), put(s, "b/c", "x")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a/b", "a/b/c", "b"} {
		if err := put(s, key, "x"); !errors.Is(err, store.ErrInvalidKey) {
			t.Errorf("%s: %v", key, err)
		}
	}
}
