package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
)

func TestRangeReader(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	closed := 0
	r := NewRangeReader(ctx, strings.NewReader("hello"), 5, func() error { closed++; return nil })
	if data, err := io.ReadAll(r); string(data) != "hello" || err != nil {
		t.Errorf("read %q, %v", data, err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d, %v", n, err)
	}
	if r.Close() != nil || r.Close() != nil || closed != 1 {
		t.Errorf("the source was closed %d times", closed)
	}

	r = NewRangeReader(ctx, strings.NewReader("hello"), 7, nil)
	if data, err := io.ReadAll(r); string(data) != "hello" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a cut range: %q, %v", data, err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the error of a cut range does not stay: %v", err)
	}

	r = NewRangeReader(ctx, strings.NewReader("hello"), 3, nil)
	if data, err := io.ReadAll(iotest.OneByteReader(r)); string(data) != "hel" || err != nil {
		t.Errorf("a range within: %q, %v", data, err)
	}

	r = NewRangeReader(ctx, strings.NewReader("hello"), 5, nil)
	cancel()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("a done context: %v", err)
	}
}

func TestRange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ size, offset, length, have, want int64 }{
		{10, 0, -1, 10, 10}, {10, 4, -1, 6, 6}, {10, 4, 3, 3, 3}, {10, 4, 7, 6, 7},
		{10, 10, -1, 0, 0}, {10, 10, 0, 0, 0}, {10, 10, 1, 0, 1}, {0, 0, -1, 0, 0},
		{10, 4, math.MaxInt64, 6, math.MaxInt64},
	} {
		have, want, err := Range(c.size, c.offset, c.length)
		if have != c.have || want != c.want || err != nil {
			t.Errorf("%+v: %d, %d, %v", c, have, want, err)
		}
	}
	for _, offset := range []int64{-1, 11, math.MaxInt64, math.MinInt64} {
		if _, _, err := Range(10, offset, 1); !errors.Is(err, ErrRange) {
			t.Errorf("offset %d: %v", offset, err)
		}
	}
}

// Readers that do not say how much they hold are read to the limit and no
// further.
func TestReadAll(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 511, 512, 513, 100_000} {
		data := bytes.Repeat([]byte("x"), size)
		for _, max := range []int64{int64(size), int64(size) + 1, math.MaxInt64} {
			got, err := readAll(iotest.HalfReader(bytes.NewReader(data)), max)
			if !bytes.Equal(got, data) || err != nil {
				t.Errorf("%d bytes, at most %d: got %d, %v", size, max, len(got), err)
			}
		}
		if size > 0 {
			if _, err := readAll(bytes.NewReader(data), int64(size)-1); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%d bytes, at most one less: %v", size, err)
			}
		}
	}
	broken := iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("hello")))
	if _, err := readAll(broken, 10); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("a broken reader: %v", err)
	}
}

func TestCreateOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []CreateOptions{{}, {IfAbsent: true}, {IfMatch: "v"}} {
		if err := o.Validate(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if (CreateOptions{IfAbsent: true, IfMatch: "v"}).Validate() == nil {
		t.Error("a condition that can never hold was accepted")
	}
}
