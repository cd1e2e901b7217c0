package recent

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// What was used last is held, what was not used for longest goes, and an error is
// tried again.
func TestValues(t *testing.T) {
	t.Parallel()
	loads := map[string]int{}
	v := New[string, string](2, nil)
	get := func(key string) {
		t.Helper()
		got, err := v.Get(key, func() (string, error) {
			loads[key]++
			return "of " + key, nil
		})
		if err != nil || got != "of "+key {
			t.Fatalf("%s: %q, %v", key, got, err)
		}
	}
	for _, key := range []string{"a", "b", "a", "c", "a", "b"} { // c puts b out, then b puts c out
		get(key)
	}
	for key, want := range map[string]int{"a": 1, "b": 2, "c": 1} {
		if loads[key] != want {
			t.Errorf("%s was loaded %d times, not %d", key, loads[key], want)
		}
	}
	broken := errors.New("broken")
	for range 2 {
		if _, err := v.Get("d", func() (string, error) { loads["d"]++; return "", broken }); !errors.Is(err, broken) {
			t.Error(err)
		}
	}
	if get("a"); loads["d"] != 2 || loads["a"] != 1 {
		t.Errorf("loaded: %v", loads)
	}
}

// What is held is bounded by its weight, and one that is heavier than all may be is held
// alone.
func TestWeight(t *testing.T) {
	t.Parallel()
	v := New[string](10, func(s string) int { return len(s) })
	for _, c := range []struct{ key, held string }{
		{"aaaa", "aaaa"}, {"bbb", "aaaa bbb"}, {"ccc", "aaaa bbb ccc"}, {"aaaa", "aaaa bbb ccc"},
		{"dd", "aaaa ccc dd"}, {"eeeeee", "dd eeeeee"}, {"ffffffffffff", "ffffffffffff"}, {"dd", "dd"},
	} {
		if _, err := v.Get(c.key, func() (string, error) { return c.key, nil }); err != nil {
			t.Fatal(err)
		}
		if held := strings.Join(slices.Sorted(maps.Keys(v.held)), " "); held != c.held {
			t.Errorf("after %s %q is held, not %q", c.key, held, c.held)
		}
	}
}

// Values are loaded at the same time, and each of them once, whoever asks for it.
func TestLoadTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const keys, callers = 4, 5
		v := New[int, int](keys, nil)
		var loads atomic.Int32
		began := time.Now()
		var all sync.WaitGroup
		for i := range keys * callers {
			all.Go(func() {
				got, err := v.Get(i%keys, func() (int, error) {
					loads.Add(1)
					time.Sleep(time.Second)
					return 10 * (i % keys), nil
				})
				if got != 10*(i%keys) || err != nil {
					t.Errorf("%d: %d, %v", i%keys, got, err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); loads.Load() != keys || took != time.Second {
			t.Errorf("%d loads in %s", loads.Load(), took)
		}
	})
}

// One load's error, and its panic, is its own: who waited for it loads itself.
func TestWaitForFailure(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() (string, error){
		"error": func() (string, error) { return "", errors.New("broken") },
		"panic": func() (string, error) { panic("broken") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := New[int, string](1, nil)
				go func() {
					defer func() { _ = recover() }()
					got, err := v.Get(1, func() (string, error) {
						time.Sleep(time.Second)
						return fail()
					})
					if err == nil {
						t.Errorf("the load that fails gives %q", got)
					}
				}()
				synctest.Wait()
				if got, err := v.Get(1, func() (string, error) { return "good", nil }); got != "good" || err != nil {
					t.Errorf("who waited has %q, %v", got, err)
				}
				if len(v.loading) != 0 || len(v.held) != 1 {
					t.Errorf("left: %d loading, %d held", len(v.loading), len(v.held))
				}
			})
		})
	}
}

// Whoever asks for what, at the same time, nobody gets another key's value, and no more
// is held than may be.
func TestManyCallers(t *testing.T) {
	t.Parallel()
	const most = 3
	v := New[int, int](most, nil)
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 2000 {
				key := rng.IntN(8)
				got, err := v.Get(key, func() (int, error) {
					if rng.IntN(5) == 0 {
						return 0, errors.New("broken")
					}
					return -key, nil
				})
				if err == nil && got != -key {
					t.Errorf("%d: %d", key, got)
				}
			}
		})
	}
	all.Wait()
	if len(v.held) > most || len(v.loading) != 0 {
		t.Errorf("%d are held, %d are loading", len(v.held), len(v.loading))
	}
}
