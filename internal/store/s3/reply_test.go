package s3_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/retry"
	"github.com/salvor-dr/salvor/internal/store/s3"
)

// gate stands before a server, as a proxy that understands HTTP. Where handle says
// true it has answered itself.
type gate struct {
	*httptest.Server
	forward http.Handler
	mu      sync.Mutex
	seen    []*http.Request
}

func newGate(t *testing.T, endpoint string, handle func(g *gate, n int, w http.ResponseWriter, r *http.Request) bool) *gate {
	t.Helper()
	g := &gate{}
	if endpoint != "" {
		u, err := url.Parse(endpoint)
		if err != nil {
			t.Fatal(err)
		}
		g.forward = &httputil.ReverseProxy{ErrorLog: nil, Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = u.Scheme, u.Host, r.In.Host // the signature names the host
		}}
	}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.seen = append(g.seen, r)
		n := len(g.seen)
		g.mu.Unlock()
		if !handle(g, n, w, r) {
			g.forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(g.Close)
	return g
}

func (g *gate) requests() []*http.Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen
}

// lose passes a request on, and breaks the connection instead of replying.
func (g *gate) lose(r *http.Request) {
	g.forward.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// refuse answers with an error of S3's.
func refuse(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>so it is</Message><RequestId>R1</RequestId></Error>`, code)
	return true
}

// scripted opens a store whose place is a handler.
func scripted(t *testing.T, handle func(n int, w http.ResponseWriter, r *http.Request)) (*s3.Store, *gate) {
	t.Helper()
	g := newGate(t, "", func(_ *gate, n int, w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		handle(n, w, r)
		return true
	})
	return open(t, s3.Options{Bucket: "bucket", Endpoint: g.URL, Prefix: "p",
		Credentials: s3.Credentials{AccessKey: "key", SecretKey: "hush"}, Retry: quick(), PartSize: 5 << 20}), g
}

func TestErrorsOfThePlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status   int
		code     string
		kind     error // nil: final, of no kind
		requests int
		says     string
	}{
		{403, "AccessDenied", store.ErrPermission, 1, "AccessDenied"},
		{403, "InvalidAccessKeyId", store.ErrPermission, 1, ""},
		{403, "SignatureDoesNotMatch", store.ErrPermission, 1, ""},
		{401, "Whatever", store.ErrPermission, 1, ""},
		{403, "RequestTimeTooSkewed", store.ErrUnavailable, 10, "10 attempts"},
		{400, "ExpiredToken", store.ErrUnavailable, 10, "10 attempts"},
		{400, "RequestTimeout", store.ErrUnavailable, 10, "10 attempts"},
		{409, "ExistingObjectIsDirectory", store.ErrUnavailable, 10, "10 attempts"},
		{503, "SlowDown", store.ErrUnavailable, 10, "SlowDown"},
		{500, "InternalError", store.ErrUnavailable, 10, ""},
		{502, "Whatever", store.ErrUnavailable, 10, ""},
		{408, "Whatever", store.ErrUnavailable, 10, ""},
		{429, "TooManyRequests", store.ErrUnavailable, 10, ""},
		{499, "Whatever", store.ErrUnavailable, 10, ""},
		{409, "ConditionalRequestConflict", store.ErrUnavailable, 10, ""},
		{409, "OperationAborted", store.ErrUnavailable, 10, ""},
		{507, "Whatever", store.ErrNoSpace, 1, ""},
		{400, "QuotaExceeded", store.ErrNoSpace, 1, ""},
		{507, "XMinioStorageFull", store.ErrNoSpace, 1, ""},
		{400, "KeyTooLongError", store.ErrInvalidKey, 1, ""},
		{404, "NoSuchBucket", nil, 1, "the bucket does not exist"},
		{501, "NotImplemented", nil, 1, "NotImplemented"},
		{400, "InvalidArgument", nil, 1, "InvalidArgument"},
		{301, "PermanentRedirect", nil, 1, "another region, eu-north-1"},
	} {
		t.Run(fmt.Sprint(c.status, c.code), func(t *testing.T) {
			t.Parallel()
			s, g := scripted(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
				if c.status == 301 {
					w.Header().Set("X-Amz-Bucket-Region", "eu-north-1")
				}
				refuse(w, c.status, c.code)
			})
			_, err := store.Put(t.Context(), s, "k", []byte("x"), store.CreateOptions{})
			if err == nil || c.kind != nil && !errors.Is(err, c.kind) || c.kind == nil && isKind(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %v, want %v and %q", err, c.kind, c.says)
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("error %q shows the secret key", err)
			}
			if n := len(g.requests()); n != c.requests {
				t.Errorf("%d requests, want %d", n, c.requests)
			}
		})
	}
}

func isKind(err error) bool {
	for _, kind := range []error{store.ErrNotFound, store.ErrExists, store.ErrChanged, store.ErrNoSpace, store.ErrInvalidKey,
		store.ErrUnavailable, store.ErrPermission, store.ErrRange} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// Only NoSuchKey is absence: not a bare 404, not the page of a gateway, and not a
// bucket that is missing.
func TestAbsenceIsProven(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter)
		absent bool
	}{
		{"NoSuchKey", func(w http.ResponseWriter) { refuse(w, 404, "NoSuchKey") }, true},
		{"NoSuchBucket", func(w http.ResponseWriter) { refuse(w, 404, "NoSuchBucket") }, false},
		{"nothing", func(w http.ResponseWriter) { w.WriteHeader(404) }, false},
		{"a page", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(404)
			fmt.Fprint(w, "<html><body><h1>404 page not found</h1></body></html>")
		}, false},
		{"forbidden", func(w http.ResponseWriter) { w.WriteHeader(403) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, _ := scripted(t, func(_ int, w http.ResponseWriter, _ *http.Request) { c.answer(w) })
			_, serr := s.Stat(t.Context(), "k")
			_, oerr := s.Open(t.Context(), "k", 0, -1)
			_, zerr := s.Open(t.Context(), "k", 0, 0)
			derr := s.Delete(t.Context(), "k", "v")
			for what, err := range map[string]error{"Stat": serr, "Open": oerr, "Open of nothing": zerr} {
				if err == nil || errors.Is(err, store.ErrNotFound) != c.absent {
					t.Errorf("%s: error is %v, absent: %v", what, err, c.absent)
				}
			}
			if derr == nil || errors.Is(derr, store.ErrChanged) != c.absent {
				t.Errorf("Delete: error is %v, absent: %v", derr, c.absent)
			}
		})
	}
}

// A reply that is not the range that was asked for is refused, whatever it is.
func TestRangesAreChecked(t *testing.T) {
	t.Parallel()
	type reply struct {
		status       int
		rangeHeader  string
		body         string
		noLength     bool
		withoutETag  bool
		offset, size int64
	}
	for name, c := range map[string]reply{
		"all of it":           {status: 200, body: "0123456789", offset: 3, size: 4},
		"another place":       {status: 206, rangeHeader: "bytes 2-5/10", body: "2345", offset: 3, size: 4},
		"too much":            {status: 206, rangeHeader: "bytes 3-8/10", body: "345678", offset: 3, size: 4},
		"too little":          {status: 206, rangeHeader: "bytes 3-4/10", body: "34", offset: 3, size: 4},
		"a lie of its length": {status: 206, rangeHeader: "bytes 3-6/10", body: "345", offset: 3, size: 4},
		"no length":           {status: 206, rangeHeader: "bytes 3-6/10", body: "3456", noLength: true, offset: 3, size: 4},
		"no end":              {status: 206, rangeHeader: "bytes 3-6/10", body: "3456", offset: 3, size: -1},
		"no header":           {status: 206, body: "3456", offset: 3, size: 4},
		"a broken header":     {status: 206, rangeHeader: "bytes 3-6", body: "3456", offset: 3, size: 4},
		"backwards":           {status: 206, rangeHeader: "bytes 3-2/10", body: "", offset: 3, size: 4},
		"part of the whole":   {status: 206, rangeHeader: "bytes 0-4/10", body: "01234", offset: 0, size: -1},
		"without an ETag":     {status: 206, rangeHeader: "bytes 3-6/10", body: "3456", withoutETag: true, offset: 3, size: 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := scripted(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
				if !c.withoutETag {
					w.Header().Set("ETag", `"e"`)
				}
				if c.rangeHeader != "" {
					w.Header().Set("Content-Range", c.rangeHeader)
				}
				if !c.noLength {
					w.Header().Set("Content-Length", fmt.Sprint(len(c.body)))
				}
				w.WriteHeader(c.status)
				if c.noLength {
					w.(http.Flusher).Flush()
				}
				fmt.Fprint(w, c.body)
			})
			r, err := s.Open(t.Context(), "k", c.offset, c.size)
			if err == nil {
				data, rerr := io.ReadAll(r)
				t.Errorf("it was accepted: %q, %v", data, rerr)
				_ = r.Close()
			}
		})
	}
	s, _ := scripted(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"e"`)
		w.Header().Set("Content-Length", "4")
		fmt.Fprint(w, "0123") // a server without ranges, whose whole object is what was asked for
	})
	if data, err := read(t, s, 0, 10); string(data) != "0123" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a whole object for a range from 0: %q, %v", data, err)
	}
}

func read(t *testing.T, s store.Store, offset, length int64) ([]byte, error) {
	t.Helper()
	r, err := s.Open(t.Context(), "k", offset, length)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if cerr := r.Close(); cerr != nil {
		t.Error(cerr)
	}
	return data, err
}

// What is sent is what every S3 reads.
func TestWhatIsSent(t *testing.T) {
	t.Parallel()
	var bodies []string
	s, g := scripted(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		bodies = append(bodies, r.Header.Get("X-Amz-Content-Sha256"))
		w.Header().Set("ETag", `"e"`)
	})
	if _, err := store.Put(t.Context(), s, "k", noise(1, 3<<20), store.CreateOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	r := g.requests()[0]
	h := r.Header
	if h.Get("Content-Encoding") != "" || h.Get("X-Amz-Trailer") != "" || h.Get("X-Amz-Decoded-Content-Length") != "" {
		t.Errorf("the body is in chunks: %v", h)
	}
	if len(h.Get("X-Amz-Content-Sha256")) != 64 {
		t.Errorf("the body is not signed: %v", h)
	}
	if h.Get("X-Amz-Checksum-Crc32c") == "" || h.Get("If-None-Match") != "*" || r.ContentLength != 3<<20 || r.URL.Path != "/bucket/p/k" {
		t.Errorf("%s %v", r.URL, h)
	}
	if ua := h.Get("User-Agent"); !strings.Contains(ua, "salvor") {
		t.Errorf("User-Agent is %q", ua)
	}
}

// An upload's completion may say 200 and then that it failed.
func TestCompletionFailsWithin200(t *testing.T) {
	t.Parallel()
	completions, token := 0, ""
	s, _ := scripted(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch {
		case r.Method == "POST" && q.Has("uploads"):
			token = r.Header.Get("X-Amz-Meta-Salvor-Write")
			fmt.Fprint(w, `<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>`)
		case r.Method == "PUT":
			w.Header().Set("ETag", `"part"`)
		case r.Method == "POST":
			if completions++; completions < 3 {
				refuse(w, 200, "InternalError")
				return
			}
			fmt.Fprint(w, `<CompleteMultipartUploadResult><ETag>"whole-2"</ETag></CompleteMultipartUploadResult>`)
		case r.Method == "HEAD":
			w.Header().Set("ETag", `"whole-2"`)
			w.Header().Set("Content-Length", "6291456")
			w.Header().Set("X-Amz-Meta-Salvor-Write", token)
		}
	})
	made, err := store.Put(t.Context(), s, "k", noise(1, 6<<20), store.CreateOptions{})
	if err != nil || made.Version != "whole-2" || completions != 3 {
		t.Errorf("%+v, %v, after %d completions", made, err, completions)
	}
	completions = -1000
	if _, err := store.Put(t.Context(), s, "k", noise(1, 6<<20), store.CreateOptions{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("error is %v, want ErrUnavailable", err)
	}
}

// The clock of the place counts: a host whose own is wrong signs with it.
func TestClockIsSkewed(t *testing.T) {
	t.Parallel()
	theirs := time.Now().Add(-3 * time.Hour)
	var dates []string
	s, _ := scripted(t, func(n int, w http.ResponseWriter, r *http.Request) {
		dates = append(dates, r.Header.Get("X-Amz-Date"))
		w.Header().Set("Date", theirs.UTC().Format(http.TimeFormat))
		if n == 1 {
			refuse(w, 403, "RequestTimeTooSkewed")
			return
		}
		w.Header().Set("ETag", `"e"`)
	})
	made, err := store.Put(t.Context(), s, "k", []byte("x"), store.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(dates) != 2 || dates[0] == dates[1] || !strings.HasPrefix(dates[1], theirs.UTC().Format("20060102T15")) {
		t.Errorf("the requests were signed at %q, the place's time is %v", dates, theirs.UTC())
	}
	if d := made.ModTime.Sub(theirs).Abs(); d > 2*time.Second {
		t.Errorf("the object is dated %v, by the place's clock it is %v", made.ModTime, theirs)
	}
}

// A reply that is lost does not make a writer lose to itself.
func TestReplyIsLost(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, 6 << 20} {
		for name, conditional := range map[string]bool{"IfAbsent": true, "IfMatch": false} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				t.Parallel()
				o := options(t)
				o.PartSize, o.Retry = 5<<20, quick()
				direct := open(t, o)
				c := store.CreateOptions{IfAbsent: true}
				if !conditional {
					old, err := store.Put(t.Context(), direct, "k", []byte("old"), store.CreateOptions{})
					if err != nil {
						t.Fatal(err)
					}
					c = store.CreateOptions{IfMatch: old.Version}
				}
				var lost sync.Once
				g := newGate(t, o.Endpoint, func(g *gate, _ int, _ http.ResponseWriter, r *http.Request) bool {
					if publishes(r, size) {
						lost.Do(func() { g.lose(r) })
					}
					return false
				})
				o.Endpoint = g.URL
				made, err := store.Put(t.Context(), open(t, o), "k", noise(1, size), c)
				if err != nil {
					t.Fatal(err)
				}
				holds(t, direct, "k", noise(1, size))
				if there, err := direct.Stat(t.Context(), "k"); err != nil || there.Version != made.Version || there.Size != made.Size {
					t.Errorf("Commit returned %+v, there is %+v, %v", made, there, err)
				}
			})
		}
	}
}

// A place may refuse a body before it has read it, and the reset of the connection
// overtakes its reply, each time. What is there tells.
func TestRefusalsAreCut(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"after our own": true, "after another's": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			o.Retry = quick()
			direct := open(t, o)
			want := []byte("ours")
			if !first {
				want = []byte("theirs")
				if _, err := store.Put(t.Context(), direct, "k", want, store.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			var lost sync.Once
			g := newGate(t, o.Endpoint, func(g *gate, _ int, w http.ResponseWriter, r *http.Request) bool {
				if r.Method != "PUT" {
					return false
				}
				if first {
					lost.Do(func() { g.lose(r) })
				}
				reset(t, w)
				return true
			})
			o.Endpoint = g.URL
			made, err := store.Put(t.Context(), open(t, o), "k", []byte("ours"), store.CreateOptions{IfAbsent: true})
			if n := len(g.requests()); n != 2 {
				t.Errorf("%d requests, want one and a look", n)
			}
			holds(t, direct, "k", want)
			if first {
				if there, statErr := direct.Stat(t.Context(), "k"); err != nil || statErr != nil || there.Version != made.Version {
					t.Errorf("Commit returned %+v, %v; there is %+v, %v", made, err, there, statErr)
				}
				return
			}
			if err == nil || isKind(err) || !strings.Contains(err.Error(), "the object there now is not this one") {
				t.Errorf("error is %v, want one that leaves it open", err)
			}
		})
	}
}

// reset breaks the connection of a request by RST.
func reset(t *testing.T, w http.ResponseWriter) {
	t.Helper()
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// publishes says whether a request is the one that publishes an object.
func publishes(r *http.Request, size int) bool {
	if size > 5<<20 {
		return r.Method == "POST" && r.URL.Query().Has("uploadId")
	}
	return r.Method == "PUT"
}

// When another object is there after a lost reply nobody can say what happened, and
// neither does the error.
func TestOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	for _, size := range []int{10, 6 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			o := options(t)
			o.PartSize, o.Retry = 5<<20, quick()
			direct := open(t, o)
			var lost sync.Once
			g := newGate(t, o.Endpoint, func(g *gate, _ int, _ http.ResponseWriter, r *http.Request) bool {
				if publishes(r, size) {
					lost.Do(func() {
						defer func() {
							cause := recover()
							if _, err := store.Put(context.Background(), direct, "k", []byte("theirs"), store.CreateOptions{}); err != nil {
								t.Error(err)
							}
							panic(cause)
						}()
						g.lose(r)
					})
				}
				return false
			})
			o.Endpoint = g.URL
			_, err := store.Put(t.Context(), open(t, o), "k", noise(1, size), store.CreateOptions{IfAbsent: true})
			if err == nil || errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrChanged) || !strings.Contains(err.Error(), "the object there now is not this one") {
				t.Errorf("error is %v, want one that leaves it open", err)
			}
			holds(t, direct, "k", []byte("theirs"))
		})
	}
}

func TestDeleteWhoseReplyIsLost(t *testing.T) {
	t.Parallel()
	deletes := 0
	s, _ := scripted(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == "HEAD":
			w.Header().Set("ETag", `"v"`)
			w.Header().Set("Content-Length", "1")
		case r.Method == "DELETE":
			if deletes++; deletes == 1 {
				panic(http.ErrAbortHandler)
			}
			refuse(w, 404, "NoSuchKey") // as AWS says it
		}
	})
	err := s.Delete(t.Context(), "k", "v")
	if err == nil || errors.Is(err, store.ErrChanged) || !strings.Contains(err.Error(), "by us or by another") {
		t.Errorf("error is %v, want one that leaves it open", err)
	}
	if deletes != 2 {
		t.Errorf("%d deletes", deletes)
	}
}

// A list that is cut short by a careless place is an error, never a shorter list.
func TestListsAreChecked(t *testing.T) {
	t.Parallel()
	page := func(more bool, token string, keys ...string) string {
		var b strings.Builder
		fmt.Fprintf(&b, "<ListBucketResult><IsTruncated>%v</IsTruncated>", more)
		if token != "" {
			fmt.Fprintf(&b, "<NextContinuationToken>%s</NextContinuationToken>", token)
		}
		for _, k := range keys {
			if strings.HasSuffix(k, "/") {
				fmt.Fprintf(&b, "<CommonPrefixes><Prefix>%s</Prefix></CommonPrefixes>", k)
				continue
			}
			fmt.Fprintf(&b, `<Contents><Key>%s</Key><Size>1</Size><ETag>"e"</ETag><LastModified>2026-01-02T03:04:05.678Z</LastModified></Contents>`, k)
		}
		return b.String() + "</ListBucketResult>"
	}
	for _, c := range []struct {
		name  string
		pages []string
		want  string // the keys, or part of the error
		bad   bool
	}{
		{"two pages", []string{page(true, "t", "p/a", "p/b"), page(false, "", "p/c")}, "a b c", false},
		{"an empty page between", []string{page(true, "t", "p/a"), page(true, "t2"), page(false, "", "p/c")}, "a c", false},
		{"no token", []string{page(true, "", "p/a")}, "not how to get it", true},
		{"the same page for ever", []string{page(true, "t", "p/a", "p/b")}, "order of the keys", true},
		{"out of order", []string{page(true, "t", "p/b"), page(false, "", "p/a")}, "order of the keys", true},
		{"a prefix on two pages", []string{page(true, "t", "p/a", "p/b/"), page(false, "", "p/b/", "p/c")}, "a b/ c", false},
		{"of another prefix", []string{page(false, "", "q/a")}, "not under", true},
		{"names that are none of ours", []string{page(false, "", "p/.hidden", "p/a", "p/b c", "p/d//e", "p/dir/x", "p/z")}, "a dir/x z", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, _ := scripted(t, func(n int, w http.ResponseWriter, _ *http.Request) {
				fmt.Fprint(w, c.pages[min(n, len(c.pages))-1])
			})
			var got []string
			var err error
			for entry, lerr := range s.List(t.Context(), "", store.ListOptions{}) {
				if lerr != nil {
					err = lerr
					continue
				}
				got = append(got, entry.Key)
			}
			if c.bad && (err == nil || !strings.Contains(err.Error(), c.want)) || !c.bad && (err != nil || strings.Join(got, " ") != c.want) {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// Places that accept a condition and ignore it are refused by the probe, each for
// what it does.
func TestProbeOfCarelessPlaces(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		when func(*http.Request) bool
		says string
	}{
		{"PUT", func(r *http.Request) bool { return r.Method == "PUT" && r.Header.Get("If-None-Match") != "" },
			"only if absent"},
		{"PUT If-Match", func(r *http.Request) bool { return r.Method == "PUT" && r.Header.Get("If-Match") != "" }, "given version"},
		{"completion", func(r *http.Request) bool { return r.Method == "POST" && r.Header.Get("If-None-Match") != "" }, "in parts"},
		{"completion If-Match", func(r *http.Request) bool { return r.Method == "POST" && r.Header.Get("If-Match") != "" }, "in parts"},
		{"DELETE", func(r *http.Request) bool { return r.Method == "DELETE" && r.Header.Get("If-Match") != "" }, "If-Match) of a DELETE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			client := shared.server.Get(t).Client()
			g := newGate(t, o.Endpoint, func(_ *gate, _ int, w http.ResponseWriter, r *http.Request) bool {
				if !c.when(r) {
					return false
				}
				careless(t, client, o.Bucket, w, r)
				return true
			})
			o.Endpoint = g.URL
			err := open(t, o).Probe(t.Context())
			if !errors.Is(err, store.ErrUnsafe) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %v, want ErrUnsafe and %q", err, c.says)
			}
		})
	}
}

// careless does what a request asks for without its condition.
func careless(t *testing.T, client *awss3.Client, bucket string, w http.ResponseWriter, r *http.Request) {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	switch r.Method {
	case "PUT":
		out, err := client.PutObject(r.Context(), &awss3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body),
			Metadata: map[string]string{"salvor-write": r.Header.Get("X-Amz-Meta-Salvor-Write")}})
		if err != nil {
			t.Error(err)
			return
		}
		w.Header().Set("ETag", *out.ETag)
	case "POST":
		id := r.URL.Query().Get("uploadId")
		parts, err := client.ListParts(r.Context(), &awss3.ListPartsInput{Bucket: &bucket, Key: &key, UploadId: &id})
		if err != nil {
			t.Error(err)
			return
		}
		in := &awss3.CompleteMultipartUploadInput{Bucket: &bucket, Key: &key, UploadId: &id, MultipartUpload: &types.CompletedMultipartUpload{}}
		for _, p := range parts.Parts {
			in.MultipartUpload.Parts = append(in.MultipartUpload.Parts, types.CompletedPart{PartNumber: p.PartNumber, ETag: p.ETag, ChecksumCRC32C: p.ChecksumCRC32C})
		}
		out, err := client.CompleteMultipartUpload(r.Context(), in)
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprintf(w, `<CompleteMultipartUploadResult><ETag>%s</ETag></CompleteMultipartUploadResult>`, *out.ETag)
	case "DELETE":
		if _, err := client.DeleteObject(r.Context(), &awss3.DeleteObjectInput{Bucket: &bucket, Key: &key}); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// A completion is believed only when the object is there.
func TestCompletionIsChecked(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.PartSize, o.Retry = 5<<20, quick()
	s := open(t, o)
	w, err := s.Create(t.Context(), "k", store.CreateOptions{IfAbsent: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // more parts than may be under way, so one has arrived
		if _, err := w.Write(noise(1, 5<<20)); err != nil {
			t.Fatal(err)
		}
	}
	uploads, err := shared.server.Get(t).Client().ListMultipartUploads(t.Context(), &awss3.ListMultipartUploadsInput{Bucket: &o.Bucket})
	if err != nil || len(uploads.Uploads) != 1 {
		t.Fatalf("%d uploads, %v", len(uploads.Uploads), err)
	}
	// Somebody tidies the upload away, and somebody else writes the object.
	other := open(t, o)
	if _, _, err := other.RemoveTemporary(t.Context(), 0, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), other, "k", []byte("theirs"), store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(); err == nil {
		t.Error("an upload that was dropped was committed")
	}
	holds(t, other, "k", []byte("theirs"))
}

// Conflicts of two writers at once are tried again, and end with the refusal.
func TestConflict(t *testing.T) {
	t.Parallel()
	s, g := scripted(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n < 3 {
			refuse(w, 409, "ConditionalRequestConflict")
			return
		}
		refuse(w, 412, "PreconditionFailed")
	})
	if _, err := store.Put(t.Context(), s, "k", []byte("x"), store.CreateOptions{IfAbsent: true}); !errors.Is(err, store.ErrExists) {
		t.Errorf("error is %v, want ErrExists", err)
	}
	if n := len(g.requests()); n != 3 {
		t.Errorf("%d requests", n)
	}
}

// AWS may drop an upload when its completion met a conflict.
func TestUploadIsGoneAfterAConflict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		there bool
		kind  error
	}{{true, store.ErrExists}, {false, nil}} {
		completions := 0
		s, _ := scripted(t, func(_ int, w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			switch {
			case r.Method == "POST" && q.Has("uploads"):
				fmt.Fprint(w, `<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>`)
			case r.Method == "PUT":
				w.Header().Set("ETag", `"part"`)
			case r.Method == "POST":
				if completions++; completions == 1 {
					refuse(w, 409, "ConditionalRequestConflict")
					return
				}
				refuse(w, 404, "NoSuchUpload")
			case r.Method == "DELETE":
				refuse(w, 404, "NoSuchUpload")
			case r.Method == "HEAD" && c.there:
				w.Header().Set("ETag", `"theirs"`)
				w.Header().Set("Content-Length", "1")
			default:
				w.WriteHeader(404)
			}
		})
		_, err := store.Put(t.Context(), s, "k", noise(1, 6<<20), store.CreateOptions{IfAbsent: true})
		if err == nil || c.kind != nil && !errors.Is(err, c.kind) || c.kind == nil && isKind(err) {
			t.Errorf("there %v: error is %v, want %v", c.there, err, c.kind)
		}
	}
}

// Expired credentials are fetched anew.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	fetched := 0
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "let me in" {
			w.WriteHeader(401)
			return
		}
		fetched++
		fmt.Fprintf(w, `{"AccessKeyId":"AK%d","SecretAccessKey":"s","Token":"t","Expiration":%q}`, fetched, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(agent.Close)
	g := newGate(t, "", func(_ *gate, n int, w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.Header.Get("Authorization"), "Credential=AK2/") {
			return refuse(w, 400, "ExpiredToken")
		}
		w.Header().Set("ETag", `"e"`)
		return true
	})
	s := open(t, s3.Options{Bucket: "bucket", Endpoint: g.URL, Retry: quick(), LookupEnv: envOf(map[string]string{
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": agent.URL, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "let me in"})})
	if _, err := store.Put(t.Context(), s, "k", nil, store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if fetched != 2 {
		t.Errorf("credentials were fetched %d times", fetched)
	}
}

// Credentials that cannot be had are final, and not asked for again and again.
func TestNoCredentials(t *testing.T) {
	t.Parallel()
	g := newGate(t, "", func(_ *gate, _ int, w http.ResponseWriter, _ *http.Request) bool {
		return refuse(w, 500, "InternalError")
	})
	for name, vars := range map[string]map[string]string{
		"nothing":            {"AWS_EC2_METADATA_DISABLED": "true"},
		"no secret key":      {"AWS_ACCESS_KEY_ID": "AK"},
		"no token file":      {"AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent/token", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/x"},
		"a stranger's agent": {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/"},
	} {
		s := open(t, s3.Options{Bucket: "bucket", Endpoint: g.URL, Retry: quick(), LookupEnv: envOf(vars)})
		_, err := s.Stat(t.Context(), "k")
		if !errors.Is(err, store.ErrPermission) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: error is %v, want ErrPermission", name, err)
		}
	}
	if n := len(g.requests()); n != 0 {
		t.Errorf("%d requests were sent without a signature", n)
	}
}

// TLS trusts the system's authorities and those of ca_file, nobody else.
func TestTLS(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", `"e"`) }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that the test wants to fail
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	o := s3.Options{Bucket: "bucket", Endpoint: srv.URL, Retry: quick(), Credentials: s3.Credentials{AccessKey: "a", SecretKey: "b"}}
	_, err := store.Put(t.Context(), open(t, o), "k", nil, store.CreateOptions{})
	if err == nil || isKind(err) || !strings.Contains(err.Error(), "ca_file=") {
		t.Errorf("an unknown authority: error is %v, want a final one that names ca_file", err)
	}
	o.CAFile = ca
	if _, err := store.Put(t.Context(), open(t, o), "k", nil, store.CreateOptions{}); err != nil {
		t.Errorf("with ca_file: %v", err)
	}
	o.CAFile = filepath.Join(t.TempDir(), "none.pem")
	if err := os.WriteFile(o.CAFile, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s3.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("a ca_file without a certificate: %v", err)
	}
}

func envOf(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

// The policy bounds what is tried, also in time.
func TestRetryIsBounded(t *testing.T) {
	t.Parallel()
	g := newGate(t, "", func(_ *gate, _ int, w http.ResponseWriter, _ *http.Request) bool { return refuse(w, 503, "SlowDown") })
	s := open(t, s3.Options{Bucket: "bucket", Endpoint: g.URL, Credentials: s3.Credentials{AccessKey: "a", SecretKey: "b"},
		Retry: retry.Policy{Total: 300 * time.Millisecond, Pause: 50 * time.Millisecond}})
	began := time.Now()
	_, err := s.Stat(t.Context(), "k")
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("error is %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
