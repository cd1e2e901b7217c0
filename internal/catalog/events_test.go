package catalog

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// An end of the walk, by its caller, by an error or by the end of the path, is the end
// of all reading ahead: what was under way has been given up, and has ended.
func TestEventsLeaveNothingBehind(t *testing.T) {
	for name, last := range map[string]uint64{"the caller ends it": 0, "a segment cannot be read": 3, "the path ends": 60} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.segments(1, 1, 50)
				path := w.archive().Path(pg.History{Timeline: 1}, at(1, 0x28))
				var reading, most atomic.Int32
				slow := mem.New(mem.Options{Hook: func(ctx context.Context, c *mem.Call) error {
					if c.Op != mem.OpOpen {
						return nil
					}
					if strings.HasSuffix(c.Key, w.segmentName(1, last)) {
						return store.ErrPermission
					}
					n := reading.Add(1)
					defer reading.Add(-1)
					for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
					}
					select {
					case <-time.After(time.Second):
						return nil
					case <-ctx.Done():
						time.Sleep(time.Millisecond) // a connection takes its time to end
						return context.Cause(ctx)
					}
				}})
				for o, err := range w.mem.List(t.Context(), "", store.ListOptions{}) {
					w.must(err)
					_, err = store.Put(t.Context(), slow, o.Key, w.raw(o.Key), store.CreateOptions{})
					w.must(err)
				}
				var failed error
				n := 0
				for e, err := range Events(t.Context(), sealed(slow), w.archive(), path, 0) {
					if failed = err; err == nil && e.Kind == 0 {
						n++
					}
					if last == 0 && n == 2 {
						break
					}
				}
				if left := reading.Load(); left != 0 {
					t.Errorf("%d reads are under way after the end", left)
				}
				if most.Load() > eventsAhead {
					t.Errorf("there were %d reads at once", most.Load())
				}
				if want := map[uint64]int{0: 2, 3: 2, 60: 50}[last]; n != want || (last == 3) != errors.Is(failed, store.ErrPermission) {
					t.Errorf("%d segments, want %d: %v", n, want, failed)
				}
			})
		})
	}
}
