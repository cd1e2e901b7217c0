package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/salvor-dr/salvor/internal/store"
)

// Delete removes an object. A version is compared by the place (If-Match), in one
// step with the deleting. It is compared here too, before that: some places,
// versitygw among them, call the deleting of nothing a success whatever the
// condition.
func (s *Store) Delete(ctx context.Context, key string, match store.Version) error {
	const doing = "deleting"
	if err := s.begin(ctx, doing, key); err != nil {
		return err
	}
	err := s.remove(ctx, key, match)
	if err != nil {
		return s.fail(doing, key, err)
	}
	return nil
}

func (s *Store) remove(ctx context.Context, key string, match store.Version) error {
	if match == "" {
		return s.try(ctx, func(ctx context.Context) error {
			_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: s.bucket(), Key: s.keyIn(key)})
			if codeOf(err) == "NoSuchKey" {
				return nil
			}
			return err
		})
	}
	here, err := s.head(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%w: there is none", store.ErrChanged)
	case err != nil:
		return err
	case here.Version != match:
		return fmt.Errorf("%w: it is %s, not %s", store.ErrChanged, here.Version, match)
	}
	lost := false
	return s.try(ctx, func(ctx context.Context) error {
		err := s.deleteIf(ctx, key, match)
		if lost && (statusOf(err) == http.StatusPreconditionFailed || errors.Is(err, store.ErrChanged)) {
			return &lostDeleteError{err}
		}
		lost = lost || err != nil && !answered(err)
		return err
	})
}

// deleteIf is the place's own conditional delete.
func (s *Store) deleteIf(ctx context.Context, key string, match store.Version) error {
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: s.bucket(), Key: s.keyIn(key), IfMatch: etagOf(match)})
	if codeOf(err) == "NoSuchKey" {
		return fmt.Errorf("%w: %w", store.ErrChanged, err)
	}
	return err
}

// lostDeleteError says that it is not known who removed a version.
type lostDeleteError struct{ last error }

func (e *lostDeleteError) Error() string {
	return "the reply to an earlier request was lost, and that version is not there any more: " +
		"it was deleted by us or by another (" + e.last.Error() + ")"
}

// RemoveTemporary drops the uploads that killed writers left behind. Nothing shows
// them, but their parts are paid for.
func (s *Store) RemoveTemporary(ctx context.Context, olderThan time.Duration, now time.Time) (n int, bytes int64, err error) {
	before := now.Add(-olderThan)
	in := &s3.ListMultipartUploadsInput{Bucket: s.bucket(), Prefix: aws.String(s.prefix)}
	for {
		var out *s3.ListMultipartUploadsOutput
		err := s.try(ctx, func(ctx context.Context) (err error) {
			out, err = s.client.ListMultipartUploads(ctx, in)
			return err
		})
		if err != nil {
			return n, bytes, s.fail("listing uploads", "*", err)
		}
		for _, u := range out.Uploads {
			size, dropped, err := s.dropUpload(ctx, u, before)
			if err != nil {
				return n, bytes, s.fail("dropping an upload of", aws.ToString(u.Key), err)
			}
			if dropped {
				n, bytes = n+1, bytes+size
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return n, bytes, nil
		}
		if aws.ToString(out.NextKeyMarker) == "" || aws.ToString(out.NextKeyMarker) == aws.ToString(in.KeyMarker) &&
			aws.ToString(out.NextUploadIdMarker) == aws.ToString(in.UploadIdMarker) {
			return n, bytes, s.fail("listing uploads", "*", errors.New("the place says that there is more, and not how to get it"))
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}

// dropUpload drops an upload of which nothing was begun or written after a time.
func (s *Store) dropUpload(ctx context.Context, u types.MultipartUpload, before time.Time) (bytes int64, dropped bool, err error) {
	last := aws.ToTime(u.Initiated)
	if last.After(before) {
		return 0, false, nil
	}
	in := &s3.ListPartsInput{Bucket: s.bucket(), Key: u.Key, UploadId: u.UploadId}
	for more := true; more; {
		var out *s3.ListPartsOutput
		err := s.try(ctx, func(ctx context.Context) (err error) {
			out, err = s.client.ListParts(ctx, in)
			return err
		})
		if codeOf(err) == noSuchUpload {
			return 0, false, nil // it was completed or dropped meanwhile
		}
		if err != nil {
			return 0, false, err
		}
		for _, p := range out.Parts {
			bytes += aws.ToInt64(p.Size)
			if t := aws.ToTime(p.LastModified); t.After(last) {
				last = t
			}
		}
		more = aws.ToBool(out.IsTruncated) && aws.ToString(out.NextPartNumberMarker) != aws.ToString(in.PartNumberMarker)
		in.PartNumberMarker = out.NextPartNumberMarker
	}
	if last.After(before) {
		return 0, false, nil
	}
	return bytes, true, s.abortUpload(ctx, u.Key, u.UploadId)
}
