package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time. It is written as Go writes one, with d for
// days of 24 hours in front: 90s, 1h30m, 14d, 1d12h.
type Duration time.Duration

const day = 24 * time.Hour

// ParseDuration reads a duration. Negative ones are refused.
func ParseDuration(s string) (Duration, error) {
	rest, days := s, int64(0)
	if head, tail, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(head, 10, 32)
		if err != nil || n > uint64(math.MaxInt64/day) {
			return 0, badDuration(s)
		}
		rest, days = tail, int64(n)
	}
	var d time.Duration
	if rest != "" || s == "" {
		var err error
		// ParseDuration would take signs and fractions without a digit.
		if rest == "" || rest[0] < '0' || rest[0] > '9' {
			return 0, badDuration(s)
		}
		if d, err = time.ParseDuration(rest); err != nil {
			return 0, badDuration(s)
		}
	}
	if d > math.MaxInt64-time.Duration(days)*day {
		return 0, badDuration(s)
	}
	return Duration(time.Duration(days)*day + d), nil
}

func badDuration(s string) error {
	return fmt.Errorf("%q is not a duration: want a number with a unit, as 30s, 5m, 12h, 7d or 1h30m", s)
}

// String gives the duration exactly, in the shortest form that ParseDuration
// reads back: 1m, 14d, 1d12h.
func (d Duration) String() string {
	if d < 0 {
		return time.Duration(d).String()
	}
	var b strings.Builder
	if n := time.Duration(d) / day; n > 0 {
		fmt.Fprintf(&b, "%dd", n)
	}
	if rest := time.Duration(d) % day; rest > 0 {
		s := rest.String()
		if strings.HasSuffix(s, "m0s") {
			s = strings.TrimSuffix(s, "0s")
		}
		if strings.HasSuffix(s, "h0m") {
			s = strings.TrimSuffix(s, "0m")
		}
		b.WriteString(s)
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}
