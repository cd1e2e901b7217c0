package lock

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
	"github.com/salvor-dr/salvor/internal/store/storetest"
)

const what = "backup-main"

func locksOf(t *testing.T, st store.Store) *Locks {
	t.Helper()
	l, err := New(st, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// elsewhere is the same for a process of another host.
func elsewhere(t *testing.T, st store.Store) *Locks {
	t.Helper()
	l := locksOf(t, st)
	l.self.Host, l.self.BootID = "elsewhere", "another boot"
	return l
}

func acquire(t *testing.T, l *Locks) (*Lease, context.Context) {
	t.Helper()
	lease, ctx, err := l.Acquire(t.Context(), what, nil)
	if err != nil {
		t.Fatal(err)
	}
	return lease, ctx
}

// leave writes the lease of a holder that did not release it, renewed so long ago.
func leave(t *testing.T, st store.Store, h Holder, ago time.Duration) {
	t.Helper()
	data, err := json.Marshal(document{FormatVersion: repo.FormatVersion, Token: repo.NewID(), Holder: h, RenewedAt: time.Now().Add(-ago)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), st, prefix+what, data, store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		lease, _ := acquire(t, locksOf(t, st))
		_, _, err := locksOf(t, st).Acquire(t.Context(), what, nil)
		var held *Held
		if !errors.As(err, &held) || held.What != what || held.Holder.PID != os.Getpid() {
			t.Errorf("a second holder got: %v", err)
		}
		if _, _, err := elsewhere(t, st).Acquire(t.Context(), what, nil); !errors.As(err, &held) {
			t.Errorf("another host got: %v", err)
		}
		other, _, err := locksOf(t, st).Acquire(t.Context(), "something-else", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []*Lease{lease, other} {
			if err := l.Check(t.Context()); err != nil {
				t.Error(err)
			}
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
		}
		again, _ := acquire(t, locksOf(t, st))
		if err := again.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A process of this host that is gone needs no wait.
func TestDeadProcess(t *testing.T) {
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := zombie.Wait(); err != nil {
			t.Error(err)
		}
	})
	zombieStart := waitZombie(t, zombie.Process.Pid)
	for name, change := range map[string]func(*Holder){
		"ended":         func(h *Holder) { h.PID = gone.Process.Pid },
		"zombie":        func(h *Holder) { h.PID, h.StartedAt = zombie.Process.Pid, zombieStart },
		"pid used anew": func(h *Holder) { h.StartedAt = "1" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := mem.New(mem.Options{})
				l := locksOf(t, st)
				h := l.self
				change(&h)
				leave(t, st, h, time.Second)
				before := time.Now()
				lease, _ := acquire(t, l)
				if waited := time.Since(before); waited != 0 {
					t.Errorf("waited %s", waited)
				}
				if err := lease.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Where the pid counts for others, it says nothing here.
func TestPIDOfOthers(t *testing.T) {
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	l := locksOf(t, mem.New(mem.Options{}))
	h := l.self
	h.PID = gone.Process.Pid
	if gone, known := l.self.knows(h); !gone || !known {
		t.Fatalf("a process of ours that has ended: gone %v, known %v", gone, known)
	}
	for name, change := range map[string]func(*Holder){
		"another host":          func(h *Holder) { h.Host = "elsewhere" },
		"before the reboot":     func(h *Holder) { h.BootID = "x" },
		"boot not known":        func(h *Holder) { h.BootID = "" },
		"another container":     func(h *Holder) { h.PIDNamespace = "pid:[1]" },
		"namespace not known":   func(h *Holder) { h.PIDNamespace = "" },
		"start not known":       func(h *Holder) { h.StartedAt = "" },
		"no pid":                func(h *Holder) { h.PID = 0 },
		"all processes of ours": func(h *Holder) { h.PID = -1 },
	} {
		other := h
		change(&other)
		if gone, known := l.self.knows(other); known {
			t.Errorf("%s: gone %v, and that is taken for certain", name, gone)
		}
	}
	blind := l.self
	blind.PIDNamespace, h.PIDNamespace = "", ""
	if _, known := blind.knows(h); known {
		t.Error("neither knows its namespace, and that is taken for the same")
	}
}

// waitZombie waits until a process has ended and is not waited for, and gives the
// start time in its stat file.
func waitZombie(t *testing.T, pid int) string {
	t.Helper()
	for {
		b, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if f[0] == "Z" {
			return f[19]
		}
		time.Sleep(time.Millisecond)
	}
}

func itoa(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

// What is not known to be dead is watched for a whole time to live.
func TestDeadHost(t *testing.T) {
	for name, h := range map[string]Holder{
		"another host":      {Host: "elsewhere", PID: os.Getpid(), BootID: "x", StartedAt: "1"},
		"before the reboot": {Host: "", PID: 1, BootID: "x", StartedAt: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := mem.New(mem.Options{})
				l := locksOf(t, st)
				if h.Host == "" {
					h.Host = l.self.Host
				}
				leave(t, st, h, TTL+time.Second)
				before, told := time.Now(), 0
				lease, _, err := l.Acquire(t.Context(), what, func(why error) {
					told++
					var held *Held
					if !errors.As(why, &held) || held.Holder.Host != h.Host {
						t.Errorf("waiting for %v", why)
					}
				})
				if err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(before); waited != TTL || told != 1 {
					t.Errorf("waited %s, told %d times", waited, told)
				}
				if err := lease.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A holder whose clock is wrong shows life by changing its lease.
func TestWrongClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		h := Holder{Host: "elsewhere", PID: 1}
		leave(t, st, h, time.Hour)
		go func() {
			time.Sleep(TTL / 2)
			leave(t, st, h, time.Hour)
		}()
		_, _, err := locksOf(t, st).Acquire(t.Context(), what, nil)
		if !errors.As(err, new(*Held)) {
			t.Errorf("got: %v", err)
		}
	})
}

func TestReleasedWhileWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		leave(t, st, Holder{Host: "elsewhere"}, time.Hour)
		go func() {
			time.Sleep(10 * time.Second)
			if err := st.Delete(context.WithoutCancel(t.Context()), prefix+what, ""); err != nil {
				t.Error(err)
			}
		}()
		before := time.Now()
		lease, _ := acquire(t, locksOf(t, st))
		if waited := time.Since(before); waited > 11*time.Second {
			t.Errorf("waited %s", waited)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestCancelledWhileWatching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		leave(t, st, Holder{Host: "elsewhere"}, time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, _, err := locksOf(t, st).Acquire(ctx, what, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got: %v", err)
		}
	})
}

// Of two that wait for a dead holder, one gets the lease.
func TestTwoTakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		leave(t, st, Holder{Host: "third"}, time.Hour)
		results := make(chan error, 2)
		var done sync.WaitGroup
		for _, l := range []*Locks{locksOf(t, st), elsewhere(t, st)} {
			done.Go(func() {
				lease, _, err := l.Acquire(t.Context(), what, nil)
				results <- err
				if err == nil {
					time.Sleep(3 * TTL)
					if err := lease.Release(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		a, b := <-results, <-results
		if (a == nil) == (b == nil) || !errors.As(errors.Join(a, b), new(*Held)) {
			t.Errorf("one got %v, the other %v", a, b)
		}
		done.Wait()
	})
}

// A lease is kept as long as it is held, through faults that are shorter than it.
func TestRenewal(t *testing.T) {
	for name, fault := range map[string]storetest.Fault{
		"no fault":          {Op: storetest.OpStat, Key: "nothing"},
		"an error":          {Op: storetest.OpCommit, Nth: 2, Err: store.ErrUnavailable},
		"an answer is lost": {Op: storetest.OpCommit, Nth: 2, Err: store.ErrUnavailable, Done: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				under := mem.New(mem.Options{})
				st := storetest.NewFaulty(under)
				lease, ctx := acquire(t, locksOf(t, st))
				st.Add(fault)
				for range 20 {
					time.Sleep(TTL / 2)
					if _, _, err := elsewhere(t, under).Acquire(t.Context(), what, nil); !errors.As(err, new(*Held)) {
						t.Fatalf("another host got: %v", err)
					}
				}
				if ctx.Err() != nil {
					t.Fatalf("the lease ended: %v", context.Cause(ctx))
				}
				if err := lease.Check(t.Context()); err != nil {
					t.Error(err)
				}
				if err := lease.Release(t.Context()); err != nil {
					t.Error(err)
				}
				if _, err := st.Stat(t.Context(), prefix+what); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("after the release: %v", err)
				}
			})
		})
	}
}

// The answer to the first put is lost: the lease is ours all the same.
func TestAcquireAfterLostAnswer(t *testing.T) {
	for _, taken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			under := mem.New(mem.Options{})
			if taken {
				leave(t, under, Holder{Host: "third"}, TTL)
			}
			st := storetest.NewFaulty(under)
			n := map[bool]int{false: 1, true: 2}[taken] // after the one that finds the other's
			st.Add(storetest.Fault{Op: storetest.OpCommit, Nth: n, Err: store.ErrUnavailable, Done: true})
			lease, ctx := acquire(t, locksOf(t, st))
			if st.Fired() != 1 {
				t.Fatalf("%d faults", st.Fired())
			}
			time.Sleep(2 * TTL)
			if ctx.Err() != nil {
				t.Errorf("the lease ended: %v", context.Cause(ctx))
			}
			if err := lease.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// The answer to the last renewal is lost, and then the lease is released.
func TestReleaseAfterLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewFaulty(mem.New(mem.Options{}))
		lease, _ := acquire(t, locksOf(t, st))
		st.Add(storetest.Fault{Op: storetest.OpCommit, Nth: 1, Err: store.ErrUnavailable, Done: true})
		time.Sleep(renewEvery + time.Second)
		if err := lease.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Stat(t.Context(), prefix+what); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("after the release: %v", err)
		}
	})
}

// Who lost the lease is told, and leaves the new holder's alone.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		lease, ctx := acquire(t, locksOf(t, st))
		leave(t, st, Holder{Host: "elsewhere"}, 0)
		if err := lease.Check(t.Context()); !errors.Is(err, ErrLost) {
			t.Errorf("Check says: %v", err)
		}
		time.Sleep(renewEvery + time.Second)
		if cause := context.Cause(ctx); !errors.Is(cause, ErrLost) {
			t.Errorf("the context ended by %v", cause)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := st.Stat(t.Context(), prefix+what); err != nil {
			t.Errorf("the new holder's lease: %v", err)
		}
	})
}

func TestDeletedLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		lease, ctx := acquire(t, locksOf(t, st))
		if err := st.Delete(t.Context(), prefix+what, ""); err != nil {
			t.Fatal(err)
		}
		if err := lease.Check(t.Context()); !errors.Is(err, ErrLost) {
			t.Errorf("Check says: %v", err)
		}
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, ErrLost) {
			t.Errorf("the context ended by %v", cause)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// When no renewal gets through for a time to live, somebody else may have it.
func TestStoreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := storetest.NewFaulty(mem.New(mem.Options{}))
		began := time.Now()
		lease, ctx := acquire(t, locksOf(t, st))
		st.Add(storetest.Fault{Op: storetest.OpCommit, Err: store.ErrUnavailable})
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, ErrLost) || !errors.Is(cause, store.ErrUnavailable) {
			t.Errorf("the context ended by %v", cause)
		}
		if lasted := time.Since(began); lasted > TTL {
			t.Errorf("that was noticed after %s", lasted)
		}
		st.Clear()
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
