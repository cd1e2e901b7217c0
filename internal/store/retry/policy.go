package retry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/store"
)

// The defaults of a Policy: an outage of about half a minute is survived, and
// nobody waits for much longer than a minute.
const (
	DefaultAttempts = 10
	DefaultTotal    = time.Minute
	DefaultPause    = 100 * time.Millisecond
	DefaultPauseMax = 10 * time.Second
)

// Policy bounds repetition. The zero value has the defaults.
type Policy struct {
	// Attempts is the most calls, the first one included.
	Attempts int
	// Total is for how long after the first call another one may begin.
	Total time.Duration
	// Pause is the longest pause before the second call. It doubles with each
	// further one, up to PauseMax.
	Pause, PauseMax time.Duration
	// Clock measures and waits; nil is clock.System.
	Clock clock.Clock
	// Jitter draws the pause from 0 to d; nil draws it at random.
	Jitter func(d time.Duration) time.Duration
	// Repeating is told of each error after which the call is repeated, and of the
	// pause before that. Several goroutines call it. nil: nobody is told.
	Repeating func(err error, pause time.Duration)
}

// WithDefaults fills in what is not set.
func (p Policy) WithDefaults() Policy {
	if p.Attempts <= 0 {
		p.Attempts = DefaultAttempts
	}
	if p.Total <= 0 {
		p.Total = DefaultTotal
	}
	if p.Pause <= 0 {
		p.Pause = DefaultPause
	}
	if p.PauseMax <= 0 {
		p.PauseMax = DefaultPauseMax
	}
	if p.Clock == nil {
		p.Clock = clock.System()
	}
	if p.Jitter == nil {
		p.Jitter = func(d time.Duration) time.Duration { return rand.N(d + 1) }
	}
	if p.Repeating == nil {
		p.Repeating = func(error, time.Duration) {}
	}
	return p
}

// Do makes a call, and repeats it while its error is store.ErrUnavailable and the
// bounds allow it. The error is that of the last call, with the number of calls
// when there was more than one. When ctx is done it is ctx's cause, beside the
// error of the last call.
func (p Policy) Do(ctx context.Context, call func(context.Context) error) error {
	p = p.WithDefaults()
	var last error
	began := p.Clock.Now()
	for n, pause := 1, p.Pause; ; n, pause = n+1, min(2*pause, p.PauseMax) {
		if err := context.Cause(ctx); err != nil {
			return errors.Join(err, last)
		}
		err := call(ctx)
		if err == nil || !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		last = err
		wait := p.Jitter(pause)
		spent := p.Clock.Now().Sub(began)
		if n >= p.Attempts || spent+wait > p.Total {
			if n > 1 {
				err = fmt.Errorf("%w (%d attempts in %s)", err, n, spent.Round(time.Millisecond))
			}
			return err
		}
		p.Repeating(err, wait)
		select {
		case <-ctx.Done():
		case <-p.Clock.After(wait):
		}
	}
}
