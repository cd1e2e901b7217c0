package backup

import (
	"context"
	"sync"
	"time"

	"github.com/salvor-dr/salvor/internal/clock"
)

// limiter spreads reads over time, for all workers together. A nil limiter lets
// everything pass.
type limiter struct {
	clock clock.Clock
	rate  int64 // bytes per second

	mu   sync.Mutex
	free time.Time // when the bytes granted until now have been paid for
}

func newLimiter(rate int64, c clock.Clock) *limiter {
	if rate == 0 {
		return nil
	}
	return &limiter{clock: c, rate: rate, free: c.Now()}
}

// wait returns when n bytes may be read.
func (l *limiter) wait(ctx context.Context, n int) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	now := l.clock.Now()
	if l.free.Before(now) {
		l.free = now
	}
	pause := l.free.Sub(now)
	l.free = l.free.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
	l.mu.Unlock()
	if pause <= 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.clock.After(pause):
		return nil
	}
}
