package s3

import (
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/retry"
)

// Checksum is what is sent along with each body, beside the SHA-256 that is part
// of the signature, for the place to check and to keep.
type Checksum string

// The checksums.
const (
	// CRC32C is a header, x-amz-checksum-crc32c. The default.
	CRC32C Checksum = "crc32c"
	// MD5 is Content-MD5, which every place understands, for three times the
	// processor time of everything else here.
	MD5 Checksum = "md5"
	// NoChecksum leaves it to the signature. Buckets with object lock refuse it.
	NoChecksum Checksum = "none"
)

// Credentials are an access key. The zero value is none.
type Credentials struct {
	AccessKey, SecretKey string
	// SessionToken belongs to temporary ones.
	SessionToken string
}

// String shows the access key alone.
func (c Credentials) String() string { return "access key " + c.AccessKey }

// GoString shows the access key alone.
func (c Credentials) GoString() string { return "s3.Credentials{" + c.AccessKey + "}" }

// LogValue shows the access key alone.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Options of a Store. Bucket is needed; ParseURL makes them from a URL.
type Options struct {
	// Bucket holds the objects. It must exist.
	Bucket string
	// Prefix goes before every key, with a slash between. It is a valid key of at
	// most PrefixMax bytes, or "".
	Prefix string
	// Region is what requests are signed for. "" is that of the environment or of
	// the AWS configuration files; with an Endpoint, else us-east-1.
	Region string
	// Endpoint is the server, as https://host:port; "" is AWS's.
	Endpoint string
	// PathStyle puts the bucket into the path instead of the host's name. nil does
	// so when there is an Endpoint.
	PathStyle *bool
	// CAFile has certificates, in PEM, of authorities that are trusted beside the
	// system's.
	CAFile string
	// Checksum is sent with each body; "" is CRC32C.
	Checksum Checksum
	// Credentials sign the requests. None is the usual chain of AWS: environment,
	// web identity, configuration files, container, machine.
	Credentials Credentials

	// PartSize is the most bytes of an object that go in one request, and how many
	// each part of a larger one has; 0 is 8 MiB. S3 wants 5 MiB at least, and at
	// most 10,000 parts.
	PartSize int
	// PartsInFlight is how many parts of one object are under way at once; 0 is 2.
	// A writer holds one more in memory.
	PartsInFlight int
	// ConnectTimeout bounds connecting, and the TLS handshake; 0 is 10 s.
	ConnectTimeout time.Duration
	// IdleTimeout is how long a connection may move no byte, in either direction,
	// while a request or its body is under way; 0 is a minute.
	IdleTimeout time.Duration
	// Retry bounds how often a request is repeated. A Clock in it also dates what
	// the place does not date.
	Retry retry.Policy
	// LookupEnv reads the environment for the chain; nil is os.LookupEnv.
	LookupEnv func(name string) (string, bool)
}

const (
	// PrefixMax leaves room for Salvor's own keys in the 1024 bytes that S3 allows.
	PrefixMax = 512

	partSize       = 8 << 20
	partsInFlight  = 2
	partsMax       = 10_000 // of one upload, a limit of S3
	connectTimeout = 10 * time.Second
	idleTimeout    = time.Minute
)

func (o Options) withDefaults() Options {
	if o.PathStyle == nil {
		o.PathStyle = new(o.Endpoint != "")
	}
	if o.Checksum == "" {
		o.Checksum = CRC32C
	}
	if o.PartSize <= 0 {
		o.PartSize = partSize
	}
	if o.PartsInFlight <= 0 {
		o.PartsInFlight = partsInFlight
	}
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = connectTimeout
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = idleTimeout
	}
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	o.Retry = o.Retry.WithDefaults()
	return o
}

func (o Options) validate() error {
	bucket := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$`)
	switch {
	case !bucket.MatchString(o.Bucket):
		return fmt.Errorf("%.80q is not the name of a bucket", o.Bucket)
	case len(o.Prefix) > PrefixMax:
		return fmt.Errorf("the prefix has %d bytes, at most %d are allowed", len(o.Prefix), PrefixMax)
	case o.Prefix != "" && store.ValidateKey(o.Prefix) != nil:
		return fmt.Errorf("the prefix: %w", store.ValidateKey(o.Prefix))
	case o.Credentials.AccessKey == "" != (o.Credentials.SecretKey == ""):
		return fmt.Errorf("an access key and a secret key belong together")
	}
	switch o.Checksum {
	case "", CRC32C, MD5, NoChecksum:
	default:
		return fmt.Errorf("checksum=%.20s: want %s, %s or %s", o.Checksum, CRC32C, MD5, NoChecksum)
	}
	return o.validateEndpoint()
}

func (o Options) validateEndpoint() error {
	if o.Endpoint == "" {
		return nil
	}
	u, err := url.Parse(o.Endpoint)
	switch {
	case err != nil || u.Opaque != "" || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("the endpoint is not a URL: want endpoint=https://host:port")
	case u.User != nil:
		return fmt.Errorf("the endpoint must not hold a user: credentials are given apart")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("the endpoint %s://%s takes no path and no parameters: the bucket stands in s3://BUCKET", u.Scheme, u.Host)
	}
	return nil
}
