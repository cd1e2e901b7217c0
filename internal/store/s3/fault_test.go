package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/retry"
	"github.com/salvor-dr/salvor/internal/store/s3"
	"github.com/salvor-dr/salvor/internal/store/s3/s3test"
)

// idle is the patience of the tests in which somebody falls silent. A busy machine
// must not look like one.
const idle = 700 * time.Millisecond

// throughProxy opens a store behind a proxy, and the same one without it.
func throughProxy(t *testing.T) (behind, direct *s3.Store, p *s3test.Proxy) {
	t.Helper()
	o := options(t)
	o.Retry = quick()
	direct = open(t, o)
	p = s3test.NewProxy(t, o.Endpoint)
	o.Endpoint = p.Endpoint()
	o.IdleTimeout = idle
	return open(t, o), direct, p
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0] = byte(seed)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

func holds(t *testing.T, s store.Store, key string, want []byte) {
	t.Helper()
	got, err := store.Get(context.Background(), s, key, int64(len(want)))
	if err != nil {
		t.Errorf("reading %s: %v", key, err)
	} else if !bytes.Equal(got, want) {
		t.Errorf("%s holds %d other bytes, want %d", key, len(got), len(want))
	}
}

func TestUploadIsCut(t *testing.T) {
	t.Parallel()
	data := noise(1, 3<<20)
	for name, rule := range map[string]s3test.Rule{
		"closed early":       {Up: 100, End: s3test.Close},
		"closed in the body": {Up: 1 << 20, End: s3test.Close},
		"reset in the body":  {Up: 2 << 20, End: s3test.Reset},
		"silent in the body": {Up: 1 << 20, End: s3test.Hole},
		"no reply":           {Down: 1, End: s3test.Close},
		"half a reply":       {Down: 60, End: s3test.Reset},
		"a silent reply":     {Down: 1, End: s3test.Hole},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			behind, direct, p := throughProxy(t)
			p.Next(rule, rule, rule)
			made, err := store.Put(t.Context(), behind, "k", data, store.CreateOptions{IfAbsent: true})
			if err != nil {
				t.Fatal(err)
			}
			holds(t, direct, "k", data)
			if there, err := direct.Stat(t.Context(), "k"); err != nil || there.Version != made.Version {
				t.Errorf("Commit returned %+v, there is %+v, %v", made, there, err)
			}
			if p.Connections() < 4 {
				t.Errorf("%d connections: the rules did not apply", p.Connections())
			}
		})
	}
}

func TestLargeUploadIsCut(t *testing.T) {
	t.Parallel()
	behind, direct, p := throughProxy(t)
	data := noise(2, 37<<20+5)
	p.Next(s3test.Rule{Up: 5 << 20, End: s3test.Reset}, s3test.Rule{Up: 12 << 20, End: s3test.Close}, s3test.Rule{Up: 6 << 20, End: s3test.Hole})
	w, err := behind.Create(t.Context(), "k", store.CreateOptions{IfAbsent: true})
	if err != nil {
		t.Fatal(err)
	}
	for part := range bytesOf(data, 1<<20) {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	if p.Connections() < 4 {
		t.Errorf("%d connections: the rules did not apply", p.Connections())
	}
	holds(t, direct, "k", data)
	noUploads(t, direct)
}

func bytesOf(data []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			part := data[:min(n, len(data))]
			data = data[len(part):]
			if !yield(part) {
				return
			}
		}
	}
}

// noUploads checks that nothing was left behind.
func noUploads(t *testing.T, s *s3.Store) {
	t.Helper()
	n, size, err := s.RemoveTemporary(context.Background(), 0, time.Now().Add(time.Hour))
	if n != 0 || size != 0 || err != nil {
		t.Errorf("%d uploads of %d bytes were left, %v", n, size, err)
	}
}

func TestDownloadIsCut(t *testing.T) {
	t.Parallel()
	data := noise(3, 5<<20)
	for name, rules := range map[string][]s3test.Rule{
		"closed":           {{Down: 1 << 20, End: s3test.Close}, {Down: 2 << 20, End: s3test.Close}},
		"reset":            {{Down: 3 << 20, End: s3test.Reset}},
		"silent":           {{Down: 3 << 20, End: s3test.Hole}},
		"again and again":  {{Down: 900}, {Down: 5000}, {Down: 800}, {Down: 2 << 20}, {Down: 700}, {Down: 1 << 20}},
		"before its bytes": {{Down: 1}, {Up: 10}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			behind, direct, p := throughProxy(t)
			if _, err := store.Put(t.Context(), direct, "k", data, store.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			p.Next(rules...)
			holds(t, behind, "k", data)
			p.Next(rules...)
			r, err := behind.Open(t.Context(), "k", 1000, 4<<20)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, data[1000:1000+4<<20]) {
				t.Errorf("a range: %d bytes, %v", len(got), err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if p.Connections() <= len(rules) {
				t.Errorf("%d connections: the rules did not apply", p.Connections())
			}
		})
	}
}

// A body that is cut for good ends with an error that says so, in bounded time.
func TestDownloadIsCutForGood(t *testing.T) {
	t.Parallel()
	data := noise(4, 5<<20)
	for _, end := range []s3test.End{s3test.Close, s3test.Reset, s3test.Hole} {
		t.Run(fmt.Sprint(end), func(t *testing.T) {
			t.Parallel()
			o := options(t)
			direct := open(t, o)
			if _, err := store.Put(t.Context(), direct, "k", data, store.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			p := s3test.NewProxy(t, o.Endpoint)
			o.Endpoint, o.IdleTimeout, o.Retry = p.Endpoint(), idle, retry.Policy{Attempts: 3, Pause: time.Millisecond}
			p.All(s3test.Rule{Down: 200_000, End: end})
			r, err := open(t, o).Open(t.Context(), "k", 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("error is %v, want a body that broke off", err)
			}
			if len(got) < 200_000 || len(got) >= len(data) || !bytes.Equal(got, data[:len(got)]) {
				t.Errorf("%d bytes came", len(got))
			}
			_ = r.Close() // its connection is broken
		})
	}
}

// A reader whose body is cut does not go on in another object.
func TestObjectChangesBetweenTwoBodies(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(store.Store) error{
		"replaced": func(s store.Store) error {
			_, err := store.Put(context.Background(), s, "k", noise(6, 5<<20), store.CreateOptions{})
			return err
		},
		"deleted": func(s store.Store) error { return s.Delete(context.Background(), "k", "") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			behind, direct, p := throughProxy(t)
			if _, err := store.Put(t.Context(), direct, "k", noise(5, 5<<20), store.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			p.Next(s3test.Rule{Down: 1 << 20})
			r, err := behind.Open(t.Context(), "k", 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			if err := change(direct); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); !errors.Is(err, store.ErrChanged) || errors.Is(err, store.ErrNotFound) {
				t.Errorf("error is %v, want ErrChanged", err)
			}
			_ = r.Close()
		})
	}
}

// Slow is not dead: the patience is for silence, not for the whole.
func TestSlowIsNotDead(t *testing.T) {
	t.Parallel()
	o := options(t)
	p := s3test.NewProxy(t, o.Endpoint)
	o.Endpoint, o.IdleTimeout = p.Endpoint(), idle
	o.Retry = retry.Policy{Attempts: 1} // whatever is given up fails
	s := open(t, o)
	p.All(s3test.Rule{Rate: 1_500_000, Latency: time.Millisecond})
	data := noise(7, 4<<20)
	began := time.Now()
	if _, err := store.Put(t.Context(), s, "k", data, store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	holds(t, s, "k", data)
	if took := time.Since(began); took < 4*idle {
		t.Errorf("it took %v: the proxy was not slow", took)
	}
}

// A server that takes connections and says nothing does not hold anybody for ever.
func TestServerHangs(t *testing.T) {
	t.Parallel()
	srv := s3test.Start(t)
	s := open(t, s3.Options{
		Bucket: srv.Bucket(t), Endpoint: srv.Endpoint, IdleTimeout: 300 * time.Millisecond,
		Credentials: s3.Credentials{AccessKey: srv.AccessKey, SecretKey: srv.SecretKey},
		Retry:       retry.Policy{Attempts: 2, Pause: time.Millisecond},
	})
	if _, err := store.Put(t.Context(), s, "k", []byte("hello"), store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := srv.Pause(); err != nil {
		t.Fatal(err)
	}
	for what, do := range operations(s) {
		began := time.Now()
		err := do(t.Context())
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: error is %v, want ErrUnavailable", what, err)
		} else if !strings.Contains(err.Error(), "timeout") || !strings.Contains(err.Error(), "2 attempts") {
			t.Errorf("%s: error %q tells neither the time-out nor the attempts", what, err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s took %v", what, took)
		}
	}
	if err := srv.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(t.Context(), "k"); err != nil {
		t.Errorf("after the server went on: %v", err)
	}
}

// operations are one of each kind, on an object k.
func operations(s store.Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Stat": func(ctx context.Context) error { _, err := s.Stat(ctx, "k"); return err },
		"Open": func(ctx context.Context) error { _, err := s.Open(ctx, "k", 0, -1); return err },
		"Put": func(ctx context.Context) error {
			_, err := store.Put(ctx, s, "k2", []byte("x"), store.CreateOptions{IfAbsent: true})
			return err
		},
		"List": func(ctx context.Context) error {
			for _, err := range s.List(ctx, "", store.ListOptions{}) {
				return err
			}
			return errors.New("an empty list")
		},
		"Delete": func(ctx context.Context) error { return s.Delete(ctx, "k2", "") },
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	s := open(t, s3.Options{
		Bucket: "bucket", Endpoint: "http://127.0.0.1:1", // tcpmux: nobody has it
		Credentials: s3.Credentials{AccessKey: "a", SecretKey: "b"},
		Retry:       retry.Policy{Attempts: 2, Pause: time.Millisecond},
	})
	for what, do := range operations(s) {
		if err := do(t.Context()); !errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: error is %v, want ErrUnavailable", what, err)
		}
	}
}

// A writer that is aborted or fails leaves no upload behind; one that is cancelled
// drops it too, but a part that was under way may come after that.
func TestNoUploadIsLeft(t *testing.T) {
	t.Parallel()
	s := open(t, options(t))
	ctx, cancel := context.WithCancel(t.Context())
	data := noise(8, 20<<20)
	write := func(ctx context.Context) store.Writer {
		w, err := s.Create(ctx, "k", store.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := write(t.Context())
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
	noUploads(t, s)

	w = write(ctx)
	cancel()
	if _, err := w.Commit(); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit after cancel: %v", err)
	}
	if n, _, err := s.RemoveTemporary(t.Context(), 0, time.Now().Add(time.Hour)); n > 1 || err != nil {
		t.Errorf("%d uploads were left, %v", n, err)
	}
	if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Stat after cancel: %v", err)
	}

	s = open(t, options(t))
	if _, err := store.Put(t.Context(), s, "k", nil, store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w, err := s.Create(t.Context(), "k", store.CreateOptions{IfAbsent: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(); !errors.Is(err, store.ErrExists) {
		t.Errorf("Commit over an object: %v", err)
	}
	noUploads(t, s)
	holds(t, s, "k", nil)
}
