package storetest

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/store"
)

func (*suite) testList(t *testing.T, s store.Store) {
	all := []string{"a!", "a+b", "a-b", "a.b/c", "a.d", "a/b", "a/c/d", "a/c0", "a0", "aa", "b/x/y/z", "c"}
	for _, key := range slices.Backward(all) {
		put(t, s, key, "x")
	}
	for _, c := range []struct {
		prefix string
		o      store.ListOptions
		want   []string
	}{
		{"", store.ListOptions{}, all},
		{"a", store.ListOptions{}, all[:10]},
		{"a/", store.ListOptions{}, []string{"a/b", "a/c/d", "a/c0"}},
		{"a/c", store.ListOptions{}, []string{"a/c/d", "a/c0"}},
		{"a/c/", store.ListOptions{}, []string{"a/c/d"}},
		{"a/b", store.ListOptions{}, []string{"a/b"}},
		{"a/b/", store.ListOptions{}, nil},
		{"none", store.ListOptions{}, nil},
		{"none/none/", store.ListOptions{}, nil},
		{"", store.ListOptions{After: "a/b"}, all[6:]},
		{"", store.ListOptions{After: "a/bx"}, all[6:]},
		{"", store.ListOptions{After: "a/c/"}, all[6:]},
		{"", store.ListOptions{After: "a/c/d"}, all[7:]},
		{"", store.ListOptions{After: "a/"}, all[5:]},
		{"", store.ListOptions{After: "a"}, all},
		{"", store.ListOptions{After: "b/x/z"}, all[11:]},
		{"", store.ListOptions{After: "c"}, nil},
		{"a/", store.ListOptions{After: "b"}, nil},
		{"b", store.ListOptions{After: "a"}, []string{"b/x/y/z"}},
		{"", store.ListOptions{Delimited: true}, []string{"a!", "a+b", "a-b", "a.b/", "a.d", "a/", "a0", "aa", "b/", "c"}},
		{"a/", store.ListOptions{Delimited: true}, []string{"a/b", "a/c/", "a/c0"}},
		{"a/c", store.ListOptions{Delimited: true}, []string{"a/c/", "a/c0"}},
		{"", store.ListOptions{Delimited: true, After: "a/"}, []string{"a0", "aa", "b/", "c"}},
		{"", store.ListOptions{Delimited: true, After: "a/b"}, []string{"a0", "aa", "b/", "c"}},
		{"", store.ListOptions{Delimited: true, After: "a.d"}, []string{"a/", "a0", "aa", "b/", "c"}},
		{"b/x", store.ListOptions{Delimited: true}, []string{"b/x/"}},
	} {
		if got := keys(t, s, c.prefix, c.o); !slices.Equal(got, c.want) {
			t.Errorf("List(%q, %+v) is %q, want %q", c.prefix, c.o, got, c.want)
		}
	}
	for entry, err := range s.List(t.Context(), "", store.ListOptions{Delimited: true}) {
		must(t, err)
		if entry.Prefix != strings.HasSuffix(entry.Key, "/") || entry.Prefix && entry.Version != "" {
			t.Errorf("a delimited list shows %+v", entry)
		}
	}
}

// List is compared with a sorted slice, over random keys and questions.
func (*suite) testListModel(t *testing.T, s store.Store) {
	part := rapid.StringMatching(`[a!\-=][a0.\-]?`)
	key := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(part, 1, 3).Draw(t, "parts"), "/")
	})
	rapid.Check(t, func(rt *rapid.T) {
		var model []string
		for _, k := range rapid.SliceOfN(key, 0, 8).Draw(rt, "keys") {
			if store.ValidateKey(k) == nil && !conflicts(model, k) {
				put(t, s, k, "x")
				model = append(model, k)
			}
		}
		slices.Sort(model)
		model = slices.Compact(model)
		for range 8 {
			prefix := key.Draw(rt, "prefix")
			prefix = prefix[:rapid.IntRange(0, len(prefix)).Draw(rt, "cut")]
			if store.ValidatePrefix(prefix) != nil {
				continue
			}
			o := store.ListOptions{Delimited: rapid.Bool().Draw(rt, "delimited")}
			if rapid.Bool().Draw(rt, "from a place") {
				o.After = key.Draw(rt, "after")
			}
			got, want := keys(t, s, prefix, o), listModel(model, prefix, o)
			if !slices.Equal(got, want) {
				rt.Fatalf("of %q List(%q, %+v) is %q, want %q", model, prefix, o, got, want)
			}
		}
		for _, k := range model {
			must(t, s.Delete(t.Context(), k, ""))
		}
	})
}

func conflicts(all []string, key string) bool {
	return slices.ContainsFunc(all, func(other string) bool {
		return strings.HasPrefix(other, key+"/") || strings.HasPrefix(key, other+"/")
	})
}

func listModel(sorted []string, prefix string, o store.ListOptions) []string {
	var out []string
	for _, k := range sorted {
		rest, ok := strings.CutPrefix(k, prefix)
		if !ok {
			continue
		}
		if i := strings.IndexByte(rest, '/'); o.Delimited && i >= 0 {
			k = prefix + rest[:i+1]
		}
		if k > o.After && !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

func (*suite) testListStops(t *testing.T, s store.Store) {
	for _, k := range []string{"a/1", "a/2", "b/1", "b/2"} {
		put(t, s, k, "x")
	}
	for _, delimited := range []bool{false, true} {
		n := 0
		for _, err := range s.List(t.Context(), "", store.ListOptions{Delimited: delimited}) {
			must(t, err)
			n++
			break // an iterator that goes on after this panics
		}
		if n != 1 {
			t.Errorf("the list was left after %d entries", n)
		}
	}
	// A list may be run again, and deleting while listing disturbs nothing else.
	list := s.List(t.Context(), "", store.ListOptions{})
	for range 2 {
		for entry, err := range list {
			must(t, err)
			must(t, s.Delete(t.Context(), entry.Key, entry.Version))
		}
	}
	if got := keys(t, s, "", store.ListOptions{}); len(got) != 0 {
		t.Errorf("deleting all that is listed left %q", got)
	}
}
