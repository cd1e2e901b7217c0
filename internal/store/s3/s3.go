package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/salvor-dr/salvor/internal/store"
)

// Store is a store in a bucket. It is a store.Store, a store.TempCleaner and a
// store.Prober.
type Store struct {
	o         Options
	prefix    string // of every key in the bucket, with its slash
	name      string
	client    *s3.Client
	http      *http.Client
	forget    func() // credentials that have expired
	blocks    sync.Pool
	multipart bool // always, for the probe
}

var (
	_ store.Store       = (*Store)(nil)
	_ store.TempCleaner = (*Store)(nil)
	_ store.Prober      = (*Store)(nil)
)

// Open makes the store in a bucket. Nothing is asked of the place before the first
// operation; the environment and AWS's files are read when Options lack the region
// or the credentials.
func Open(_ context.Context, o Options) (*Store, error) {
	name := o.url()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", name, err)
	}
	o = o.withDefaults()
	s := &Store{o: o, name: name}
	if o.Prefix != "" {
		s.prefix = o.Prefix + "/"
	}
	s.blocks.New = func() any { return new(block) }
	env := environment{o.LookupEnv}
	region, err := env.region(o)
	if err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", name, err)
	}
	if s.http, err = newHTTPClient(o); err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", name, err)
	}
	cache := aws.NewCredentialsCache(&chain{options: o, env: env, region: region, http: s.http})
	s.forget = cache.Invalidate
	s.client = newClient(o, s.http, region, cache)
	return s, nil
}

// String is the URL of the store.
func (s *Store) String() string { return s.name }

// Close closes the connections that are idle.
func (s *Store) Close() error {
	s.http.CloseIdleConnections()
	return nil
}

// begin is the start of every call: a key that fits and a context that is not done.
func (s *Store) begin(ctx context.Context, doing, key string) error {
	if err := store.ValidateKey(key); err != nil {
		return err
	}
	if n := len(s.prefix) + len(key); n > store.KeyMax {
		return s.fail(doing, key, fmt.Errorf("%w: with the prefix it has %d bytes, at most %d are allowed", store.ErrInvalidKey, n, store.KeyMax))
	}
	if err := context.Cause(ctx); err != nil {
		return s.fail(doing, key, err)
	}
	return nil
}

// try makes a request, and repeats it as the policy says.
func (s *Store) try(ctx context.Context, request func(context.Context) error) error {
	return s.o.Retry.Do(ctx, func(ctx context.Context) error {
		err := request(ctx)
		if code := codeOf(err); code == "ExpiredToken" || code == "TokenRefreshRequired" {
			s.forget()
		}
		return classify(ctx, err)
	})
}

func (s *Store) bucket() *string { return aws.String(s.o.Bucket) }

func (s *Store) keyIn(key string) *string { return aws.String(s.prefix + key) }

// versionOf is an ETag without its quotes.
func versionOf(etag *string) store.Version {
	return store.Version(strings.Trim(aws.ToString(etag), `"`))
}

func etagOf(v store.Version) *string { return aws.String(`"` + string(v) + `"`) }

// errNoETag: without one there is nothing to compare and set with.
var errNoETag = errors.New("the place gave no ETag for it")

// describe makes an object of what a reply says.
func describe(key string, size *int64, modified *time.Time, etag *string) (store.Object, error) {
	o := store.Object{Key: key, Size: aws.ToInt64(size), Version: versionOf(etag)}
	switch {
	case o.Version == "":
		return store.Object{}, errNoETag
	case size == nil || o.Size < 0:
		return store.Object{}, errors.New("the place did not say how large it is")
	}
	if modified != nil {
		o.ModTime = modified.Truncate(time.Second) // lists are finer than HEAD
	}
	return o, nil
}

// Stat describes an object.
func (s *Store) Stat(ctx context.Context, key string) (store.Object, error) {
	const doing = "looking up"
	if err := s.begin(ctx, doing, key); err != nil {
		return store.Object{}, err
	}
	h, err := s.head(ctx, key)
	if err != nil {
		return store.Object{}, s.fail(doing, key, err)
	}
	return h.Object, nil
}

// header is what HEAD tells.
type header struct {
	store.Object
	token string // of the writer
}

// head asks for an object. That there is none is proven: the reply to HEAD is a
// bare 404, whether the object is missing, the bucket, or S3 itself behind a
// gateway. So GET must say it in S3's words.
func (s *Store) head(ctx context.Context, key string) (h header, err error) {
	err = s.try(ctx, func(ctx context.Context) error {
		h, err = s.headOnce(ctx, key)
		if statusOf(err) != http.StatusNotFound {
			return err
		}
		if err := s.get(ctx, key); err != nil {
			return err
		}
		h, err = s.headOnce(ctx, key) // it has just come
		if statusOf(err) == http.StatusNotFound {
			return fmt.Errorf("%w: GET finds what HEAD does not: %w", store.ErrUnavailable, err)
		}
		return err
	})
	return h, err
}

func (s *Store) headOnce(ctx context.Context, key string) (header, error) {
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: s.bucket(), Key: s.keyIn(key)})
	if err != nil {
		return header{}, err
	}
	o, err := describe(key, out.ContentLength, out.LastModified, out.ETag)
	return header{o, out.Metadata[tokenName]}, err
}

// get asks for the first byte, to see whether there is an object.
func (s *Store) get(ctx context.Context, key string) error {
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: s.bucket(), Key: s.keyIn(key), Range: aws.String("bytes=0-0")})
	if statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
		return nil // it is empty
	}
	if err != nil {
		return err
	}
	return out.Body.Close()
}
