package open

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/file"
	"github.com/salvor-dr/salvor/internal/store/retry"
	"github.com/salvor-dr/salvor/internal/store/s3"
)

// ErrURL: the text is not the URL of a store that can be opened here.
var ErrURL = errors.New("invalid store URL")

// supported is what an error tells who has mistyped.
const supported = "supported: file:///absolute/path, s3://bucket/prefix?region=…"

// Options of Open.
type Options struct {
	// Create makes the place (the directory) where it is missing; else that is
	// store.ErrNotFound. A bucket is never made: whoever owns it decides where it
	// is and who may read it.
	Create bool
	// Credentials are for stores that want an access key. None: the store looks
	// for them where its provider's tools do.
	Credentials Credentials
	// Retry says how what the place cannot do for the moment is repeated: a request
	// to S3, or an operation on a file system that is behind a network.
	Retry retry.Policy
}

// Credentials are an access key.
type Credentials struct{ AccessKey, SecretKey string }

// String shows the access key alone.
func (c Credentials) String() string { return "access key " + c.AccessKey }

// GoString shows the access key alone.
func (c Credentials) GoString() string { return "open.Credentials{" + c.AccessKey + "}" }

// LogValue shows the access key alone.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Open opens the store at a URL. The error is ErrURL for a URL that cannot be
// one; no error shows a password that is in it.
func Open(ctx context.Context, rawURL string, o Options) (store.Store, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	scheme, rest, ok := strings.Cut(rawURL, ":")
	if !ok {
		return nil, refuse(rawURL, "it has no scheme")
	}
	switch strings.ToLower(scheme) {
	case "file":
		if o.Credentials != (Credentials{}) {
			return nil, refuse("file:"+rest, "a directory takes no credentials")
		}
		path, err := filePath(rawURL, rest)
		if err != nil {
			return nil, err
		}
		s, err := file.Open(path, file.Options{Create: o.Create})
		if err != nil {
			return nil, err // not s: an interface with a nil pointer in it is not nil
		}
		return retry.New(s, o.Retry), nil
	case "s3":
		so, err := s3.ParseURL(rawURL)
		if err != nil {
			return nil, refuse("s3:", err.Error())
		}
		so.Retry = o.Retry // it repeats by itself
		so.Credentials = s3.Credentials{AccessKey: o.Credentials.AccessKey, SecretKey: o.Credentials.SecretKey}
		s, err := s3.Open(ctx, so)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	return nil, refuse(scheme+":", "the scheme is unknown")
}

// filePath is the path of file:///path (RFC 8089), percent-decoded.
func filePath(rawURL, rest string) (string, error) {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		var perr *url.Error
		if errors.As(err, &perr) {
			err = perr.Err // without the URL, which may hold anything
		}
		return "", refuse("file:", err.Error())
	case !strings.HasPrefix(rest, "//"), u.Opaque != "":
		return "", refuse("file:"+rest, "the path must follow file://")
	case u.User != nil:
		return "", refuse("file:", "a file has no user")
	case u.Host != "" && u.Host != "localhost":
		return "", refuse("file:"+rest, fmt.Sprintf("%q would be a host: a path must be absolute, with three slashes after file:", u.Host))
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(rawURL, "#"):
		return "", refuse("file:"+rest, "a file takes no parameters (write ? as %3F and # as %23)")
	case u.Path == "" || strings.ContainsRune(u.Path, 0):
		return "", refuse("file:"+rest, "it has no usable path")
	}
	return u.Path, nil
}

func refuse(shown, why string) error {
	return fmt.Errorf("opening the store %.200q: %w: %s (%s)", shown, ErrURL, why, supported)
}
