package store

import (
	"context"
	"fmt"
	"io"
)

// RangeReader makes the promise of Store.Open true over a source of bytes: it
// delivers exactly the number of bytes that was asked for and then io.EOF, and
// io.ErrUnexpectedEOF where the source ends before. For backends.
type RangeReader struct {
	source   io.Reader
	close    func() error
	cause    func() error
	left     int64
	finished error
}

// NewRangeReader reads want bytes from source. Close calls close, once. Each
// Read fails with ctx's error when ctx is done.
func NewRangeReader(ctx context.Context, source io.Reader, want int64, close func() error) *RangeReader {
	return &RangeReader{source: source, close: close, left: want,
		cause: func() error { return context.Cause(ctx) }}
}

// Remaining is the number of bytes still to come.
func (r *RangeReader) Remaining() int64 { return r.left }

// Read reads up to len(p) bytes.
func (r *RangeReader) Read(p []byte) (int, error) {
	if r.finished != nil {
		return 0, r.finished
	}
	if err := r.cause(); err != nil {
		return 0, err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.source.Read(p)
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = fmt.Errorf("%d bytes are missing: %w", r.left, io.ErrUnexpectedEOF)
	} else if err == io.EOF {
		err = nil // the next Read says it, in one way for every backend
	}
	r.finished = err
	return n, err
}

// Close frees the source.
func (r *RangeReader) Close() error {
	if r.close == nil {
		return nil
	}
	close := r.close
	r.close = nil
	return close()
}

// Range judges the range of an Open against the object's size. It returns how
// many bytes are there of it and how many the reader must deliver: want is the
// larger where the object's end cuts the range. A length < 0 reaches to the
// end. The error is ErrRange. For backends that know the size first.
func Range(size, offset, length int64) (have, want int64, err error) {
	if offset < 0 || offset > size {
		return 0, 0, fmt.Errorf("%w: offset %d, size %d", ErrRange, offset, size)
	}
	if length < 0 {
		return size - offset, size - offset, nil
	}
	return min(length, size-offset), length, nil
}
