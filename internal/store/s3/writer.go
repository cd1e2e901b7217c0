package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"github.com/salvor-dr/salvor/internal/store"
)

// tokenName is the metadata in which each object tells which writer wrote it
// (x-amz-meta-salvor-write), so that one whose reply was lost finds its own.
const tokenName = "salvor-write"

// Create starts an object. Nothing is sent before Commit, or more than a part.
func (s *Store) Create(ctx context.Context, key string, o store.CreateOptions) (store.Writer, error) {
	if err := s.begin(ctx, "creating", key); err != nil {
		return nil, err
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &writer{s: s, key: key, o: o, token: rand.Text(), ctx: func() context.Context { return ctx }, part: s.buffer()}, nil
}

func (s *Store) buffer() *buffer { return &buffer{pool: &s.blocks} }

// writer is an object being written.
type writer struct {
	s     *Store
	key   string
	o     store.CreateOptions
	token string
	ctx   func() context.Context // Create's, which governs the writer to its end

	part   *buffer // what was not sent yet
	size   int64   // of what was sent
	upload *upload // nil while the object fits into one request
	failed error
	ended  bool
}

// Write adds bytes. It waits while as many parts as are allowed are under way.
func (w *writer) Write(p []byte) (int, error) {
	const doing = "writing"
	if w.ended {
		return 0, w.s.fail(doing, w.key, store.ErrEnded)
	}
	if w.failed != nil {
		return 0, w.failed
	}
	if err := context.Cause(w.ctx()); err != nil {
		w.failed = w.s.fail(doing, w.key, err)
		return 0, w.failed
	}
	done := 0
	for done < len(p) {
		if w.part.size == w.s.o.PartSize {
			if err := w.send(); err != nil {
				w.failed = w.s.fail(doing, w.key, err)
				return done, w.failed
			}
		}
		done += w.part.write(p[done:], w.s.o.PartSize)
	}
	return done, nil
}

// send starts to upload what is buffered, as a part.
func (w *writer) send() error {
	if w.upload == nil {
		var err error
		if w.upload, err = w.s.newUpload(w.ctx(), w.key, w.token); err != nil {
			return err
		}
	}
	size := w.part.size
	if err := w.upload.send(w.part); err != nil {
		return err
	}
	w.size += int64(size)
	w.part = w.s.buffer() // the other one is the upload's now
	return nil
}

// Commit publishes the object: by one PUT, or by completing its upload.
func (w *writer) Commit() (store.Object, error) {
	const doing = "committing"
	if w.ended {
		return store.Object{}, w.s.fail(doing, w.key, store.ErrEnded)
	}
	ctx := w.ctx()
	o, err := store.Object{}, w.failed
	if err == nil {
		if err = context.Cause(ctx); err == nil {
			o, err = w.commit(ctx)
		}
		if err != nil {
			err = w.s.fail(doing, w.key, err)
		}
	}
	if err != nil {
		_ = w.Abort() // the first error is the one that tells
		return store.Object{}, err
	}
	w.ended = true
	w.part.free()
	return o, nil
}

func (w *writer) commit(ctx context.Context) (store.Object, error) {
	if w.upload == nil && !w.s.multipart {
		return w.put(ctx)
	}
	if w.part.size > 0 || w.upload == nil {
		if err := w.send(); err != nil {
			return store.Object{}, err
		}
	}
	parts, err := w.upload.wait()
	if err != nil {
		return store.Object{}, err
	}
	return w.complete(ctx, parts)
}

// Abort drops the object, and the parts of it that were sent.
func (w *writer) Abort() error {
	if w.ended {
		return nil
	}
	w.ended = true
	w.part.free()
	if w.upload == nil {
		return nil
	}
	if err := w.upload.abort(w.ctx()); err != nil {
		return w.s.fail("dropping the upload of", w.key, err)
	}
	return nil
}

// condition is the headers that the publishing depends on.
func (w *writer) condition() (ifMatch, ifNoneMatch *string) {
	switch {
	case w.o.IfAbsent:
		return nil, aws.String("*")
	case w.o.IfMatch != "":
		return etagOf(w.o.IfMatch), nil
	}
	return nil, nil
}

// put publishes a small object.
func (w *writer) put(ctx context.Context) (store.Object, error) {
	sums := w.part.sums(w.s.o.Checksum)
	w.size = int64(w.part.size)
	return w.publish(ctx, func(ctx context.Context) (store.Object, error) {
		body := w.part.reader()
		defer body.revoke()
		in := &s3.PutObjectInput{
			Bucket: w.s.bucket(), Key: w.s.keyIn(w.key),
			Body: body, ContentLength: aws.Int64(w.size), ContentType: aws.String("application/octet-stream"),
			ChecksumCRC32C: sums.crc32c, ContentMD5: sums.md5,
			Metadata: map[string]string{tokenName: w.token},
		}
		in.IfMatch, in.IfNoneMatch = w.condition()
		out, err := w.s.client.PutObject(ctx, in)
		if err != nil {
			return store.Object{}, err
		}
		return w.made(out.ETag, out.ResultMetadata)
	})
}

// publish makes the request that publishes the object. It is repeated when the
// place may do it the next time; then an earlier one may have done it, though its
// reply was lost, and is now itself what breaks the condition. So after a lost
// reply the object that is there is looked at.
func (w *writer) publish(ctx context.Context, request func(context.Context) (store.Object, error)) (made store.Object, err error) {
	lost := false
	var cut error // the last request's, if the connection broke
	err = w.s.try(ctx, func(ctx context.Context) error {
		if cut != nil && (w.o.IfAbsent || w.o.IfMatch != "") {
			var known bool
			if made, known, err = w.look(ctx, cut); known || err != nil {
				return err
			}
		}
		made, err = request(ctx)
		if cut = nil; err != nil && statusOf(err) == 0 && !ofKind(err) {
			cut = err
		}
		switch {
		case !refused(err):
			lost = lost || err != nil && !answered(err)
			return err
		case !lost && codeOf(err) != noSuchUpload:
			return w.kind(err)
		}
		made, err = w.settle(ctx, lost, err)
		return err
	})
	return made, err
}

const noSuchUpload = "NoSuchUpload"

// refused says whether the condition was broken, or the upload is gone.
func refused(err error) bool {
	return statusOf(err) == http.StatusPreconditionFailed || codeOf(err) == "PreconditionFailed" ||
		codeOf(err) == "NoSuchKey" || codeOf(err) == noSuchUpload
}

// kind is the contract's word for a condition that was broken. Where there is no
// object for IfMatch the place says NoSuchKey.
func (w *writer) kind(err error) error {
	switch {
	case w.o.IfAbsent:
		return fmt.Errorf("%w: %w", store.ErrExists, err)
	case w.o.IfMatch != "":
		return fmt.Errorf("%w: %w", store.ErrChanged, err)
	}
	return fmt.Errorf("there was no condition to break: %w", err)
}

// look says whether it is known what became of the object, after a connection broke.
// It comes before the next request, which may break in the same way for ever: a place
// that refuses a body which it has not read yet closes the connection, and the reset
// that follows may overtake the reply (RFC 9112, section 9.6).
func (w *writer) look(ctx context.Context, cut error) (made store.Object, known bool, err error) {
	h, err := w.s.headOnce(ctx, w.key)
	switch {
	case err == nil && h.token == w.token:
		return h.Object, true, nil
	case err == nil && (w.o.IfAbsent || h.Version != w.o.IfMatch):
		return store.Object{}, true, &lostError{cut}
	case err != nil && statusOf(err) != http.StatusNotFound:
		return store.Object{}, false, err
	}
	return store.Object{}, false, nil
}

// settle finds out what became of the object.
func (w *writer) settle(ctx context.Context, lost bool, why error) (store.Object, error) {
	h, err := w.s.headOnce(ctx, w.key)
	there := err == nil
	switch {
	case there && h.token == w.token:
		return h.Object, nil // an earlier request did it
	case !there && statusOf(err) != http.StatusNotFound:
		return store.Object{}, err
	case lost:
		return store.Object{}, &lostError{why}
	case w.o.IfAbsent && there, w.o.IfMatch != "" && (!there || h.Version != w.o.IfMatch):
		return store.Object{}, w.kind(why)
	}
	return store.Object{}, fmt.Errorf("somebody has dropped the upload, so nothing was published: %w", why)
}

// lostError says that it is not known whether the object was ever there. It hides
// the cause's kind, for that would say that it was not.
type lostError struct{ last error }

func (e *lostError) Error() string {
	return "the reply to an earlier request was lost, and the object there now is not this one: " +
		"it was replaced, or never there (" + e.last.Error() + ")"
}

// made describes the object that was just published. A PUT is not told the time
// that the place writes down, but the time of its reply is by the same clock.
func (w *writer) made(etag *string, md middleware.Metadata) (store.Object, error) {
	o := store.Object{Key: w.key, Size: w.size, Version: versionOf(etag)}
	if o.Version == "" {
		return store.Object{}, errNoETag
	}
	now, ok := awsmiddleware.GetServerTime(md)
	if !ok {
		now = w.s.o.Retry.Clock.Now()
	}
	o.ModTime = now.UTC().Truncate(time.Second)
	return o, nil
}

var errTooManyParts = errors.New("it is larger than an upload may be")
