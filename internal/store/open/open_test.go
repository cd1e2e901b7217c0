package open_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/open"
	"github.com/salvor-dr/salvor/internal/store/retry"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	root := filepath.Join(t.TempDir(), "a", "b c")
	url := "file://" + strings.ReplaceAll(root, " ", "%20")

	if _, err := open.Open(ctx, url, open.Options{}); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("a directory that is missing: %v", err)
	}
	if _, err := os.Stat(root); err == nil {
		t.Fatal("the directory was made without being asked for")
	}
	s, err := open.Open(ctx, url, open.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if s.String() != url {
		t.Errorf("the store calls itself %s, want %s", s, url)
	}
	if _, ok := store.Ability[store.TempCleaner](s); !ok {
		t.Error("nothing removes what killed writers left")
	}
	if _, err := store.Put(ctx, s, "k", []byte("x"), store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(root, "k")); string(data) != "x" {
		t.Errorf("the object's file holds %q, %v", data, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = open.Open(ctx, "FILE://localhost"+strings.TrimPrefix(url, "file://")+"/", open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(ctx, "k"); err != nil {
		t.Errorf("opened again: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// What cannot be done for the moment is repeated, by each kind of store as it is told,
// and somebody hears why.
func TestOpenRepeats(t *testing.T) {
	t.Parallel()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	told := 0
	policy := retry.Policy{Attempts: 3, Pause: time.Millisecond, Repeating: func(err error, _ time.Duration) {
		told++
		if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
			t.Errorf("repeated after: %v", err)
		}
	}}
	s, err := open.Open(t.Context(), "s3://bucket/a?region=eu-west-1&endpoint=http://"+gone.Addr().String(), open.Options{Retry: policy, Credentials: open.Credentials{AccessKey: "AK", SecretKey: "hush"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, store.ErrUnavailable) || told != 2 {
		t.Errorf("told of %d repetitions, and then: %v", told, err)
	}
	f, err := open.Open(t.Context(), "file://"+t.TempDir(), open.Options{Retry: policy})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, ok := f.(*retry.Store); !ok {
		t.Errorf("a directory is a %T, which repeats nothing", f)
	}
}

func TestOpenS3(t *testing.T) {
	t.Parallel()
	const url = "s3://bucket/a/b?endpoint=http://127.0.0.1:1&region=eu-west-1"
	s, err := open.Open(t.Context(), url, open.Options{Create: true, Credentials: open.Credentials{AccessKey: "AK", SecretKey: "hush"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.String() != url {
		t.Errorf("the store calls itself %s, want %s", s, url)
	}
	if _, ok := s.(store.Prober); !ok {
		t.Error("it cannot be probed")
	}
	_, err = open.Open(t.Context(), url, open.Options{Credentials: open.Credentials{AccessKey: "AK"}})
	if err == nil || !strings.Contains(err.Error(), "belong together") {
		t.Errorf("half of an access key: %v", err)
	}
	_, err = open.Open(t.Context(), url+"&ca_file=/nonexistent", open.Options{})
	if err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("a ca_file that is missing: %v", err)
	}
	if _, err := open.Open(t.Context(), "file:///tmp", open.Options{Credentials: open.Credentials{AccessKey: "AK", SecretKey: "hush"}}); !errors.Is(err, open.ErrURL) {
		t.Errorf("a directory with credentials: %v", err)
	}
	for _, text := range []string{fmt.Sprint(open.Credentials{AccessKey: "AK", SecretKey: "hush"}), fmt.Sprintf("%#v", open.Options{Credentials: open.Credentials{AccessKey: "AK", SecretKey: "hush"}})} {
		if strings.Contains(text, "hush") {
			t.Errorf("%q shows a secret", text)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{
		"", "/var/lib/salvor", "backups", "file:", "file:/", "file:/var/x", "file://", "file://relative", "file://relative/x",
		"file://./x", "s3://user:secret@bucket/x", "ftp://host/x", "file://user:secret@/x", "file:///x?secret", "file:///x#y",
		"s3:", "s3://", "s3://b", "s3:bucket", "s3://bucket?secret=user:secret", "s3://bucket:9000", "s3://bucket?endpoint=http://user:secret@h",
		"file:///x#", "file:///x?", "file:///%zz", "file:///a%00b", "://x", "file://[::1/x", "file:///x\x7fsecret",
	} {
		_, err := open.Open(t.Context(), url, open.Options{Create: true})
		if !errors.Is(err, open.ErrURL) {
			t.Errorf("%q: error is %v, want ErrURL", url, err)
			continue
		}
		if !strings.Contains(err.Error(), "file:///absolute/path") {
			t.Errorf("%q: the error does not name what is supported: %v", url, err)
		}
		if strings.Contains(err.Error(), "user:secret") {
			t.Errorf("%q: the error shows a password: %v", url, err)
		}
	}
	for _, o := range []open.Options{{}, {Create: true}} {
		if _, err := open.Open(t.Context(), "file://"+file, o); err == nil {
			t.Errorf("a file was opened as a store, with %+v", o)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open.Open(ctx, "file:///tmp", open.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a done context: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	for _, s := range []string{"file:///x", "file://x", "file:x", "s3://b", "", ":", "file:///%41"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, url string) {
		// Nothing is made without Create, so any URL may be tried.
		s, err := open.Open(t.Context(), url, open.Options{})
		if (s == nil) == (err == nil) {
			t.Errorf("%q: %v, %v", url, s, err)
		}
	})
}
