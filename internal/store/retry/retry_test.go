package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
	"github.com/salvor-dr/salvor/internal/store/retry"
	"github.com/salvor-dr/salvor/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store {
		return retry.New(mem.New(mem.Options{}), retry.Policy{})
	}, storetest.InMemory)
}

// full draws the longest pause each time.
func full(d time.Duration) time.Duration { return d }

func TestPolicy(t *testing.T) {
	t.Parallel()
	down := fmt.Errorf("%w: on holiday", store.ErrUnavailable)
	for _, tc := range []struct {
		name     string
		policy   retry.Policy
		errs     []error // of the calls; the last one for all further
		calls    int
		took     time.Duration
		kind     error
		attempts bool // the message tells how many
	}{
		{"good", retry.Policy{}, []error{nil}, 1, 0, nil, false},
		{"good later", retry.Policy{}, []error{down, down, nil}, 3, 300 * time.Millisecond, nil, false},
		{"final", retry.Policy{}, []error{store.ErrNotFound}, 1, 0, store.ErrNotFound, false},
		{"final later", retry.Policy{}, []error{down, store.ErrPermission}, 2, 100 * time.Millisecond, store.ErrPermission, false},
		{"attempts", retry.Policy{Attempts: 4}, []error{down}, 4, 700 * time.Millisecond, store.ErrUnavailable, true},
		{"one attempt", retry.Policy{Attempts: 1}, []error{down}, 1, 0, store.ErrUnavailable, false},
		{"time", retry.Policy{Total: time.Second}, []error{down}, 4, 700 * time.Millisecond, store.ErrUnavailable, true},
		{"pauses end growing", retry.Policy{Attempts: 6, PauseMax: 200 * time.Millisecond}, []error{down}, 6,
			900 * time.Millisecond, store.ErrUnavailable, true},
		{"the defaults", retry.Policy{}, []error{down}, 10, 100*127*time.Millisecond + 20*time.Second, store.ErrUnavailable, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.policy.Jitter = full
				told, paused := 0, time.Duration(0)
				tc.policy.Repeating = func(err error, pause time.Duration) {
					if !errors.Is(err, store.ErrUnavailable) {
						t.Errorf("repeated after %v", err)
					}
					told, paused = told+1, paused+pause
				}
				began, calls := time.Now(), 0
				err := tc.policy.Do(t.Context(), func(context.Context) error {
					calls++
					return tc.errs[min(calls, len(tc.errs))-1]
				})
				if !errors.Is(err, tc.kind) || (err == nil) != (tc.kind == nil) {
					t.Errorf("error is %v, want %v", err, tc.kind)
				}
				if took := time.Since(began); calls != tc.calls || took != tc.took {
					t.Errorf("%d calls in %v, want %d in %v", calls, took, tc.calls, tc.took)
				}
				if told != tc.calls-1 || paused != tc.took {
					t.Errorf("told of %d repetitions after %v, want %d after %v", told, paused, tc.calls-1, tc.took)
				}
				if tc.attempts && (!strings.Contains(err.Error(), fmt.Sprintf("%d attempts", calls)) || !strings.Contains(err.Error(), "on holiday")) {
					t.Errorf("error %q tells neither the attempts nor the reason", err)
				}
			})
		})
	}
}

func TestPolicyJitter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pauses := map[time.Duration]bool{}
		for range 50 {
			began := time.Now()
			_ = retry.Policy{Attempts: 2}.Do(t.Context(), func(context.Context) error { return store.ErrUnavailable })
			pause := time.Since(began)
			if pause > retry.DefaultPause {
				t.Fatalf("a pause of %v", pause)
			}
			pauses[pause] = true
		}
		if len(pauses) < 25 {
			t.Errorf("50 pauses have %d lengths", len(pauses))
		}
	})
}

func TestPolicyCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("changed my mind")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
		began := time.Now()
		err := retry.Policy{Jitter: full}.Do(ctx, func(context.Context) error { return store.ErrUnavailable })
		if !errors.Is(err, why) || !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("error is %v", err)
		}
		if took := time.Since(began); took != 50*time.Millisecond {
			t.Errorf("the pause went on for %v", took)
		}
	})
}

// flaky gives a store behind which faults befall another.
func flaky(faults ...storetest.Fault) (*retry.Store, *storetest.Faulty, *mem.Store) {
	m := mem.New(mem.Options{})
	f := storetest.NewFaulty(m, faults...)
	return retry.New(f, retry.Policy{Attempts: 3}), f, m
}

func put(t *testing.T, s store.Store, key, data string, o store.CreateOptions) (store.Object, error) {
	t.Helper()
	return store.Put(t.Context(), s, key, []byte(data), o)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestRepeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var faults []storetest.Fault
		for _, op := range []storetest.Op{storetest.OpCommit, storetest.OpStat, storetest.OpOpen, storetest.OpList, storetest.OpDelete} {
			faults = append(faults, storetest.Fault{Op: op, Nth: 1, Err: store.ErrUnavailable},
				storetest.Fault{Op: op, Nth: 2, Err: store.ErrUnavailable})
		}
		s, f, _ := flaky(faults...)
		ctx := t.Context()
		must(put(t, s, "k", "hello", store.CreateOptions{IfAbsent: true}))
		must(s.Stat(ctx, "k"))
		if data := must(store.Get(ctx, s, "k", 10)); string(data) != "hello" {
			t.Errorf("read %q", data)
		}
		n := 0
		for _, err := range s.List(ctx, "", store.ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 1 {
			t.Errorf("the list has %d entries", n)
		}
		if err := s.Delete(ctx, "k", ""); err != nil {
			t.Fatal(err)
		}
		if f.Fired() != len(faults) {
			t.Errorf("%d faults befell the store, want %d", f.Fired(), len(faults))
		}
		f.Add(storetest.Fault{Op: storetest.OpStat, Err: store.ErrUnavailable})
		if _, err := s.Stat(ctx, "k"); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a store that stays away: %v", err)
		}
		if n := f.Calls(storetest.OpStat, "k"); n != 3+3 {
			t.Errorf("Stat was called %d times", n)
		}
	})
}

func TestCommitWhoseReplyIsLost(t *testing.T) {
	t.Parallel()
	lost := storetest.Fault{Op: storetest.OpCommit, Nth: 1, Err: store.ErrUnavailable, Done: true}
	synctest.Test(t, func(t *testing.T) {
		s, _, m := flaky(lost)
		made, err := put(t, s, "k", "mine", store.CreateOptions{IfAbsent: true})
		if err != nil {
			t.Fatalf("IfAbsent: %v", err)
		}
		if there := must(m.Stat(t.Context(), "k")); there != made {
			t.Errorf("Commit returned %+v, there is %+v", made, there)
		}
		s, _, m = flaky()
		old := must(put(t, s, "k", "old", store.CreateOptions{}))
		s = retry.New(storetest.NewFaulty(m, lost), retry.Policy{})
		if _, err := put(t, s, "k", "new", store.CreateOptions{IfMatch: old.Version}); err != nil {
			t.Errorf("IfMatch: %v", err)
		}
	})
}

// thief replaces an object between a lost reply and the next attempt.
type thief struct {
	store.Store
	stolen bool
}

func (th *thief) Create(ctx context.Context, key string, o store.CreateOptions) (store.Writer, error) {
	w, err := th.Store.Create(ctx, key, o)
	return &thiefWriter{w, th, key}, err
}

type thiefWriter struct {
	store.Writer
	th  *thief
	key string
}

func (w *thiefWriter) Commit() (store.Object, error) {
	o, err := w.Writer.Commit()
	if w.th.stolen || err != nil {
		return o, err
	}
	w.th.stolen = true
	_, err = store.Put(context.Background(), w.th.Store, w.key, []byte("theirs"), store.CreateOptions{})
	return store.Object{}, errors.Join(err, store.ErrUnavailable)
}

func TestCommitWhoseOutcomeStaysOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := mem.New(mem.Options{})
		s := retry.New(&thief{Store: m}, retry.Policy{})
		_, err := put(t, s, "k", "mine", store.CreateOptions{IfAbsent: true})
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrExists) || !strings.Contains(err.Error(), "not known") {
			t.Errorf("error is %v, want one that leaves it open", err)
		}
		// Without a lost reply the refusal is what it is.
		if _, err := put(t, s, "k", "mine", store.CreateOptions{IfAbsent: true}); !errors.Is(err, store.ErrExists) {
			t.Errorf("error is %v, want ErrExists", err)
		}
	})
}

func TestLargeObjectIsNotRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, f, m := flaky()
		data := strings.Repeat("x", retry.SmallMax+1)
		w := must(s.Create(t.Context(), "k", store.CreateOptions{}))
		for part := range slices.Chunk([]byte(data), 100_000) {
			must(w.Write(part))
		}
		must(w.Commit())
		if got := must(store.Get(t.Context(), m, "k", 1<<30)); string(got) != data {
			t.Errorf("%d bytes came of %d", len(got), len(data))
		}
		f.Add(storetest.Fault{Op: storetest.OpCommit, Nth: 1, Err: store.ErrUnavailable})
		if _, err := put(t, s, "k2", data, store.CreateOptions{}); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("error is %v", err)
		}
		if f.Calls(storetest.OpCommit, "k2") != 1 {
			t.Error("a large object was committed twice")
		}
		w = must(s.Create(t.Context(), "k3", store.CreateOptions{}))
		must(w.Write([]byte(data)))
		if err := w.Abort(); err != nil {
			t.Error(err)
		}
		if _, err := m.Stat(t.Context(), "k3"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("after Abort: %v", err)
		}
	})
}

func TestDeleteOfAVersionIsNotRepeated(t *testing.T) {
	t.Parallel()
	s, f, _ := flaky(storetest.Fault{Op: storetest.OpDelete, Nth: 1, Err: store.ErrUnavailable, Done: true})
	o := must(put(t, s, "k", "x", store.CreateOptions{}))
	if err := s.Delete(t.Context(), "k", o.Version); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("error is %v", err)
	}
	if n := f.Calls(storetest.OpDelete, "k"); n != 1 {
		t.Errorf("%d deletes", n)
	}
}

// cutList breaks each list off after two entries.
type cutList struct {
	store.Store
	lists int
}

func (c *cutList) List(ctx context.Context, prefix string, o store.ListOptions) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		c.lists++
		n := 0
		for entry, err := range c.Store.List(ctx, prefix, o) {
			if n++; n > 2 {
				yield(store.Object{}, store.ErrUnavailable)
				return
			}
			if !yield(entry, err) {
				return
			}
		}
	}
}

func TestListGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := mem.New(mem.Options{})
		var want []string
		for i := range 31 {
			key := fmt.Sprintf("k%02d", i)
			want = append(want, key)
			must(put(t, m, key, "", store.CreateOptions{}))
		}
		c := &cutList{Store: m}
		s := retry.New(c, retry.Policy{Attempts: 2})
		var got []string
		for entry, err := range s.List(t.Context(), "", store.ListOptions{}) {
			got = append(got, must(entry, err).Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("the list has %q", got)
		}
		if c.lists != 16 {
			t.Errorf("%d lists were made of it", c.lists)
		}
	})
}

// Reads are not repeated: a reader that fails fails.
func TestReadsAreNotRepeated(t *testing.T) {
	t.Parallel()
	s, _, _ := flaky(storetest.Fault{Op: storetest.OpRead, Nth: 1, At: 2, Err: store.ErrUnavailable})
	must(put(t, s, "k", "hello", store.CreateOptions{}))
	r := must(s.Open(t.Context(), "k", 0, -1))
	defer r.Close()
	if data, err := io.ReadAll(r); string(data) != "he" || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("read %q, %v", data, err)
	}
	if s.Unwrap() == nil {
		t.Error("it wraps nothing")
	}
}
