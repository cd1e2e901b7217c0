package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
	"github.com/salvor-dr/salvor/internal/store/storetest"
)

// ask looks a lease up and asks its holder to stop.
func ask(t *testing.T, l *Locks, by string) repo.ID {
	t.Helper()
	s, err := l.Look(t.Context(), what)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Cancel(t.Context(), what, s.Token, by); err != nil {
		t.Fatal(err)
	}
	return s.Token
}

// noRequest fails the test if a request is there.
func noRequest(t *testing.T, st store.Store) {
	t.Helper()
	if _, err := st.Stat(t.Context(), cancelKey(what)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a request is there still: %v", err)
	}
}

func putRequest(t *testing.T, st store.Store, token repo.ID) {
	t.Helper()
	data, err := json.Marshal(request{FormatVersion: 1, Token: token, By: "somebody", At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), st, cancelKey(what), data, store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// A holder that is asked to stop is told who asked, and keeps the lease while it
// cleans up. Of two who ask, the first is named.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		lease, ctx := acquire(t, locksOf(t, st))
		asked := time.Now()
		token := ask(t, elsewhere(t, st), "Ann")
		time.Sleep(time.Second)
		if again := ask(t, elsewhere(t, st), "Bob"); again != token {
			t.Errorf("the token went from %s to %s", token, again)
		}
		<-ctx.Done()
		var c *Cancelled
		if !errors.As(context.Cause(ctx), &c) || c.By != "Ann" || !c.At.Equal(asked) {
			t.Errorf("the context ended by %v", context.Cause(ctx))
		}
		if took := time.Since(asked); took > cancelEvery {
			t.Errorf("it was noticed after %s", took)
		}
		if ask(t, elsewhere(t, st), "Cid") != token {
			t.Error("the lease changed hands")
		}
		for range 5 { // it takes its time
			time.Sleep(TTL)
			if _, _, err := elsewhere(t, st).Acquire(t.Context(), what, nil); !errors.As(err, new(*Held)) {
				t.Errorf("another got: %v", err)
			}
		}
		if err := lease.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
		noRequest(t, st)
		if died, err := elsewhere(t, st).Wait(t.Context(), what, token); died || err != nil {
			t.Errorf("waiting for the end: %v, %v", died, err)
		}
	})
}

// Who asked waits for the end.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		lease, ctx := acquire(t, locksOf(t, st))
		token := ask(t, elsewhere(t, st), "Ann")
		var done sync.WaitGroup
		for range 3 {
			done.Go(func() {
				began := time.Now()
				died, err := elsewhere(t, st).Wait(t.Context(), what, token)
				if took := time.Since(began); died || err != nil || took < cancelEvery+5*time.Second {
					t.Errorf("waited for %s: %v, %v", took, died, err)
				}
			})
		}
		<-ctx.Done()
		time.Sleep(5 * time.Second)
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
		done.Wait()
		short, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		next, _ := acquire(t, locksOf(t, st))
		s, err := elsewhere(t, st).Look(t.Context(), what)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := elsewhere(t, st).Wait(short, what, s.Token); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for one that goes on: %v", err)
		}
		if err := next.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A request that comes when the holding is over harms nobody, wherever it lands.
func TestLateRequest(t *testing.T) {
	for name, late := range map[string]func(*testing.T, store.Store, repo.ID){
		"nobody holds it": func(t *testing.T, st store.Store, token repo.ID) {
			if err := elsewhere(t, st).Cancel(t.Context(), what, token, "Ann"); err != nil {
				t.Error(err)
			}
			if died, err := elsewhere(t, st).Wait(t.Context(), what, token); died || err != nil {
				t.Errorf("waiting for what has ended: %v, %v", died, err)
			}
		},
		"and who asked is gone": func(t *testing.T, st store.Store, token repo.ID) {
			putRequest(t, st, token)
		},
		"garbage": func(t *testing.T, st store.Store, _ repo.ID) {
			if _, err := store.Put(t.Context(), st, cancelKey(what), []byte("{{{"), store.CreateOptions{}); err != nil {
				t.Error(err)
			}
		},
		"too large": func(t *testing.T, st store.Store, _ repo.ID) {
			if _, err := store.Put(t.Context(), st, cancelKey(what), make([]byte, maxObject+1), store.CreateOptions{}); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := mem.New(mem.Options{})
				first, _ := acquire(t, locksOf(t, st))
				if err := first.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
				late(t, st, first.doc.Token)
				next, ctx := acquire(t, locksOf(t, st))
				time.Sleep(TTL)
				if ctx.Err() != nil {
					t.Errorf("the next holder ended by %v", context.Cause(ctx))
				}
				noRequest(t, st)
				// And a request that means it still arrives.
				ask(t, locksOf(t, st), "Bob")
				<-ctx.Done()
				if !errors.As(context.Cause(ctx), new(*Cancelled)) {
					t.Errorf("the next holder ended by %v", context.Cause(ctx))
				}
				if err := next.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A request that means the present holder is touched neither by who wants to cancel a
// former one, nor by a former one that does not know that it is one.
func TestRequestIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		former, formerCtx := acquire(t, locksOf(t, st))
		old := former.doc.Token
		leave(t, st, Holder{Host: "third"}, 0)
		token := ask(t, elsewhere(t, st), "Ann")
		if err := elsewhere(t, st).Cancel(t.Context(), what, old, "Bob"); !errors.Is(err, ErrNotHeld) {
			t.Errorf("cancelling a holding that was replaced: %v", err)
		}
		if _, err := elsewhere(t, st).Wait(t.Context(), what, old); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * cancelEvery)
		if errors.As(context.Cause(formerCtx), new(*Cancelled)) {
			t.Error("the former holder was cancelled by it")
		}
		if err := former.Release(t.Context()); err != nil {
			t.Error(err)
		}
		r, version, err := locksOf(t, st).readRequest(t.Context(), what)
		if err != nil || version == "" || r.Token != token || r.By != "Ann" {
			t.Errorf("the request is %+v, %v", r, err)
		}
	})
}

// A stale request in the way of a new one is replaced.
func TestStaleRequestInTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		lease, ctx := acquire(t, locksOf(t, st))
		putRequest(t, st, repo.NewID())
		ask(t, elsewhere(t, st), "Ann")
		<-ctx.Done()
		var c *Cancelled
		if !errors.As(context.Cause(ctx), &c) || c.By != "Ann" {
			t.Errorf("the context ended by %v", context.Cause(ctx))
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Of a holder that dies, who waits for its end hears it.
func TestHolderDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := mem.New(mem.Options{})
		leave(t, st, Holder{Host: "third"}, 0)
		l := locksOf(t, st)
		token := ask(t, l, "Ann")
		began := time.Now()
		died, err := l.Wait(t.Context(), what, token)
		if took := time.Since(began); !died || err != nil || took != TTL {
			t.Errorf("another host's: %v, %v after %s", died, err, took)
		}
		noRequest(t, st)

		here := l.self
		here.StartedAt = "1" // of the one whose pid we have
		leave(t, st, here, 0)
		token = ask(t, l, "Ann")
		began = time.Now()
		died, err = l.Wait(t.Context(), what, token)
		if took := time.Since(began); !died || err != nil || took != 0 {
			t.Errorf("this host's: %v, %v after %s", died, err, took)
		}
		noRequest(t, st)
	})
}

// What does not answer for a while is asked again: by the holder, and by who waits.
func TestCancelThroughFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		under := mem.New(mem.Options{})
		st := storetest.NewFaulty(under)
		lease, ctx := acquire(t, locksOf(t, st))
		token := ask(t, elsewhere(t, under), "Ann")
		st.Add(storetest.Fault{Op: storetest.OpStat, Err: store.ErrUnavailable})
		time.AfterFunc(20*time.Second, st.Clear)
		ended := make(chan error, 1)
		go func() {
			died, err := elsewhere(t, st).Wait(t.Context(), what, token)
			if died {
				t.Error("the holder is taken for dead")
			}
			ended <- err
		}()
		<-ctx.Done()
		if !errors.As(context.Cause(ctx), new(*Cancelled)) {
			t.Errorf("the context ended by %v", context.Cause(ctx))
		}
		if err := lease.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// step is one thing that happens in the life of a lock.
type step struct {
	pause time.Duration
	do    int
}

const (
	stepAcquire = iota
	stepAsk     // whoever holds it
	stepAskLate // who held it before
	stepRelease
	stepDie // without a release, on another host
	steps
)

// Whatever happens: nobody is cancelled who was not asked, everybody stops in time who
// was, and no request stays.
func TestCancelProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{time.Duration(rapid.IntRange(0, 9000).Draw(rt, "ms")) * time.Millisecond, rapid.IntRange(0, steps-1).Draw(rt, "do")}
		}), 1, 30).Draw(rt, "plan")
		var failed string
		synctest.Test(t, func(t *testing.T) {
			p := play{t: t, st: mem.New(mem.Options{}), askedAt: map[repo.ID]time.Time{}}
			for _, s := range plan {
				time.Sleep(s.pause)
				synctest.Wait()
				p.do(s.do)
				if p.failed != "" {
					break
				}
			}
			p.finish()
			failed = p.failed
		})
		if failed != "" {
			rt.Fatal(failed)
		}
	})
}

// play is a run of steps.
type play struct {
	t       *testing.T
	st      *mem.Store
	lease   *Lease // nil: nobody holds it
	ctx     context.Context
	former  repo.ID
	askedAt map[repo.ID]time.Time
	failed  string
}

func (p *play) fail(format string, args ...any) {
	if p.failed == "" {
		p.failed = fmt.Sprintf(format, args...)
	}
}

func (p *play) do(what int) {
	p.judge()
	switch {
	case what == stepAcquire && p.lease == nil:
		p.acquire()
	case what == stepAsk && p.lease != nil:
		p.ask(p.lease.doc.Token)
	case what == stepAskLate && p.former != (repo.ID{}):
		p.ask(p.former)
	case what == stepRelease && p.lease != nil:
		p.former = p.lease.doc.Token
		if err := p.lease.Release(p.t.Context()); err != nil {
			p.fail("release: %v", err)
		}
		p.lease = nil
	case what == stepDie && p.lease != nil:
		// Its goroutines end, and the lease stays.
		p.former = p.lease.doc.Token
		p.lease.cancel(nil)
		p.lease.end()
		p.lease.beside.Wait()
		p.lease.expiry.Stop()
		p.lease = nil
	}
}

func (p *play) acquire() {
	var err error
	l := elsewhere(p.t, p.st)
	for {
		p.lease, p.ctx, err = l.Acquire(p.t.Context(), what, nil)
		if !errors.As(err, new(*Held)) {
			break
		}
		time.Sleep(time.Second) // one died
	}
	if err != nil {
		p.fail("acquire: %v", err)
	}
}

func (p *play) ask(token repo.ID) {
	err := elsewhere(p.t, p.st).Cancel(p.t.Context(), what, token, "Ann")
	if err != nil && (p.lease != nil && token == p.lease.doc.Token || !errors.Is(err, ErrNotHeld)) {
		p.fail("cancel: %v", err)
	}
	if _, is := p.askedAt[token]; !is {
		p.askedAt[token] = time.Now()
	}
}

// judge says whether the holder's context is as it must be.
func (p *play) judge() {
	if p.lease == nil {
		return
	}
	at, asked := p.askedAt[p.lease.doc.Token]
	ended := p.ctx.Err() != nil
	switch {
	case ended && !asked:
		p.fail("a holder ended that was not asked: %v", context.Cause(p.ctx))
	case ended && !errors.As(context.Cause(p.ctx), new(*Cancelled)):
		p.fail("a holder ended by %v", context.Cause(p.ctx))
	case !ended && asked && time.Since(at) > cancelEvery:
		p.fail("a holder goes on %s after it was asked", time.Since(at))
	}
}

// finish lets one more holder come and go.
func (p *play) finish() {
	if p.lease == nil {
		p.acquire()
	}
	time.Sleep(cancelEvery)
	synctest.Wait()
	p.do(stepRelease)
	for o, err := range p.st.List(p.t.Context(), "", store.ListOptions{}) {
		p.fail("%s stays, %v", o.Key, err)
	}
}

// Whatever lies there is judged without a crash.
func FuzzDocuments(f *testing.F) {
	seed, err := json.Marshal(document{FormatVersion: 1, Token: repo.NewID(), Holder: Holder{Host: "h", PID: 1}, Report: json.RawMessage(`{"a":1}`)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, []byte(`{"format_version":1,"token":"000102030405060708090a0b0c0d0e0f","by":"x","at":"2026-11-24T00:00:00Z"}`))
	f.Add([]byte(`{"renewed_at":"0000-01-01T00:00:00Z","holder":{"pid":-1}}`), []byte(strings.Repeat("[", 100)))
	f.Fuzz(func(t *testing.T, lease, req []byte) {
		st := mem.New(mem.Options{})
		for key, data := range map[string][]byte{prefix + what: lease, cancelKey(what): req} {
			if _, err := store.Put(t.Context(), st, key, data, store.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		l := locksOf(t, st)
		s, err := l.Look(t.Context(), what)
		if err != nil && !errors.As(err, new(*Unreadable)) {
			t.Fatalf("Look: %v", err)
		}
		if err == nil && len(s.Report) > 0 && !json.Valid(s.Report) {
			t.Fatalf("a report that is no JSON: %q", s.Report)
		}
		if _, version, err := l.readRequest(t.Context(), what); err != nil || version == "" {
			t.Fatalf("the request: %q, %v", version, err)
		}
	})
}
