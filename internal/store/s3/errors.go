package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/salvor-dr/salvor/internal/store"
)

// fail says what was done to which object where.
func (s *Store) fail(doing, key string, err error) error {
	return fmt.Errorf("%s %s in %s: %w", doing, key, s, err)
}

// statusOf is the HTTP status of the reply that an error tells of; 0 is no reply.
func statusOf(err error) int {
	var re *smithyhttp.ResponseError
	if errors.As(err, &re) && re.Response != nil && re.Response.Response != nil {
		return re.HTTPStatusCode()
	}
	return 0
}

// codeOf is S3's own code of an error, such as NoSuchKey.
func codeOf(err error) string {
	var ae smithy.APIError
	if errors.As(err, &ae) {
		return ae.ErrorCode()
	}
	return ""
}

// answered says whether the place itself refused a request, so that it has not
// done what it was asked. A connection that broke, a status of 500 and more, and
// an error within a reply of 200 leave that open.
func answered(err error) bool {
	status := statusOf(err)
	return status >= 400 && status < 500 && status != http.StatusRequestTimeout
}

// classify gives an error its kind in the contract. What is of no kind is final.
func classify(ctx context.Context, err error) error {
	if err == nil || ofKind(err) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%w (%w)", cause, err)
	}
	if kind := kindOfCode(codeOf(err)); kind != nil {
		return fmt.Errorf("%w: %w", kind, err)
	}
	if kind := kindOfStatus(statusOf(err)); kind != nil {
		return fmt.Errorf("%w: %w", kind, err)
	}
	return explain(err)
}

func ofKind(err error) bool {
	for _, kind := range []error{store.ErrNotFound, store.ErrExists, store.ErrChanged, store.ErrNoSpace,
		store.ErrInvalidKey, store.ErrUnavailable, store.ErrPermission, store.ErrRange} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// kindOfCode knows the codes of S3 (Amazon S3 API Reference, Error Responses) and
// those of others that mean something of their own.
func kindOfCode(code string) error {
	switch code {
	case "NoSuchKey":
		return store.ErrNotFound
	case "PreconditionFailed":
		return store.ErrChanged
	case "InvalidRange":
		return store.ErrRange
	case "KeyTooLongError", "ObjectParentIsFile", "XMinioInvalidObjectName":
		return store.ErrInvalidKey
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientCapacity":
		return store.ErrNoSpace
	case "RequestTimeTooSkewed", // the next one is signed with the place's time
		"ExpiredToken", "TokenRefreshRequired", // and with fresh credentials
		"BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", // the bytes changed on their way
		"ConditionalRequestConflict", "OperationAborted", // somebody else was just writing
		"ExistingObjectIsDirectory", // of versitygw: or just removed the last of that folder
		"SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests",
		"InternalError", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException":
		return store.ErrUnavailable
	case "AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken",
		"InvalidObjectState", "MethodNotAllowed":
		return store.ErrPermission
	}
	return nil
}

// kindOfStatus is for replies without a code that is known: those to HEAD, which
// have no body, and those of what stands between.
func kindOfStatus(status int) error {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return store.ErrPermission
	case status == http.StatusPreconditionFailed:
		return store.ErrChanged
	case status == http.StatusRequestedRangeNotSatisfiable:
		return store.ErrRange
	case status == http.StatusInsufficientStorage:
		return store.ErrNoSpace
	case status == http.StatusNotImplemented:
		return nil
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests,
		status == 499, // nginx: the client closed the connection
		status >= 500:
		return store.ErrUnavailable
	}
	return nil
}

// explain gives an error that has neither a code nor a status that is known its
// kind, or says what to do about it.
func explain(err error) error {
	var untrusted *tls.CertificateVerificationError
	var header *smithyhttp.ResponseError
	var noCredentials *credentialsError
	var request *smithy.OperationError
	switch {
	case errors.As(err, &noCredentials):
		return fmt.Errorf("%w: %w", store.ErrPermission, err)
	case errors.As(err, &untrusted):
		return fmt.Errorf("%w (ca_file= names a certificate to trust)", err)
	case codeOf(err) == "NoSuchBucket":
		return fmt.Errorf("the bucket does not exist: %w", err)
	case errors.As(err, &header) && header.Response != nil && header.Response.Header.Get("X-Amz-Bucket-Region") != "":
		return fmt.Errorf("the bucket is in another region, %s (region=): %w", header.Response.Header.Get("X-Amz-Bucket-Region"), err)
	case statusOf(err) == 0 && errors.As(err, &request):
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err) // the connection failed
	}
	return err
}
