package storetest

import (
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/salvor-dr/salvor/internal/store"
)

func (*suite) testRanges(t *testing.T, s store.Store) {
	const size = 100_000
	data := noise(3, size)
	put(t, s, "k", string(data))
	put(t, s, "empty", "")

	for _, c := range []struct {
		key            string
		offset, length int64
		want           []byte
		kind           error // of the reading
	}{
		{"k", 0, -1, data, nil},
		{"k", 0, size, data, nil},
		{"k", 10, 20, data[10:30], nil},
		{"k", size - 1, 1, data[size-1:], nil},
		{"k", size - 1, -1, data[size-1:], nil},
		{"k", 5, 0, nil, nil},
		{"k", size, 0, nil, nil},
		{"k", size, -1, nil, nil},
		{"k", 0, size + 1, data, io.ErrUnexpectedEOF},
		{"k", size - 5, 6, data[size-5:], io.ErrUnexpectedEOF},
		{"k", size, 1, nil, io.ErrUnexpectedEOF},
		{"k", 1, math.MaxInt64, data[1:], io.ErrUnexpectedEOF},
		{"empty", 0, -1, nil, nil},
		{"empty", 0, 0, nil, nil},
		{"empty", 0, 1, nil, io.ErrUnexpectedEOF},
	} {
		got, err := readRange(t, s, c.key, c.offset, c.length)
		if string(got) != string(c.want) || !errors.Is(err, c.kind) {
			t.Errorf("%s from %d, %d bytes: got %d bytes, %v; want %d, %v",
				c.key, c.offset, c.length, len(got), err, len(c.want), c.kind)
		}
	}
	for _, offset := range []int64{-1, size + 1, math.MaxInt64, math.MinInt64} {
		for _, length := range []int64{-1, 0, 1} {
			_, err := s.Open(t.Context(), "k", offset, length)
			want(t, "Open outside of the object", err, store.ErrRange)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		from := rng.Int64N(size)
		n := rng.Int64N(size - from + 1)
		got, err := readRange(t, s, "k", from, n)
		if string(got) != string(data[from:from+n]) || err != nil {
			t.Errorf("from %d, %d bytes: got %d bytes, %v", from, n, len(got), err)
		}
	}
}

func readRange(t *testing.T, s store.Store, key string, offset, length int64) ([]byte, error) {
	t.Helper()
	r, err := s.Open(t.Context(), key, offset, length)
	must(t, err)
	got, err := io.ReadAll(r)
	must(t, r.Close())
	return got, err
}
