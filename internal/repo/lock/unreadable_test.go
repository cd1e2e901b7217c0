package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// garbage is what a lease may hold that cannot be read, and why that is.
func garbage() map[string]struct {
	data []byte
	why  error
} {
	later, err := json.Marshal(document{FormatVersion: repo.FormatVersion + 1, Token: repo.NewID(), Holder: Holder{Host: "h", PID: 1}})
	if err != nil {
		panic(err)
	}
	return map[string]struct {
		data []byte
		why  error
	}{
		"empty":              {nil, repo.ErrDamaged},
		"half of it":         {later[:len(later)/2], repo.ErrDamaged},
		"other JSON":         {[]byte("[1, 2]"), repo.ErrDamaged},
		"far too much":       {make([]byte, maxObject+1), repo.ErrDamaged},
		"of a later release": {later, repo.ErrUnknownFormat},
		"of no release":      {[]byte("{}"), repo.ErrUnknownFormat},
	}
}

func putLease(t *testing.T, st store.Store, data []byte) {
	t.Helper()
	if _, err := store.Put(t.Context(), st, prefix+what, data, store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// A lease that cannot be read is watched like that of a dead host, and then taken over.
func TestUnreadableLease(t *testing.T) {
	for name, g := range garbage() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := mem.New(mem.Options{})
				putLease(t, st, g.data)
				l := locksOf(t, st)
				var unreadable *Unreadable
				if _, err := l.Look(t.Context(), what); !errors.As(err, &unreadable) || !errors.Is(err, g.why) || !strings.Contains(err.Error(), prefix+what) {
					t.Errorf("Look says: %v", err)
				}
				before, told := time.Now(), 0
				lease, ctx, err := l.Acquire(t.Context(), what, func(why error) {
					told++
					if !errors.As(why, &unreadable) || !errors.Is(why, g.why) {
						t.Errorf("waiting for: %v", why)
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(before); waited != TTL || told != 1 {
					t.Errorf("waited %s, told %d times", waited, told)
				}
				time.Sleep(3 * TTL)
				if err := errors.Join(context.Cause(ctx), lease.Check(t.Context()), lease.Release(t.Context())); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What changes while it is watched is somebody's.
func TestUnreadableLeaseChanges(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*testing.T, store.Store)
		check  func(error) bool
	}{
		"a holder renews it": {func(t *testing.T, st store.Store) { leave(t, st, Holder{Host: "third"}, 0) },
			func(err error) bool {
				var h *Held
				return errors.As(err, &h) && h.Holder.Host == "third"
			}},
		"it cannot be read still": {func(t *testing.T, st store.Store) { putLease(t, st, []byte("more of it")) },
			func(err error) bool { return errors.As(err, new(*Unreadable)) && errors.Is(err, repo.ErrDamaged) }},
		"it is released": {func(t *testing.T, st store.Store) {
			if err := st.Delete(t.Context(), prefix+what, ""); err != nil {
				t.Error(err)
			}
		}, func(err error) bool { return err == nil }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := mem.New(mem.Options{})
				putLease(t, st, []byte("{"))
				time.AfterFunc(TTL/2, func() { c.change(t, st) })
				before := time.Now()
				lease, _, err := locksOf(t, st).Acquire(t.Context(), what, nil)
				if !c.check(err) {
					t.Errorf("got: %v", err)
				}
				if waited := time.Since(before); waited > TTL/2+pollEvery {
					t.Errorf("that took %s", waited)
				}
				if err == nil {
					if err := lease.Release(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// Who waits for the end of a holding whose lease was damaged hears of one or the other.
func TestWaitUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		lease, ctx := acquire(t, locksOf(t, st))
		putLease(t, st, []byte("{"))
		began := time.Now()
		died, err := elsewhere(t, st).Wait(t.Context(), what, lease.doc.Token)
		if took := time.Since(began); !died || err != nil || took != TTL {
			t.Errorf("%v, %v after %s", died, err, took)
		}
		synctest.Wait()
		if !errors.Is(context.Cause(ctx), ErrLost) {
			t.Errorf("the holder's context ended by %v", context.Cause(ctx))
		}
		if err := lease.Check(t.Context()); err == nil {
			t.Error("the holder is sure to have the lease")
		}
		_ = lease.Release(t.Context()) // which says that the lease cannot be read
	})
}

// Whatever becomes of leases, of their holders and of the store's answers: no two hold
// one at the same time, and when it has an end, somebody gets it.
func TestOneHolderProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		var failed string
		synctest.Test(t, func(t *testing.T) {
			failed = contend(t, seed)
		})
		if failed != "" {
			rt.Fatal(failed)
		}
	})
}

// contend lets some hosts contend for a lease that is damaged now and then. It says what
// went wrong.
func contend(t *testing.T, seed uint64) (failed string) {
	rng := rand.New(rand.NewPCG(seed, 1))
	st := mem.New(mem.Options{})
	var mu sync.Mutex
	var held []context.Context
	var all sync.WaitGroup
	for n := range 3 {
		l := locksOf(t, st)
		l.self.Host, l.self.BootID = string(rune('a'+n)), "its boot"
		own := rand.New(rand.NewPCG(seed, uint64(2+n)))
		all.Go(func() {
			for range 6 {
				time.Sleep(time.Duration(own.Int64N(int64(TTL))))
				lease, ctx, err := l.Acquire(t.Context(), what, nil)
				if err != nil {
					continue
				}
				mu.Lock()
				for _, other := range held {
					if other.Err() == nil {
						failed = "two hold it at the same time"
					}
				}
				held = append(held, ctx)
				mu.Unlock()
				time.Sleep(time.Duration(own.Int64N(int64(2 * TTL))))
				if own.IntN(3) > 0 {
					_ = lease.Release(t.Context()) // it may be damaged
					continue
				}
				lease.cancel(nil) // it dies, and its lease stays
				lease.end()
				lease.beside.Wait()
				lease.expiry.Stop()
			}
		})
	}
	var bad [][]byte
	for _, name := range slices.Sorted(maps.Keys(garbage())) {
		bad = append(bad, garbage()[name].data)
	}
	all.Go(func() {
		for range 8 {
			time.Sleep(time.Duration(rng.Int64N(int64(2 * TTL))))
			putLease(t, st, bad[rng.IntN(len(bad))])
		}
	})
	all.Wait()
	began := time.Now()
	lease, _, err := locksOf(t, st).Acquire(t.Context(), what, nil)
	if errors.As(err, new(*Held)) { // the last one died a moment ago
		time.Sleep(TTL)
		lease, _, err = locksOf(t, st).Acquire(t.Context(), what, nil)
	}
	if took := time.Since(began); err != nil || took > 2*TTL {
		return fmt.Sprintf("after %s nobody has it: %v", took, err)
	}
	if err := lease.Release(t.Context()); err != nil {
		failed = err.Error()
	}
	return failed
}
