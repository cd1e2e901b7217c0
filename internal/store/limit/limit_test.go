package limit_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/limit"
	"github.com/salvor-dr/salvor/internal/store/mem"
	"github.com/salvor-dr/salvor/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store {
		return limit.New(mem.New(mem.Options{}), limit.Options{Upload: 1 << 30, Download: 1 << 30, Operations: 2})
	}, storetest.InMemory)
}

func TestConformanceWithoutLimits(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return limit.New(mem.New(mem.Options{}), limit.Options{}) }, storetest.InMemory)
}

// near allows for the tenth of a second that lies ready.
func near(t *testing.T, what string, took, want time.Duration) {
	t.Helper()
	if took < want-110*time.Millisecond || took > want+time.Millisecond {
		t.Errorf("%s took %v, want %v", what, took, want)
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := limit.New(mem.New(mem.Options{}), limit.Options{Upload: 1000, Download: 500})
		data := bytes.Repeat([]byte("x"), 5000)
		time.Sleep(time.Hour) // an idle hour saves nothing up

		began := time.Now()
		if _, err := store.Put(ctx, s, "k", data, store.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		near(t, "writing", time.Since(began), 5*time.Second)

		began = time.Now()
		got, err := store.Get(ctx, s, "k", 5000)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		near(t, "reading", time.Since(began), 10*time.Second)

		// Two readers share the rate.
		began = time.Now()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, err := store.Get(ctx, s, "k", 5000); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		near(t, "reading twice", time.Since(began), 20*time.Second)

		// Up and down are apart.
		began = time.Now()
		wg.Go(func() {
			if _, err := store.Put(ctx, s, "k2", data, store.CreateOptions{}); err != nil {
				t.Error(err)
			}
		})
		if _, err := store.Get(ctx, s, "k", 5000); err != nil {
			t.Error(err)
		}
		wg.Wait()
		near(t, "both ways", time.Since(began), 10*time.Second)
	})
}

func TestRateIsCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := limit.New(mem.New(mem.Options{}), limit.Options{Upload: 10, Download: 10})
		if _, err := store.Put(t.Context(), s, "k", make([]byte, 100), store.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		w, err := s.Create(ctx, "k2", store.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n, err := w.Write(make([]byte, 1000))
		if !errors.Is(err, context.DeadlineExceeded) || n < 10 || n > 30 {
			t.Errorf("Write: %d, %v", n, err)
		}
		if _, err := w.Commit(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Commit: %v", err)
		}
		if _, err := s.Open(ctx, "k", 0, -1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open: %v", err)
		}
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestOperations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		m := mem.New(mem.Options{Hook: func(context.Context, *mem.Call) error {
			n := now.Add(1)
			defer now.Add(-1)
			for {
				old := most.Load()
				if n <= old || most.CompareAndSwap(old, n) {
					break
				}
			}
			time.Sleep(time.Second)
			return nil
		}})
		s := limit.New(m, limit.Options{Operations: 3})
		began := time.Now()
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took != 10*time.Second || most.Load() != 3 {
			t.Errorf("30 calls of a second, 3 at a time, took %v; %d ran at once", took, most.Load())
		}
	})
}

// With one turn, work that uses several readers, writers and lists at once goes on.
func TestOneOperationIsEnough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := limit.New(mem.New(mem.Options{}), limit.Options{Operations: 1})
		for _, k := range []string{"a", "b"} {
			if _, err := store.Put(ctx, s, k, []byte(k), store.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		for entry, err := range s.List(ctx, "", store.ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Open(ctx, entry.Key, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			w, err := s.Create(ctx, "copy/"+entry.Key, store.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(w, r); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Commit(); err != nil {
				t.Fatal(err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n < 2 {
			t.Errorf("%d objects were copied", n)
		}
		for _, err := range s.List(ctx, "", store.ListOptions{}) {
			if err != nil {
				t.Error(err)
			}
			break // the turn is free again
		}
		if _, err := s.Stat(ctx, "copy/b"); err != nil {
			t.Error(err)
		}
	})
}

// A turn that does not come ends with the context.
func TestTurnIsCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		m := mem.New(mem.Options{Hook: func(_ context.Context, c *mem.Call) error {
			if c.Op == mem.OpStat {
				<-release
			}
			return nil
		}})
		s := limit.New(m, limit.Options{Operations: 1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w, err := s.Create(ctx, "k", store.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = s.Stat(t.Context(), "x") })
		synctest.Wait()
		if _, err := w.Commit(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Commit: %v", err)
		}
		for _, err := range s.List(ctx, "", store.ListOptions{}) {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("List: %v", err)
			}
		}
		close(release)
		wg.Wait()
		if _, err := w.Commit(); !errors.Is(err, store.ErrEnded) {
			t.Errorf("Commit again: %v", err)
		}
		if s.Unwrap() != store.Store(m) {
			t.Error("it wraps another store")
		}
	})
}
