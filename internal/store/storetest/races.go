package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/salvor-dr/salvor/internal/store"
)

// Of sixteen writers with IfAbsent one wins, and the object is the winner's.
func (*suite) testRaceCreate(t *testing.T, s store.Store) {
	for round := range 5 {
		key := fmt.Sprintf("d%d/e/k", round)
		var wins atomic.Int64
		var winner atomic.Value
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range 16 {
			wg.Go(func() {
				<-start
				data := fmt.Sprintf("writer %d", i)
				_, err := store.Put(t.Context(), s, key, []byte(data), store.CreateOptions{IfAbsent: true})
				switch {
				case err == nil:
					wins.Add(1)
					winner.Store(data)
				case !errors.Is(err, store.ErrExists):
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		if wins.Load() != 1 {
			t.Fatalf("%d writers won", wins.Load())
		}
		holds(t, s, key, winner.Load().(string))
	}
}

// A counter that is raised by compare-and-set loses no step.
func (*suite) testRaceCount(t *testing.T, s store.Store) {
	const workers, steps = 8, 5
	put(t, s, "locks/counter", "0")
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for done := 0; done < steps; {
				ok, err := increment(t.Context(), s, "locks/counter")
				if err != nil {
					t.Error(err)
					return
				}
				if ok {
					done++
				}
			}
		})
	}
	wg.Wait()
	holds(t, s, "locks/counter", strconv.Itoa(workers*steps))
}

func increment(ctx context.Context, s store.Store, key string) (bool, error) {
	seen, err := s.Stat(ctx, key)
	if err != nil {
		return false, err
	}
	data, err := store.Get(ctx, s, key, 100)
	if err != nil {
		return false, err
	}
	n, err := strconv.Atoi(string(data))
	if err != nil {
		return false, err
	}
	_, err = store.Put(ctx, s, key, []byte(strconv.Itoa(n+1)), store.CreateOptions{IfMatch: seen.Version})
	if errors.Is(err, store.ErrChanged) {
		return false, nil
	}
	return err == nil, err
}

// Creating in a folder works while deleting empties it again and again.
func (*suite) testRaceFolder(t *testing.T, s store.Store) {
	ctx := t.Context()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			key := fmt.Sprintf("a/b/c/%d", i)
			for n := range 20 {
				o := store.CreateOptions{IfAbsent: n%2 == 0}
				if _, err := store.Put(ctx, s, key, []byte("x"), o); err != nil {
					t.Error(err)
					return
				}
				if err := s.Delete(ctx, key, ""); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if got := keys(t, s, "", store.ListOptions{Delimited: true}); len(got) != 0 {
		t.Errorf("the list shows %q", got)
	}
}

// A reader gets the old bytes or the new ones, all of them.
func (*suite) testRaceReaders(t *testing.T, s store.Store) {
	const size, versions = 300_000, 16
	content := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, size+i) }
	put(t, s, "k", string(content(0)))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			last := byte('a')
			for {
				got, err := readAll(t.Context(), s, "k")
				if err != nil {
					t.Error(err)
					return
				}
				if len(got) < size || !bytes.Equal(got, content(int(got[0]-'a'))) {
					t.Error("a reader got a mixture")
					return
				}
				if got[0] < last {
					t.Errorf("a reader got %q after %q", got[0], last)
				}
				last = got[0]
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := 1; i < versions; i++ {
		put(t, s, "k", string(content(i)))
	}
	close(done)
	wg.Wait()
}

func readAll(ctx context.Context, s store.Store, key string) ([]byte, error) {
	r, err := s.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

func (*suite) testCancel(t *testing.T, s store.Store) {
	put(t, s, "there", "hello")
	put(t, s, "there2", "hello")
	done, cancel := context.WithCancel(t.Context())
	cancel()
	canceled := func(what string, err error) { want(t, what, err, context.Canceled) }

	_, err := s.Create(done, "k", store.CreateOptions{})
	canceled("Create", err)
	_, err = s.Open(done, "there", 0, -1)
	canceled("Open", err)
	_, err = s.Stat(done, "there")
	canceled("Stat", err)
	canceled("Delete", s.Delete(done, "there", ""))
	for entry, err := range s.List(done, "", store.ListOptions{}) {
		canceled("List", err)
		if entry.Key != "" {
			t.Errorf("a cancelled list shows %q", entry.Key)
		}
	}
	holds(t, s, "there", "hello")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := s.Open(ctx, "there", 0, -1)
	must(t, err)
	_, err = r.Read(make([]byte, 1))
	must(t, err)
	written, err := s.Create(ctx, "k", store.CreateOptions{})
	must(t, err)
	_, err = written.Write([]byte("x"))
	must(t, err)
	idle, err := s.Create(ctx, "k", store.CreateOptions{})
	must(t, err)
	n := 0
	for _, err := range s.List(ctx, "", store.ListOptions{}) {
		if n++; n == 1 {
			must(t, err)
			cancel()
			continue
		}
		canceled("List that was cancelled on its way", err)
	}
	if n != 2 {
		t.Errorf("a list that was cancelled after its first entry had %d", n)
	}
	_, err = r.Read(make([]byte, 1))
	canceled("Read", err)
	must(t, r.Close())
	_, err = written.Write([]byte("x"))
	canceled("Write", err)
	_, err = written.Commit()
	canceled("Commit after Write", err)
	_, err = idle.Commit()
	canceled("Commit", err)
	_, err = s.Stat(t.Context(), "k")
	want(t, "Stat after a cancelled Commit", err, store.ErrNotFound)
}
