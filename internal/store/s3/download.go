package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/salvor-dr/salvor/internal/store"
)

// progress is how many bytes a body must deliver for its breaking off to be
// counted anew. Less, and a connection that is cut again and again would be
// followed for ever.
const progress = 1 << 20

// Open reads a range of an object. When the body breaks off, another request goes
// on where it ended, as long as the object is the same.
func (s *Store) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	const doing = "opening"
	if err := s.begin(ctx, doing, key); err != nil {
		return nil, err
	}
	r, err := s.open(ctx, key, offset, length)
	if err != nil {
		return nil, s.fail(doing, key, err)
	}
	return r, nil
}

func (s *Store) open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 {
		return nil, fmt.Errorf("%w: offset %d", store.ErrRange, offset)
	}
	if length == 0 {
		return s.outside(ctx, key, offset, length)
	}
	d := &download{s: s, key: key, at: offset, counted: offset}
	d.context = func() context.Context { return ctx }
	err := s.try(ctx, func(ctx context.Context) error { return d.request(ctx, offset, length) })
	if errors.Is(err, store.ErrRange) {
		return s.outside(ctx, key, offset, length)
	}
	if err != nil {
		return nil, err
	}
	want := length
	if length < 0 {
		want = d.end - offset
	}
	return store.NewRangeReader(ctx, d, want, d.close), nil
}

// outside answers for a range without a byte in it, which HTTP cannot ask for: it
// is empty at the object's end, and an error beyond.
func (s *Store) outside(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	h, err := s.head(ctx, key)
	if err != nil {
		return nil, err
	}
	have, want, err := store.Range(h.Size, offset, length)
	if err != nil {
		return nil, err
	}
	if have > 0 && length != 0 {
		return nil, fmt.Errorf("%w: it has %d bytes, and the place refuses to read from %d", store.ErrUnavailable, h.Size, offset)
	}
	return store.NewRangeReader(ctx, strings.NewReader(""), want, nil), nil
}

// download is the body of a range, over one request or several.
type download struct {
	s       *Store
	key     string
	context func() context.Context // Open's, which governs the reader to its end

	body    io.ReadCloser
	etag    *string // of the object that was opened
	at, end int64   // in the object: the next byte, and behind the last one
	broken  error   // what the last read ended with

	counted  int64 // where the counting of failures began
	failures int
}

// request asks for the range from at, and checks that the reply is that range.
func (d *download) request(ctx context.Context, offset, length int64) error {
	in := &s3.GetObjectInput{Bucket: d.s.bucket(), Key: d.s.keyIn(d.key), IfMatch: d.etag, Range: rangeHeader(offset, length)}
	out, err := d.s.client.GetObject(ctx, in)
	if err != nil {
		return err
	}
	end, err := checkRange(out, in.Range != nil, offset, length)
	if err == nil && d.etag != nil && (aws.ToString(out.ETag) != *d.etag || end != d.end) {
		err = fmt.Errorf("%w while it was read: %s is now %s", store.ErrChanged, *d.etag, aws.ToString(out.ETag))
	}
	if err == nil && aws.ToString(out.ETag) == "" {
		err = errNoETag
	}
	if err != nil {
		_ = out.Body.Close() // nothing of it is wanted
		return err
	}
	d.body, d.etag, d.end = out.Body, out.ETag, end
	return nil
}

// rangeHeader is nil for a whole object, since an empty one has no ranges.
func rangeHeader(offset, length int64) *string {
	switch {
	case offset == 0 && length < 0:
		return nil
	case length < 0 || length > math.MaxInt64-offset:
		return aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	return aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
}

// checkRange says where the range of a reply ends, and refuses one that is not what
// was asked for, or of unknown length: a body that ends early would pass for whole.
func checkRange(out *s3.GetObjectOutput, ranged bool, offset, length int64) (end int64, err error) {
	if out.ContentLength == nil || *out.ContentLength < 0 {
		return 0, fmt.Errorf("the place did not say how long the body is")
	}
	n := *out.ContentLength
	header := aws.ToString(out.ContentRange)
	if header == "" && (!ranged || offset == 0 && n <= length) {
		return offset + n, nil // the whole object, which is all of the range
	}
	first, last, size, ok := parseContentRange(header)
	switch {
	case !ok || !ranged:
		return 0, fmt.Errorf("the place answered with the range %q and %d bytes", header, n)
	case first != offset, last-first+1 != n, last >= size,
		length >= 0 && n > length,                    // more than was asked for
		(length < 0 || n < length) && last != size-1: // less, and not at the end
		return 0, fmt.Errorf("%d bytes from %d were asked for, and the place answered with the range %q and %d bytes", length, offset, header, n)
	}
	return last + 1, nil
}

// parseContentRange reads "bytes 3-7/20" (RFC 9110, section 14.4).
func parseContentRange(text string) (first, last, size int64, ok bool) {
	text, ok = strings.CutPrefix(text, "bytes ")
	span, total, ok2 := strings.Cut(text, "/")
	from, to, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, 0, false
	}
	for _, f := range []struct {
		text string
		into *int64
	}{{from, &first}, {to, &last}, {total, &size}} {
		n, err := strconv.ParseUint(f.text, 10, 63)
		if err != nil {
			return 0, 0, 0, false
		}
		*f.into = int64(n)
	}
	return first, last, size, first <= last
}

// Read reads the next bytes of the range, and io.EOF behind its end.
func (d *download) Read(p []byte) (int, error) {
	for len(p) > 0 {
		if d.at == d.end {
			return 0, io.EOF
		}
		if d.broken != nil {
			if err := d.resume(); err != nil {
				return 0, d.s.fail("reading", d.key, err)
			}
		}
		n, err := d.body.Read(p[:min(int64(len(p)), d.end-d.at)])
		d.at += int64(n)
		d.broken = err
		if n > 0 {
			return n, nil
		}
	}
	return 0, nil
}

// resume goes on with another request, after a pause that grows with the failures.
func (d *download) resume() error {
	ctx := d.context()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	_ = d.body.Close() // it has failed already
	if d.at-d.counted >= progress {
		d.counted, d.failures = d.at, 0
	}
	d.failures++
	why := fmt.Errorf("%w: the body broke off before byte %d of %d: %w", store.ErrUnavailable, d.at, d.end, cut(d.broken))
	policy := d.s.o.Retry
	if d.failures >= policy.Attempts {
		return fmt.Errorf("%w (%d times)", why, d.failures)
	}
	pause := policy.Jitter(min(policy.Pause<<min(d.failures-1, 20), policy.PauseMax))
	policy.Repeating(d.s.fail("reading", d.key, why), pause)
	if err := d.pause(ctx, pause); err != nil {
		return errors.Join(err, why)
	}
	err := d.s.try(ctx, func(ctx context.Context) error { return d.request(ctx, d.at, d.end-d.at) })
	switch {
	case errors.Is(err, store.ErrChanged), errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrRange):
		return &changedError{err} // it was replaced or deleted; what was opened is not absent
	case err != nil:
		return fmt.Errorf("%w; then: %w", why, err)
	}
	d.broken = nil
	return nil
}

// cut makes io.ErrUnexpectedEOF of an end that comes too early.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w (%w)", io.ErrUnexpectedEOF, err)
}

// changedError says that the object an open reader reads is not there any more.
type changedError struct{ last error }

func (e *changedError) Error() string {
	return "the object changed while it was read: " + e.last.Error()
}
func (e *changedError) Unwrap() error { return store.ErrChanged }

func (d *download) pause(ctx context.Context, wait time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-d.s.o.Retry.Clock.After(wait):
		return nil
	}
}

func (d *download) close() error {
	if err := d.body.Close(); err != nil {
		return d.s.fail("closing", d.key, err)
	}
	return nil
}
