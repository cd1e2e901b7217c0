package storetest

import (
	"context"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/store"
)

// Every valid key is held as it is.
func (*suite) testKeys(t *testing.T, s store.Store) {
	all := []string{
		"salvor.json", "a-b", "a/b", "a0", "a/c.d", "A/B", "b+c", "d=e,f", "mail@example.org", "wow!", "(x)", "-", "_", "--help",
		"clusters/main/7412345678901234567-1/wal/00000001/000000010000000000000003.00000028.backup",
		"long/" + strings.Repeat("p", 255),
		strings.Repeat(strings.Repeat("q", 127)+"/", 7) + strings.Repeat("q", 128),
	}
	for _, key := range all {
		put(t, s, key, "content of "+key)
	}
	for _, key := range all {
		holds(t, s, key, "content of "+key)
	}
	if got := keys(t, s, "", store.ListOptions{}); len(got) != len(all) {
		t.Errorf("the list shows %q", got)
	}
	for _, key := range all {
		must(t, s.Delete(context.Background(), key, ""))
	}
	if got := keys(t, s, "", store.ListOptions{}); len(got) != 0 {
		t.Errorf("after all were deleted the list shows %q", got)
	}
}

func (*suite) testInvalidKeys(t *testing.T, s store.Store) {
	ctx := t.Context()
	for _, key := range []string{"", "/", "/etc/passwd", "a/", "a//b", "../x", "a/../../x", ".", ".tmp/x", "a b", "a\x00b",
		"ä", strings.Repeat("p", 256), strings.Repeat("p/", 600) + "p"} {
		_, err := s.Create(ctx, key, store.CreateOptions{})
		want(t, "Create", err, store.ErrInvalidKey)
		_, err = s.Open(ctx, key, 0, -1)
		want(t, "Open", err, store.ErrInvalidKey)
		_, err = s.Stat(ctx, key)
		want(t, "Stat", err, store.ErrInvalidKey)
		want(t, "Delete", s.Delete(ctx, key, ""), store.ErrInvalidKey)
	}
	for _, prefix := range []string{"/", "../", "a//", ".tmp/", "a b"} {
		var err error
		for _, e := range s.List(ctx, prefix, store.ListOptions{}) {
			err = e
		}
		want(t, "List", err, store.ErrInvalidKey)
	}
}

func (*suite) testAbsent(t *testing.T, s store.Store) {
	ctx := t.Context()
	put(t, s, "a/b", "x")
	put(t, s, "c", "x")
	for _, key := range []string{"none", "a", "a/none", "none/none", "a/b/c", "c/d/e"} {
		_, err := s.Stat(ctx, key)
		want(t, "Stat of "+key, err, store.ErrNotFound)
		_, err = s.Open(ctx, key, 0, -1)
		want(t, "Open of "+key, err, store.ErrNotFound)
		must(t, s.Delete(ctx, key, ""))
		want(t, "Delete of a version of "+key, s.Delete(ctx, key, "v"), store.ErrChanged)
	}
	holds(t, s, "a/b", "x")
	holds(t, s, "c", "x")
}
