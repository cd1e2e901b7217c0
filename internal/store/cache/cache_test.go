package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
	"github.com/salvor-dr/salvor/internal/store/storetest"
)

// heads keeps backups/<id>/head, all together.
func heads(key string) string {
	if strings.HasPrefix(key, "backups/") && strings.HasSuffix(key, "/head") {
		return "backups/"
	}
	return ""
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		return New(mem.New(mem.Options{}), Options{Dir: t.TempDir(), Name: "x", Failed: fail(t),
			Group: func(key string) string { return key[:min(1, len(key))] }}) // keeps everything
	}, storetest.InMemory)
}

func fail(t *testing.T) func(error) {
	return func(err error) { t.Errorf("the cache failed: %v", err) }
}

// site is a store whose opened objects are counted, and a directory of caches.
type site struct {
	t     *testing.T
	mem   *mem.Store
	opens atomic.Int32
	dir   string
	o     Options
}

func newSite(t *testing.T) *site {
	s := &site{t: t, dir: filepath.Join(t.TempDir(), "cache")}
	s.mem = mem.New(mem.Options{Hook: func(_ context.Context, c *mem.Call) error {
		if c.Op == mem.OpOpen {
			s.opens.Add(1)
		}
		return nil
	}})
	s.o = Options{Dir: s.dir, Name: "repository", Group: heads, Failed: fail(t)}
	return s
}

func (s *site) put(key, data string) {
	s.t.Helper()
	if _, err := store.Put(s.t.Context(), s.mem, key, []byte(data), store.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// process lists and reads everything, as one run of a program does.
func (s *site) process() (objects map[string]string, opens int) {
	s.t.Helper()
	before := s.opens.Load()
	c := New(s.mem, s.o)
	objects = readAll(s.t, c)
	if err := c.Close(); err != nil {
		s.t.Fatal(err)
	}
	return objects, int(s.opens.Load() - before)
}

func readAll(t testing.TB, c *Store) map[string]string {
	t.Helper()
	objects := map[string]string{}
	for o, err := range c.List(context.Background(), "backups/", store.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		objects[o.Key] = ""
	}
	for key := range objects {
		data, err := store.Get(context.Background(), c, key, 1<<21)
		if err != nil {
			t.Fatal(err)
		}
		objects[key] = string(data)
	}
	return objects
}

func (s *site) files() []string {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "*", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	return files
}

func (s *site) expect(what string, want map[string]string, opens int) {
	s.t.Helper()
	got, n := s.process()
	if d := cmp.Diff(want, got); d != "" || n != opens {
		s.t.Errorf("%s: %d objects were opened in the store, want %d\n%s", what, n, opens, d)
	}
}

func TestKeeps(t *testing.T) {
	s := newSite(t)
	s.put("backups/1/head", "one")
	s.put("backups/2/head", "two")
	s.put("backups/2/files", "not kept")
	s.put("other/1/head", "not listed")
	all := map[string]string{"backups/1/head": "one", "backups/2/head": "two", "backups/2/files": "not kept"}
	s.expect("cold", all, 3)
	s.expect("warm", all, 1)

	s.put("backups/3/head", "three")
	all["backups/3/head"] = "three"
	s.expect("one more", all, 2)
	s.expect("warm again", all, 1)

	s.o.Name = "another repository"
	s.expect("of another store nothing is known", all, 4)
	s.o.Name = "repository"

	if err := s.mem.Delete(t.Context(), "backups/2/head", ""); err != nil {
		t.Fatal(err)
	}
	delete(all, "backups/2/head")
	s.expect("one less", all, 1)
	if data, err := os.ReadFile(New(s.mem, s.o).path("backups/")); err != nil || bytes.Contains(data, []byte("two")) {
		t.Errorf("the copy of a deleted object stays: %v", err)
	}
	for key := range all {
		if err := s.mem.Delete(t.Context(), key, ""); err != nil {
			t.Fatal(err)
		}
	}
	s.expect("nothing left", map[string]string{}, 0)
	if files := s.files(); len(files) != 1 { // of the other repository
		t.Errorf("the cache of an empty group stays: %q", files)
	}
}

// An object that was not listed is read from the store, absent ones too.
func TestOnlyWhatWasListed(t *testing.T) {
	s := newSite(t)
	s.put("backups/1/head", "one")
	s.process()
	c := New(s.mem, s.o)
	before := s.opens.Load()
	if data, err := store.Get(t.Context(), c, "backups/1/head", 10); err != nil || string(data) != "one" || s.opens.Load() != before+1 {
		t.Errorf("%q, %v", data, err)
	}
	if err := s.mem.Delete(t.Context(), "backups/1/head", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(t.Context(), c, "backups/1/head", 10); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an object that is gone: %v", err)
	}
}

// What is at the same place in another version is not the one that is kept.
func TestAnotherVersion(t *testing.T) {
	s := newSite(t)
	s.put("backups/1/head", "one")
	s.process()
	s.put("backups/1/head", "damaged")
	s.expect("changed in the store", map[string]string{"backups/1/head": "damaged"}, 1)
}

// Ranges of a kept object are as the store gives them.
func TestRanges(t *testing.T) {
	s := newSite(t)
	s.put("backups/1/head", "0123456789")
	s.process()
	c := New(s.mem, s.o)
	for _, err := range c.List(t.Context(), "backups/", store.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	before := s.opens.Load()
	for _, r := range [][2]int64{{0, -1}, {3, 4}, {3, -1}, {8, 5}, {10, 0}, {10, 1}, {11, 1}, {-1, 2}} {
		got, gotErr := openRange(t.Context(), c, r)
		n := s.opens.Load()
		want, wantErr := openRange(t.Context(), s.mem, r)
		if got != want || errors.Is(gotErr, store.ErrRange) != errors.Is(wantErr, store.ErrRange) || (gotErr == nil) != (wantErr == nil) || n != before {
			t.Errorf("%v: %q, %v; the store says %q, %v", r, got, gotErr, want, wantErr)
		}
		before = s.opens.Load()
	}
}

func openRange(ctx context.Context, s store.Store, r [2]int64) (string, error) {
	in, err := s.Open(ctx, "backups/1/head", r[0], r[1])
	if err != nil {
		return "", err
	}
	defer in.Close()
	data, err := io.ReadAll(in)
	return string(data), err
}

// A cache that can neither be read nor written costs time and nothing else.
func TestUnusable(t *testing.T) {
	s := newSite(t)
	s.put("backups/1/head", "one")
	if err := os.WriteFile(s.dir, nil, 0o600); err != nil { // where the directory should be
		t.Fatal(err)
	}
	failed := 0
	s.o.Failed = func(error) { failed++ }
	s.expect("no directory", map[string]string{"backups/1/head": "one"}, 1)
	if failed == 0 {
		t.Error("nobody was told")
	}
}

// What is done to the file while it is open is no trouble: another process replaces it,
// or somebody cuts it, and what is not there any more comes from the store.
func TestFileGoesWhileOpen(t *testing.T) {
	for what, spoil := range map[string]func(path string) error{
		"removed":  os.Remove,
		"cut":      func(path string) error { return os.Truncate(path, 60) },
		"replaced": func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, []byte("x"), 0o600)) },
	} {
		t.Run(what, func(t *testing.T) {
			s := newSite(t)
			all := map[string]string{}
			for i := range 9 {
				all[fmt.Sprintf("backups/%d/head", i)] = strings.Repeat(fmt.Sprint(i), 100)
			}
			for key, data := range all {
				s.put(key, data)
			}
			s.process()
			s.o.Failed = func(error) {} // it may be told
			c := New(s.mem, s.o)
			for range 2 {
				if got := readAll(t, c); !maps.Equal(got, all) {
					t.Errorf("read %q", got)
				}
				if err := spoil(s.files()[0]); err != nil {
					t.Fatal(err)
				}
				if what != "cut" {
					break
				}
			}
			if got := readAll(t, c); !maps.Equal(got, all) {
				t.Errorf("read %q", got)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			s.expect("after it", all, map[string]int{"removed": 9, "cut": 0, "replaced": 9}[what])
			s.expect("and again", all, 0)
			if left := s.files(); len(left) != 1 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// Large objects are not kept, and a group has an end.
func TestBounds(t *testing.T) {
	s := newSite(t)
	s.o.GroupMax = 10_000
	all := map[string]string{}
	for i := range 20 {
		all[fmt.Sprintf("backups/%d/head", i)] = strings.Repeat("x", 1000)
	}
	all["backups/large/head"] = strings.Repeat("y", objectMax+1)
	for key, data := range all {
		s.put(key, data)
	}
	s.process()
	s.expect("more than is kept", all, 11)
	info, err := os.Stat(s.files()[0])
	if err != nil || info.Size() > 11_000 {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
}

// What nobody writes any more goes, and nothing that is not ours.
func TestSweep(t *testing.T) {
	s := newSite(t)
	old := time.Now().Add(-unusedMax - time.Hour)
	name := strings.Repeat("ab", 16)
	for path, keep := range map[string]bool{
		"gone/" + name: false, "gone/" + tmpPrefix + "1": false, "other/" + name: false, "other/notes.txt": true, name: true, "other/" + name[:30]: true,
	} {
		path = filepath.Join(s.dir, path)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, nil, 0o600))
		must(t, os.Chtimes(path, old, old))
		defer func() {
			if _, err := os.Stat(path); (err == nil) != keep {
				t.Errorf("%s: %v", path, err)
			}
		}()
	}
	s.put("backups/1/head", "one")
	s.process()
	if _, err := os.Stat(filepath.Join(s.dir, "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty directory stays: %v", err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever several processes do, and whatever happens to the cache's files, who reads
// what he has listed gets what the store has; and where a copy is of no use, after
// Forget.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := newSite(t)
		s.o.Failed = nil
		var open []*Store
		next := 0
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				next++
				s.put(fmt.Sprintf("backups/%06d/head", next), strings.Repeat(fmt.Sprint(next), rapid.IntRange(1, 50).Draw(rt, "length")))
			},
			"delete": func(rt *rapid.T) {
				key := fmt.Sprintf("backups/%06d/head", rapid.IntRange(1, next+1).Draw(rt, "which"))
				must(t, s.mem.Delete(t.Context(), key, ""))
			},
			"start": func(*rapid.T) { open = append(open, New(s.mem, s.o)) },
			"end": func(*rapid.T) {
				if len(open) > 0 {
					open[0].save()
					open = open[1:]
				}
			},
			"damage": func(rt *rapid.T) {
				for _, path := range s.files() {
					data, err := os.ReadFile(path)
					must(t, err)
					i := rapid.IntRange(0, len(data)).Draw(rt, "where")
					if i == len(data) || rapid.Bool().Draw(rt, "cut") {
						data = data[:i]
					} else {
						data[i] ^= byte(rapid.IntRange(1, 255).Draw(rt, "bits"))
					}
					must(t, os.WriteFile(path, data, 0o600))
				}
			},
			"read": func(rt *rapid.T) {
				if len(open) == 0 {
					return
				}
				c := open[rapid.IntRange(0, len(open)-1).Draw(rt, "process")]
				var want []string
				for o, err := range c.List(t.Context(), "backups/", store.ListOptions{}) {
					must(t, err)
					want = append(want, o.Key)
				}
				for _, key := range want {
					checkRead(rt, s.mem, c, key)
				}
			},
		})
	})
}

func checkRead(t *rapid.T, m *mem.Store, c *Store, key string) {
	want, err := store.Get(context.Background(), m, key, 1000)
	if err != nil {
		t.Fatal(err)
	}
	got, err := store.Get(context.Background(), c, key, 1000)
	if err == nil && bytes.Equal(got, want) {
		return
	}
	if !c.Forget(key) {
		t.Fatalf("%s: %q, %v, and there was no copy", key, got, err)
	}
	if got, err = store.Get(context.Background(), c, key, 1000); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s: %q, %v after its copy was dropped", key, got, err)
	}
}

// encoded is a file with these objects.
func encoded(t testing.TB, objects map[string]string) []byte {
	t.Helper()
	entries := map[string]entry{}
	for key, data := range objects {
		entries[key] = entry{version: "v", from: strings.NewReader(data), size: int64(len(data))}
	}
	var b bytes.Buffer
	if err := writeTo(&b, "a/", entries); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func FuzzParse(f *testing.F) {
	f.Add(encoded(f, map[string]string{"a/1": "data", "a/2": ""}))
	f.Add([]byte(magic))
	f.Add([]byte(magic + "\x02a/\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parse("a/", bytes.NewReader(b), int64(len(b)))
		objects := map[string]string{}
		for key, e := range entries {
			e.from = bytes.NewReader(b)
			data, err := e.bytes()
			if err != nil {
				t.Fatalf("%s at %d, %d bytes of a file of %d: %v", key, e.at, e.size, len(b), err)
			}
			objects[key] = string(data)
		}
		if err != nil {
			return
		}
		b = encoded(t, objects)
		again, err := parse("a/", bytes.NewReader(b), int64(len(b)))
		if err != nil || len(again) != len(objects) {
			t.Fatalf("%v, %v, %v", entries, again, err)
		}
		for key, e := range again {
			e.from = bytes.NewReader(b)
			if data, err := e.bytes(); err != nil || string(data) != objects[key] {
				t.Fatalf("%s: %q and then %q, %v", key, objects[key], data, err)
			}
		}
	})
}
