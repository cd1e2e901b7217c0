package limit

import (
	"context"
	"sync"
	"time"

	"github.com/salvor-dr/salvor/internal/clock"
)

// burst is how long an unused rate lies ready, and how long a piece may take.
const burst = 100 * time.Millisecond

// pace keeps a rate.
type pace struct {
	rate  int64 // bytes a second; 0 is no limit
	clock clock.Clock

	mu   sync.Mutex
	next time.Time // when the rate is used up to
}

func newPace(rate int64, c clock.Clock) *pace { return &pace{rate: rate, clock: c, next: c.Now()} }

// piece is the beginning of p that takes burst at most.
func (p *pace) piece(b []byte) []byte {
	if p.rate <= 0 {
		return b
	}
	most := max(int64(float64(p.rate)*burst.Seconds()), 1)
	return b[:min(int64(len(b)), most)]
}

// wait takes n bytes of the rate, and returns when their time has come.
func (p *pace) wait(ctx context.Context, n int) error {
	if p.rate <= 0 || n == 0 {
		return nil
	}
	d := p.take(n)
	if d <= 0 {
		return context.Cause(ctx)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.clock.After(d):
		return nil
	}
}

// take says how long n bytes have to wait.
func (p *pace) take(n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	if ready := now.Add(-burst); p.next.Before(ready) {
		p.next = ready
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	return p.next.Sub(now)
}
