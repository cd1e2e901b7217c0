package meter_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
	"github.com/salvor-dr/salvor/internal/store/meter"
	"github.com/salvor-dr/salvor/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return meter.New(mem.New(mem.Options{}), nil) }, storetest.InMemory)
}

// slow takes a fixed time for each kind of call.
func slow(_ context.Context, c *mem.Call) error {
	time.Sleep(map[mem.Op]time.Duration{mem.OpCreate: 1, mem.OpWrite: 10, mem.OpCommit: 100,
		mem.OpOpen: 2, mem.OpRead: 20, mem.OpStat: 3, mem.OpList: 30, mem.OpDelete: 5}[c.Op] * time.Millisecond)
	return nil
}

func TestCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		f := storetest.NewFaulty(mem.New(mem.Options{Hook: slow}))
		s := meter.New(f, nil)
		put := func(key, data string, o store.CreateOptions) { _, _ = store.Put(ctx, s, key, []byte(data), o) }
		put("k", "hello", store.CreateOptions{})
		put("k", "hello", store.CreateOptions{IfAbsent: true})
		put("k", "again", store.CreateOptions{IfMatch: "none"})
		put("//", "x", store.CreateOptions{})
		w, err := s.Create(ctx, "k2", store.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // of the caller's
		if err := w.Abort(); err != nil {
			t.Fatal(err)
		}

		_, _ = store.Get(ctx, s, "k", 10)
		_, _ = store.Get(ctx, s, "none", 10)
		f.Add(storetest.Fault{Op: storetest.OpRead, At: 3, Err: io.ErrUnexpectedEOF})
		_, _ = store.Get(ctx, s, "k", 10)
		f.Clear()

		_, _ = s.Stat(ctx, "k")
		f.Add(storetest.Fault{Op: storetest.OpStat, Err: store.ErrUnavailable})
		_, _ = s.Stat(ctx, "k")
		for _, err := range s.List(ctx, "", store.ListOptions{}) {
			if err != nil {
				t.Error(err)
			}
			time.Sleep(time.Hour)
		}
		done, cancel := context.WithCancel(ctx)
		cancel()
		for _, err := range s.List(done, "", store.ListOptions{}) {
			if err == nil {
				t.Error("a cancelled list has entries")
			}
		}
		_ = s.Delete(ctx, "k", "")

		ms := time.Millisecond
		want := []meter.Counts{
			{Op: meter.Put, Ended: 5, Failed: 1, Aborted: 1, Bytes: 15, Time: 3*111*ms + 1*ms, Slowest: 111 * ms,
				Errors: map[string]int64{"exists": 1, "changed": 1, "invalid_key": 1}, Latency: [meter.Buckets]int64{2, 0, 0, 0, 3}},
			{Op: meter.Get, Ended: 3, Failed: 1, Bytes: 5 + 3, Time: (2+20)*ms + 2*ms + (2+20)*ms, Slowest: 22 * ms,
				Errors: map[string]int64{"not_found": 1, "cut": 1}, Latency: [meter.Buckets]int64{0, 1, 0, 2}},
			{Op: meter.Stat, Ended: 2, Failed: 1, Time: 3 * ms, Slowest: 3 * ms,
				Errors: map[string]int64{"unavailable": 1}, Latency: [meter.Buckets]int64{1, 1}},
			{Op: meter.List, Ended: 2, Failed: 1, Time: 30 * ms, Slowest: 30 * ms,
				Errors: map[string]int64{"canceled": 1}, Latency: [meter.Buckets]int64{1, 0, 0, 1}},
			{Op: meter.Delete, Ended: 1, Time: 5 * ms, Slowest: 5 * ms, Latency: [meter.Buckets]int64{0, 0, 1}},
		}
		if diff := cmp.Diff(want, s.Counts()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if len(meter.Bounds()) != meter.Buckets-1 {
			t.Errorf("%d bounds for %d buckets", len(meter.Bounds()), meter.Buckets)
		}
		if s.Unwrap() != store.Store(f) {
			t.Error("it wraps another store")
		}
	})
}
