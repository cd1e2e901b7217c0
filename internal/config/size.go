package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. It is written as a plain number or with a unit:
// B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024), in
// any case.
type Size int64

type sizeUnit struct {
	name  string
	bytes int64
}

// sizeUnits are in the order in which String tries them.
func sizeUnits() []sizeUnit {
	return []sizeUnit{
		{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9},
		{"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"kB", 1e3}, {"B", 1},
	}
}

// ParseSize reads a size.
func ParseSize(s string) (Size, error) {
	digits := 0
	for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		digits++
	}
	wrong := fmt.Errorf("%q is not a size: want bytes as a whole number, or with a unit, as 10MB or 64MiB", s)
	if digits == 0 {
		return 0, wrong
	}
	n, err := strconv.ParseInt(s[:digits], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is more than fits into a size", s)
	}
	unit := strings.TrimSpace(s[digits:])
	if unit == "" {
		return Size(n), nil
	}
	for _, u := range sizeUnits() {
		if !strings.EqualFold(u.name, unit) {
			continue
		}
		if n > math.MaxInt64/u.bytes {
			return 0, fmt.Errorf("%q is more than fits into a size", s)
		}
		return Size(n * u.bytes), nil
	}
	return 0, wrong
}

// String gives the size exactly, with the largest unit that divides it.
// ParseSize reads it back.
func (s Size) String() string {
	for _, u := range sizeUnits() {
		if s != 0 && int64(s)%u.bytes == 0 && u.bytes > 1 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(b []byte) error {
	v, err := ParseSize(string(b))
	if err != nil {
		return err
	}
	*s = v
	return nil
}
