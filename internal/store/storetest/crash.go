package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/vfs"
	"github.com/salvor-dr/salvor/internal/vfs/vfstest"
)

// OpenOn opens the store under test on a file system, and makes what it needs
// where it is missing.
type OpenOn func(vfs.FS) (store.Store, error)

// Crash runs random work on a store, and before each change of the file system
// takes the power away, in several ways. What is found afterwards must be: every
// object that was committed, whole; nothing that was deleted; of the work under
// way the state before it or the state after it; and a store that works.
// rapid prints the seed of a failure, and replays it.
func Crash(t *testing.T, open OpenOn) {
	rapid.Check(t, func(t *rapid.T) {
		steps := genSteps(1).Draw(t, "steps")
		seed := rapid.Uint64().Draw(t, "crash seed")
		if err := explore(open, steps, seed); err != nil {
			t.Fatal(err)
		}
	})
}

// CrashFinds proves that Crash would notice: it runs the same work on a store
// that is broken, and fails when nothing of that is seen.
func CrashFinds(t *testing.T, broken OpenOn) {
	t.Helper()
	for i := range 200 {
		steps := genSteps(4).Example(i)
		if err := explore(broken, steps, uint64(i)); err != nil {
			t.Logf("found after %d runs: %v", i+1, err)
			return
		}
	}
	t.Error("the crash suite does not see that the store is broken")
}

// step is one piece of work on one key.
type step struct {
	Do   string
	Key  string
	Size int
}

func genSteps(least int) *rapid.Generator[[]step] {
	kinds := []string{"put", "create", "replace", "stale", "delete", "delete version", "abort"}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			Do:   rapid.SampledFrom(kinds).Draw(t, "do"),
			Key:  rapid.SampledFrom(crashKeys()).Draw(t, "key"),
			Size: rapid.SampledFrom([]int{0, 10, 700, 3000}).Draw(t, "size"),
		}
	}), least, 8)
}

// crashKeys has keys in one folder, in nested ones, and two of which one is the
// folder of the other: of these one at a time may exist. They are in order.
func crashKeys() []string { return []string{"a", "d/e/z", "d/x", "d/y", "n", "n/m"} }

// state is what a key holds; nil is no object.
type state *string

func describeState(s state) string {
	if s == nil {
		return "no object"
	}
	return fmt.Sprintf("%d bytes, %.12q", len(*s), *s)
}

// explorer runs steps and looks at every crash on the way.
type explorer struct {
	open     OpenOn
	disk     *vfstest.FS
	seed     uint64
	at       string // for messages
	now      map[string]state
	versions map[string]store.Version
	busy     string // the key worked on
	next     state  // what it will hold
	err      error
}

func explore(open OpenOn, steps []step, seed uint64) error {
	e := &explorer{open: open, disk: vfstest.New(), seed: seed, at: "opening",
		now: map[string]state{}, versions: map[string]store.Version{}}
	e.disk.SetHook(func(c *vfstest.Call) error {
		if c.Op.Changes() {
			e.crash(fmt.Sprintf("before %s of %s", c.Op, c.Name))
		}
		return nil
	})
	s, err := open(e.disk)
	if err != nil {
		return err
	}
	for i, st := range steps {
		e.at = fmt.Sprintf("step %d of %+v", i, steps)
		if err := e.run(s, i, st); err != nil {
			return fmt.Errorf("%s: %w", e.at, err)
		}
		e.crash("after it")
		if e.err != nil {
			return e.err
		}
	}
	if err := s.Close(); err != nil {
		return err
	}
	if n := e.disk.Open(); n != 0 {
		return fmt.Errorf("%d files were left open", n)
	}
	return nil
}

// run does one step, and checks its result.
func (e *explorer) run(s store.Store, i int, st step) error {
	data := strings.Repeat(string(rune('A'+i)), st.Size)
	e.busy, e.next = st.Key, &data
	want := e.outcome(st)
	if want != nil || st.Do == "abort" {
		e.next = e.now[st.Key]
	} else if st.Do == "delete" || st.Do == "delete version" {
		e.next = nil
	}
	o, err := e.act(s, st, data)
	if !errors.Is(err, want) {
		return fmt.Errorf("error is %w, want %w", err, want)
	}
	e.now[st.Key] = e.next
	if want == nil && o.Version != "" {
		e.versions[st.Key] = o.Version
	}
	e.busy = ""
	return nil
}

// outcome is the error that a step must have.
func (e *explorer) outcome(st step) error {
	there := e.now[st.Key] != nil
	switch st.Do {
	case "abort", "delete":
		return nil
	case "replace", "delete version":
		if !there {
			return store.ErrChanged
		}
		return nil
	case "stale":
		return store.ErrChanged
	case "create":
		if there {
			return store.ErrExists
		}
	}
	for key, s := range e.now {
		if s != nil && (strings.HasPrefix(key, st.Key+"/") || strings.HasPrefix(st.Key, key+"/")) {
			return store.ErrInvalidKey
		}
	}
	return nil
}

func (e *explorer) act(s store.Store, st step, data string) (store.Object, error) {
	ctx := context.Background()
	version := e.versions[st.Key]
	if version == "" {
		version = "none"
	}
	put := func(o store.CreateOptions) (store.Object, error) { return store.Put(ctx, s, st.Key, []byte(data), o) }
	switch st.Do {
	case "put":
		return put(store.CreateOptions{})
	case "create":
		return put(store.CreateOptions{IfAbsent: true})
	case "replace":
		return put(store.CreateOptions{IfMatch: version})
	case "stale":
		return put(store.CreateOptions{IfMatch: "stale"})
	case "delete":
		return store.Object{}, s.Delete(ctx, st.Key, "")
	case "delete version":
		return store.Object{}, s.Delete(ctx, st.Key, version)
	}
	w, err := s.Create(ctx, st.Key, store.CreateOptions{})
	if err != nil {
		return store.Object{}, err
	}
	if _, err := w.Write([]byte(data)); err != nil {
		return store.Object{}, err
	}
	return store.Object{}, w.Abort()
}

// crash takes the power away in several ways, and keeps the first fault.
func (e *explorer) crash(moment string) {
	e.seed = e.seed*6364136223846793005 + 1442695040888963407 // Knuth, MMIX
	use := e.seed>>62 == 0                                    // now and then, for it takes most of the time
	for _, seed := range []uint64{0, 1, e.seed} {
		if e.err != nil {
			return
		}
		if err := e.check(e.disk.Crash(seed), use && seed > 1); err != nil {
			e.err = fmt.Errorf("%s, crash %d %s: %w", e.at, seed, moment, err)
		}
	}
}

// check judges what a crash left, and, when use is set, that a store on it works.
func (e *explorer) check(disk *vfstest.FS, use bool) error {
	s, err := e.open(disk)
	if err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	var there []string
	for _, key := range crashKeys() {
		got, err := stateOf(s, key)
		if err != nil {
			return err
		}
		if !sameState(got, e.now[key]) && !(key == e.busy && sameState(got, e.next)) {
			return fmt.Errorf("%s holds %s; committed was %s", key, describeState(got), describeState(e.now[key]))
		}
		if got != nil {
			there = append(there, key)
		}
	}
	var listed []string
	for o, err := range s.List(context.Background(), "", store.ListOptions{}) {
		if err != nil {
			return err
		}
		listed = append(listed, o.Key)
	}
	if !slices.Equal(listed, there) {
		return fmt.Errorf("the list shows %q, and there are %q", listed, there)
	}
	if use {
		if err := works(s, there); err != nil {
			return fmt.Errorf("using the store that has %q: %w", there, err)
		}
	}
	return s.Close()
}

func stateOf(s store.Store, key string) (state, error) {
	data, err := store.Get(context.Background(), s, key, 1<<20)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	text := string(data)
	return &text, nil
}

func sameState(a, b state) bool { return a == b || a != nil && b != nil && *a == *b }

// works uses a store after a crash: leftovers can be removed, objects replaced,
// made and deleted.
func works(s store.Store, there []string) error {
	ctx := context.Background()
	if c, ok := s.(store.TempCleaner); ok {
		for i := range 2 {
			n, _, err := c.RemoveTemporary(ctx, 0, time.Unix(1<<33, 0))
			if err != nil || i == 1 && n > 0 {
				return fmt.Errorf("removing leftovers again found %d: %w", n, err)
			}
		}
	}
	for _, key := range there {
		if _, err := store.Put(ctx, s, key, []byte("new"), store.CreateOptions{}); err != nil {
			return err
		}
		if err := s.Delete(ctx, key, ""); err != nil {
			return err
		}
	}
	for _, key := range crashKeys() { // in the absence of all others
		if _, err := store.Put(ctx, s, key, []byte("new"), store.CreateOptions{IfAbsent: true}); err != nil {
			return err
		}
		if err := s.Delete(ctx, key, ""); err != nil {
			return err
		}
	}
	return nil
}
