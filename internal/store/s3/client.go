package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"github.com/salvor-dr/salvor/internal/clock"
)

const (
	continueTimeout = time.Second // how long the place may take to ask for a body before it is sent unasked
	bufferSize      = 64 << 10
	idleConnections = 64
)

// newClient makes a client that does exactly one request for each call: it does
// not repeat, and what it sends is what every S3 of the last ten years reads. The
// SDK's own defaults (a checksum behind a body in chunks, "aws-chunked") are
// refused by many that are not AWS.
func newClient(o Options, h *http.Client, region string, credentials aws.CredentialsProvider) *s3.Client {
	so := s3.Options{
		Region:                     region,
		Credentials:                credentials,
		HTTPClient:                 h,
		Retryer:                    aws.NopRetryer{},
		UsePathStyle:               *o.PathStyle,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		APIOptions:                 []func(*middleware.Stack) error{awsmiddleware.AddUserAgentKey("salvor")},
	}
	if o.Endpoint != "" {
		so.BaseEndpoint = aws.String(o.Endpoint)
	}
	return s3.New(so)
}

// newHTTPClient makes a client in which nothing waits for ever: connecting, the
// handshake and every silence in between are bounded.
func newHTTPClient(o Options) (*http.Client, error) {
	roots, err := trusted(o.CAFile)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: o.ConnectTimeout}
	return &http.Client{
		// A place that sends us elsewhere would get our signature for another one.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := dialer.DialContext(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return &patientConn{Conn: c, limit: o.IdleTimeout, now: clock.System().Now, unsent: unsent}, nil
			},
			TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   o.ConnectTimeout,
			ExpectContinueTimeout: continueTimeout,
			IdleConnTimeout:       o.IdleTimeout * 2 / 3, // before patientConn does it
			MaxIdleConnsPerHost:   idleConnections,
			DisableCompression:    true,
			WriteBufferSize:       bufferSize,
			ReadBufferSize:        bufferSize,
		},
	}, nil
}

// trusted is the system's authorities, nil, or those and the ones in a file.
func trusted(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading ca_file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("reading the system's certificates: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading ca_file: there is no certificate in %s", file)
	}
	return pool, nil
}

// patientConn is a connection whose patience ends: when no byte has moved for the
// limit, in either direction, what is under way fails with a time-out. A peer that
// is half dead (its machine is gone, or its disk hangs) would else hold a request
// for as long as TCP resends, a quarter of an hour, or for ever.
type patientConn struct {
	net.Conn
	limit  time.Duration
	now    func() time.Time
	unsent func(net.Conn) int
}

// Read waits for a byte for the limit at most, or longer while bytes go out: the
// transport reads all the time, also while it sends a body.
func (c *patientConn) Read(p []byte) (n int, err error) {
	for out := c.outgoing(); ; {
		if err := c.SetReadDeadline(c.now().Add(c.limit)); err != nil {
			return 0, err
		}
		n, err = c.Conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !out.moved() {
			return n, err
		}
	}
}

// Write waits for room for the limit at most, or longer while there is some of it:
// the kernel wakes a writer when a third of its buffer is free, and that may be
// megabytes on a slow network.
func (c *patientConn) Write(p []byte) (done int, err error) {
	for out := c.outgoing(); ; {
		if err := c.SetDeadline(c.now().Add(c.limit)); err != nil {
			return done, err
		}
		n, err := c.Conn.Write(p[done:])
		done += n
		if err == nil {
			return done, c.SetReadDeadline(c.now().Add(c.limit)) // the answer's time begins now
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || !out.moved() && n == 0 {
			return done, err
		}
	}
}

// outgoing watches what the other side has not acknowledged yet.
func (c *patientConn) outgoing() *outgoing { return &outgoing{c, -1} }

type outgoing struct {
	c    *patientConn
	left int // at the last look, or -1
}

// moved says whether bytes have gone out since the last look. At the first one
// that is not known, and the time is given once more.
func (o *outgoing) moved() bool {
	before := o.left
	o.left = o.c.unsent(o.c.Conn)
	return o.left > 0 && (before < 0 || o.left < before)
}
