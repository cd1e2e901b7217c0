package store

import (
	"context"
	"fmt"
	"io"
	"math"
)

// Put writes data as one object: Create, Write and Commit in one, and Abort
// where something fails. The errors are those of Commit.
func Put(ctx context.Context, s Store, key string, data []byte, o CreateOptions) (Object, error) {
	w, err := s.Create(ctx, key, o)
	if err != nil {
		return Object{}, err
	}
	n, err := w.Write(data)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	if err != nil {
		_ = w.Abort() // the first error is the one that tells
		return Object{}, fmt.Errorf("writing %s to %s: %w", key, s, err)
	}
	return w.Commit()
}

// Get reads a whole object that is expected to be small. One that is larger
// than max bytes is ErrTooLarge, and no more than that is held in memory.
func Get(ctx context.Context, s Store, key string, max int64) ([]byte, error) {
	r, err := s.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	data, err := readAll(r, max)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s from %s: %w", key, s, err)
	}
	return data, nil
}

func readAll(r io.Reader, max int64) ([]byte, error) {
	max = min(max, math.MaxInt64-1)
	size := int64(512)
	if known, ok := r.(interface{ Remaining() int64 }); ok {
		size = known.Remaining()
		if size > max {
			return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, max)
		}
	}
	// One byte more than the object has, so that the read which meets the end
	// needs no larger buffer.
	buf := make([]byte, 0, min(size, max)+1)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > max:
			return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, max)
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, err
		}
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(int64(2*cap(buf)), max+1))
			copy(grown, buf)
			buf = grown
		}
	}
}
