package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/salvor-dr/salvor/internal/store"
)

// abortTimeout bounds dropping an upload, which is also tried when the context
// that it belongs to is done.
const (
	abortTimeout = 30 * time.Second
	abortRounds  = 3
)

// errDropped stops the parts of an upload that is not wanted any more.
var errDropped = errors.New("the upload is dropped")

var errAbortTimeout = fmt.Errorf("dropping it took more than %s", abortTimeout)

// upload is a multipart upload: parts go up side by side, a few at once, and the
// object appears when it is completed.
type upload struct {
	s      *Store
	key    string
	id     *string
	put    func(number int32, body *buffer) error // one part, with the upload's context
	cancel context.CancelCauseFunc
	slots  chan struct{} // one for each part under way
	wg     sync.WaitGroup

	mu     sync.Mutex
	parts  []types.CompletedPart // the place of part n is n-1
	failed error
}

// newUpload asks for an upload.
func (s *Store) newUpload(ctx context.Context, key, token string) (*upload, error) {
	in := &s3.CreateMultipartUploadInput{
		Bucket: s.bucket(), Key: s.keyIn(key), ContentType: aws.String("application/octet-stream"),
		Metadata: map[string]string{tokenName: token},
	}
	if s.o.Checksum == CRC32C {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32c
	}
	var out *s3.CreateMultipartUploadOutput
	err := s.try(ctx, func(ctx context.Context) (err error) {
		out, err = s.client.CreateMultipartUpload(ctx, in)
		return err
	})
	if err != nil {
		return nil, err
	}
	if aws.ToString(out.UploadId) == "" {
		return nil, errors.New("the place gave the upload no id")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	u := &upload{s: s, key: key, id: out.UploadId, cancel: cancel, slots: make(chan struct{}, s.o.PartsInFlight)}
	u.put = func(number int32, body *buffer) error { return u.putPart(ctx, number, body) }
	return u, nil
}

// send starts to upload a part, when there is room for one more under way. The
// buffer is the upload's from then on. An error is that of an earlier part.
func (u *upload) send(body *buffer) error {
	u.slots <- struct{}{} // each part ends by itself, within the bounds of its requests
	u.mu.Lock()
	err := u.failed
	if err == nil && len(u.parts) == partsMax {
		err = fmt.Errorf("%w: %d parts of %d bytes", errTooManyParts, partsMax, u.s.o.PartSize)
	}
	u.parts = append(u.parts, types.CompletedPart{})
	number := int32(len(u.parts))
	u.mu.Unlock()
	if err != nil {
		<-u.slots
		return err
	}
	u.wg.Go(func() {
		defer func() { <-u.slots }()
		err := u.put(number, body)
		body.free()
		if err != nil {
			u.fail(fmt.Errorf("part %d: %w", number, err))
		}
	})
	return nil
}

// fail keeps the first error, and stops the other parts.
func (u *upload) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failed == nil {
		u.failed = err
		u.cancel(errDropped)
	}
}

func (u *upload) putPart(ctx context.Context, number int32, b *buffer) error {
	sums := b.sums(u.s.o.Checksum)
	var out *s3.UploadPartOutput
	err := u.s.try(ctx, func(ctx context.Context) (err error) {
		body := b.reader()
		defer body.revoke()
		out, err = u.s.client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: u.s.bucket(), Key: u.s.keyIn(u.key), UploadId: u.id, PartNumber: aws.Int32(number),
			Body: body, ContentLength: aws.Int64(int64(b.size)),
			ChecksumCRC32C: sums.crc32c, ContentMD5: sums.md5,
		})
		return err
	})
	if err != nil {
		return err
	}
	if aws.ToString(out.ETag) == "" {
		return errNoETag
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.parts[number-1] = types.CompletedPart{PartNumber: aws.Int32(number), ETag: out.ETag, ChecksumCRC32C: sums.crc32c}
	return nil
}

// wait waits for all parts.
func (u *upload) wait() ([]types.CompletedPart, error) {
	u.wg.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.parts), u.failed
}

// complete publishes the object of a writer's upload. The place's word for it is
// checked: versitygw calls it a success when the upload is gone and any object is
// there, or when an earlier request is still at work.
func (w *writer) complete(ctx context.Context, parts []types.CompletedPart) (store.Object, error) {
	in := &s3.CompleteMultipartUploadInput{
		Bucket: w.s.bucket(), Key: w.s.keyIn(w.key), UploadId: w.upload.id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}
	in.IfMatch, in.IfNoneMatch = w.condition()
	o, err := w.publish(ctx, func(ctx context.Context) (store.Object, error) {
		if _, err := w.s.client.CompleteMultipartUpload(ctx, in); err != nil {
			return store.Object{}, err
		}
		h, err := w.s.headOnce(ctx, w.key)
		if statusOf(err) == http.StatusNotFound || err == nil && h.token != w.token {
			return store.Object{}, fmt.Errorf("%w: the place says that the upload is complete, and the object there now is not this one", store.ErrUnavailable)
		}
		return h.Object, err
	})
	if err != nil {
		return store.Object{}, err
	}
	w.upload.cancel(nil)
	return o, nil
}

// abort drops the upload with its parts. One that is gone is fine. Parts under way
// are waited for: one whose request was cut may arrive after the upload was dropped,
// and would stay (Amazon S3 API Reference, AbortMultipartUpload). When they were cut
// all the same, because the context is done, what has come is dropped again; what
// comes later still is left to RemoveTemporary.
func (u *upload) abort(ctx context.Context) error {
	u.wg.Wait()
	u.cancel(errDropped)
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), abortTimeout, errAbortTimeout)
	defer cancel()
	key := aws.String(u.s.prefix + u.key)
	for range abortRounds {
		if err := u.s.abortUpload(ctx, key, u.id); err != nil {
			return err
		}
		_, err := u.s.client.ListParts(ctx, &s3.ListPartsInput{Bucket: u.s.bucket(), Key: key, UploadId: u.id, MaxParts: aws.Int32(1)})
		if err != nil && codeOf(err) != noSuchUpload {
			return classify(ctx, err)
		}
		if err != nil {
			return nil
		}
	}
	return fmt.Errorf("it was dropped %d times and is still there", abortRounds)
}

func (s *Store) abortUpload(ctx context.Context, keyInBucket, id *string) error {
	err := s.try(ctx, func(ctx context.Context) error {
		_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: s.bucket(), Key: keyInBucket, UploadId: id})
		return err
	})
	if codeOf(err) == noSuchUpload {
		return nil
	}
	return err
}
