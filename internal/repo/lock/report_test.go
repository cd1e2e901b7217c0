package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// What a holder reports is seen from elsewhere, at once and then every ten seconds,
// and by who is refused.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		other := elsewhere(t, st)
		if _, err := other.Look(t.Context(), what); !errors.Is(err, ErrNotHeld) {
			t.Errorf("before: %v", err)
		}
		began := time.Now()
		lease, _ := acquire(t, locksOf(t, st))
		seen := func() string {
			t.Helper()
			s, err := other.Look(t.Context(), what)
			if err != nil {
				t.Fatal(err)
			}
			if s.Life != Alive || s.What != what || !s.Holder.Since.Equal(began) {
				t.Errorf("seen from elsewhere: %+v", s)
			}
			return strings.Join(strings.Fields(string(s.Report)), "")
		}
		if r := seen(); r != "" {
			t.Errorf("nothing was reported, but %s is seen", r)
		}
		time.Sleep(time.Second)
		var done atomic.Int64
		lease.Report(func() json.RawMessage { return json.RawMessage(fmt.Sprintf(`{"done": %d}`, done.Load())) })
		synctest.Wait()
		for i := range 20 {
			if want := fmt.Sprintf(`{"done":%d}`, i); seen() != want {
				t.Errorf("%s is seen, want %s", seen(), want)
			}
			done.Store(int64(i + 1))
			time.Sleep(reportEvery)
			synctest.Wait()
		}
		_, _, err := other.Acquire(t.Context(), what, nil)
		var held *Held
		if !errors.As(err, &held) || !strings.Contains(string(held.Report), "20") {
			t.Errorf("who is refused hears %v, %s", err, held.Report)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A report that cannot be kept costs nobody the lease.
func TestBadReport(t *testing.T) {
	for name, report := range map[string]string{
		"none": "", "no JSON": "{", "too large": `"` + strings.Repeat("x", ReportMax) + `"`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := mem.New(mem.Options{})
				lease, ctx := acquire(t, locksOf(t, st))
				lease.Report(func() json.RawMessage { return json.RawMessage(report) })
				time.Sleep(3 * TTL)
				s, err := elsewhere(t, st).Look(t.Context(), what)
				if err != nil || len(s.Report) > 0 || s.Life != Alive || ctx.Err() != nil {
					t.Errorf("seen: %+v, %v; the context: %v", s, err, ctx.Err())
				}
				if err := lease.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// How a holder looks that renews no more.
func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		l := locksOf(t, st)
		here, later := l.self, l.self
		gone := l.self
		gone.StartedAt = "1"
		later.StartedAt = "" // not known
		for _, tc := range []struct {
			h    Holder
			ago  time.Duration
			want Life
		}{
			{here, 0, Alive}, {here, TTL, Silent}, {gone, 0, Gone}, {gone, TTL, Gone}, {later, 0, Alive}, {later, TTL, Silent},
			{Holder{Host: "third"}, TTL - 1, Alive}, {Holder{Host: "third"}, TTL, Silent}, {Holder{Host: "third"}, -TTL, Silent},
		} {
			leave(t, st, tc.h, tc.ago)
			if s, err := l.Look(t.Context(), what); err != nil || s.Life != tc.want {
				t.Errorf("%+v, renewed %s ago: %v, %v, want %v", tc.h, tc.ago, s.Life, err, tc.want)
			}
		}
	})
}

// A process of ours that holds the lease and forgot it does not keep it for ever.
func TestForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		l := locksOf(t, st)
		leave(t, st, l.self, TTL)
		began := time.Now()
		lease, _ := acquire(t, l)
		if waited := time.Since(began); waited != TTL {
			t.Errorf("waited %s", waited)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A renewal that hangs: the holder stops before anybody else can begin.
func TestRenewalHangs(t *testing.T) {
	for _, deaf := range []bool{false, true} { // whether the store hears that nobody waits any more
		t.Run(fmt.Sprintf("deaf %v", deaf), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				over := make(chan struct{})
				var hang atomic.Bool
				st := mem.New(mem.Options{Hook: func(ctx context.Context, c *mem.Call) error {
					if c.Op != mem.OpCommit || !hang.Load() {
						return nil
					}
					heard := ctx.Done()
					if deaf {
						heard = nil
					}
					select {
					case <-heard:
						return context.Cause(ctx)
					case <-over:
						return nil
					}
				}})
				lease, ctx := acquire(t, locksOf(t, st))
				time.Sleep(renewEvery)
				synctest.Wait()
				renewed := time.Now()
				hang.Store(true)
				<-ctx.Done()
				if !errors.Is(context.Cause(ctx), ErrLost) {
					t.Errorf("the context ended by %v", context.Cause(ctx))
				}
				if lasted := time.Since(renewed); lasted > TTL {
					t.Errorf("the holder went on for %s after its last renewal", lasted)
				}
				hang.Store(false)
				close(over)
				if err := lease.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A holder counts from the beginning of its renewal, since others do so from its end.
func TestSlowRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 15 * time.Second
		var commits atomic.Int64
		st := mem.New(mem.Options{Hook: func(ctx context.Context, c *mem.Call) error {
			if c.Op != mem.OpCommit {
				return nil
			}
			if commits.Add(1) > 2 {
				return store.ErrUnavailable
			}
			time.Sleep(slow)
			return nil
		}})
		lease, ctx := acquire(t, locksOf(t, st))
		<-ctx.Done()
		ended := time.Now()
		if cause := context.Cause(ctx); !errors.Is(cause, ErrLost) || !errors.Is(cause, store.ErrUnavailable) {
			t.Errorf("the context ended by %v", cause)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if lasted := ended.Sub(lease.began); lasted > TTL {
			t.Errorf("the holder went on for %s after its last renewal began", lasted)
		}
	})
}
