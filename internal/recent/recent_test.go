package recent

import (
	"errors"
	"testing"
)

// What was used last is held, what was not used for longest goes, and an error is
// tried again.
func TestValues(t *testing.T) {
	t.Parallel()
	loads := map[string]int{}
	v := New[string, string](2)
	get := func(key string) {
		t.Helper()
		got, err := v.Get(key, func() (string, error) {
			loads[key]++
			return "of " + key, nil
		})
		if err != nil || got != "of "+key {
			t.Fatalf("%s: %q, %v", key, got, err)
		}
	}
	for _, key := range []string{"a", "b", "a", "c", "a", "b"} { // c puts b out, then b puts c out
		get(key)
	}
	for key, want := range map[string]int{"a": 1, "b": 2, "c": 1} {
		if loads[key] != want {
			t.Errorf("%s was loaded %d times, not %d", key, loads[key], want)
		}
	}
	broken := errors.New("broken")
	for range 2 {
		if _, err := v.Get("d", func() (string, error) { loads["d"]++; return "", broken }); !errors.Is(err, broken) {
			t.Error(err)
		}
	}
	if get("a"); loads["d"] != 2 || loads["a"] != 1 {
		t.Errorf("loaded: %v", loads)
	}
}
