package s3_test

import (
	"os"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/retry"
	"github.com/salvor-dr/salvor/internal/store/s3"
	"github.com/salvor-dr/salvor/internal/store/s3/s3test"
	"github.com/salvor-dr/salvor/internal/store/storetest"
)

// tests holds the server of this package's tests.
type tests struct{ server s3test.Lazy }

var shared tests

func TestMain(m *testing.M) {
	code := m.Run()
	shared.server.Close()
	os.Exit(code)
}

// options are those of a store in a new bucket.
func options(t testing.TB) s3.Options {
	srv := shared.server.Get(t)
	return s3.Options{
		Bucket: srv.Bucket(t), Endpoint: srv.Endpoint,
		Credentials: s3.Credentials{AccessKey: srv.AccessKey, SecretKey: srv.SecretKey},
		LookupEnv:   func(string) (string, bool) { return "", false },
	}
}

// quick repeats without long pauses.
func quick() retry.Policy {
	return retry.Policy{Pause: time.Millisecond, PauseMax: 20 * time.Millisecond}
}

func open(t testing.TB, o s3.Options) *s3.Store {
	t.Helper()
	s, err := s3.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, options(t)) },
		storetest.Buffered(40<<20), storetest.RoughTimes(2*time.Second))
}
