package clock_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/salvor-dr/salvor/internal/clock"
)

func TestSystemFollowsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.System()
		start := c.Now()
		at := <-c.After(90 * time.Second)
		if got := c.Now().Sub(start); got != 90*time.Second {
			t.Errorf("the clock moved by %v in 90s", got)
		}
		if !at.Equal(start.Add(90 * time.Second)) {
			t.Errorf("After sent %v, want %v", at, start.Add(90*time.Second))
		}
	})
}

func TestFixedStandsStill(t *testing.T) {
	at := time.Date(2026, 2, 28, 23, 59, 59, 1, time.UTC)
	c := clock.Fixed(at)
	for _, tc := range []struct {
		wait time.Duration
		want time.Time
	}{
		{time.Hour, at.Add(time.Hour)},
		{0, at},
		{-time.Hour, at},
	} {
		if got := <-c.After(tc.wait); !got.Equal(tc.want) {
			t.Errorf("After(%v) sent %v, want %v", tc.wait, got, tc.want)
		}
	}
	if got := c.Now(); !got.Equal(at) {
		t.Errorf("Now is %v, want %v", got, at)
	}
}
