package storetest

import (
	"fmt"
	"testing"

	"github.com/salvor-dr/salvor/internal/store"
)

func (*suite) testConditions(t *testing.T, s store.Store) {
	ctx := t.Context()
	try := func(data string, o store.CreateOptions) (store.Object, error) {
		return store.Put(ctx, s, "d/k", []byte(data), o)
	}
	_, err := try("0", store.CreateOptions{IfAbsent: true, IfMatch: "v"})
	if err == nil {
		t.Error("both conditions at once were accepted")
	}
	_, err = try("0", store.CreateOptions{IfMatch: "v"})
	want(t, "IfMatch on nothing", err, store.ErrChanged)
	_, err = s.Stat(ctx, "d/k")
	want(t, "Stat after a refused Commit", err, store.ErrNotFound)

	one, err := try("1", store.CreateOptions{IfAbsent: true})
	must(t, err)
	_, err = try("2", store.CreateOptions{IfAbsent: true})
	want(t, "IfAbsent on something", err, store.ErrExists)
	_, err = try("1", store.CreateOptions{IfAbsent: true})
	want(t, "IfAbsent on the same", err, store.ErrExists)
	_, err = try("2", store.CreateOptions{IfMatch: one.Version + "x"})
	want(t, "IfMatch on another", err, store.ErrChanged)
	holds(t, s, "d/k", "1")

	two, err := try("2", store.CreateOptions{IfMatch: one.Version})
	must(t, err)
	_, err = try("3", store.CreateOptions{IfMatch: one.Version})
	want(t, "IfMatch on the former", err, store.ErrChanged)
	holds(t, s, "d/k", "2")
	_, err = try("4", store.CreateOptions{})
	must(t, err)
	_, err = try("5", store.CreateOptions{IfMatch: two.Version})
	want(t, "IfMatch after an unconditional write", err, store.ErrChanged)
	holds(t, s, "d/k", "4")
	if got := keys(t, s, "", store.ListOptions{}); len(got) != 1 {
		t.Errorf("the list shows %q", got)
	}

	// The condition is judged at Commit, not at Create.
	w, err := s.Create(ctx, "late", store.CreateOptions{IfAbsent: true})
	must(t, err)
	put(t, s, "late", "first")
	_, err = w.Commit()
	want(t, "IfAbsent on what came meanwhile", err, store.ErrExists)
	holds(t, s, "late", "first")
}

// No two contents of one key have the same version, however fast they follow.
func (*suite) testVersions(t *testing.T, s store.Store) {
	seen := map[store.Version]int{}
	last := store.Version("")
	for i := range 60 {
		if i%20 == 19 {
			must(t, s.Delete(t.Context(), "k", last))
		}
		o := put(t, s, "k", fmt.Sprintf("%04d", i)) // all of one size
		if j, twice := seen[o.Version]; twice {
			t.Fatalf("content %d and content %d have the version %q", j, i, o.Version)
		}
		seen[o.Version] = i
		again, err := s.Stat(t.Context(), "k")
		must(t, err)
		if again.Version != o.Version {
			t.Fatalf("the version changed by itself from %q to %q", o.Version, again.Version)
		}
		last = o.Version
	}
}

func (*suite) testDelete(t *testing.T, s store.Store) {
	ctx := t.Context()
	one := put(t, s, "a/b/c", "1")
	two := put(t, s, "a/b/c", "2")
	put(t, s, "a/d", "x")
	want(t, "Delete of the former version", s.Delete(ctx, "a/b/c", one.Version), store.ErrChanged)
	holds(t, s, "a/b/c", "2")
	must(t, s.Delete(ctx, "a/b/c", two.Version))
	_, err := s.Stat(ctx, "a/b/c")
	want(t, "Stat after Delete", err, store.ErrNotFound)
	want(t, "Delete of a version of nothing", s.Delete(ctx, "a/b/c", two.Version), store.ErrChanged)
	must(t, s.Delete(ctx, "a/b/c", ""))
	if got := keys(t, s, "", store.ListOptions{Delimited: true}); len(got) != 1 || got[0] != "a/" {
		t.Errorf("the delimited list shows %q", got)
	}
	// The name of a folder that has become empty is free for an object.
	put(t, s, "a/b", "y")
	must(t, s.Delete(ctx, "a/d", ""))
	must(t, s.Delete(ctx, "a/b", ""))
	put(t, s, "a", "z")
	holds(t, s, "a", "z")
}
