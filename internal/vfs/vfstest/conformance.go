package vfstest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/vfs"
)

// Run is the conformance suite of vfs.FS. dir is an empty directory of fsys.
func Run(t *testing.T, fsys vfs.FS, dir string) {
	for _, c := range []struct {
		name string
		test func(*testing.T, vfs.FS, string)
	}{
		{"files", testFiles},
		{"names", testNames},
		{"kinds", testKinds},
		{"no replace", testNoReplace},
		{"no replace race", testNoReplaceRace},
		{"mkdir all", testMkdirAll},
		{"times", testTimes},
		{"lock", testLock},
		{"same file", testSameFile},
		{"identity", testIdentity},
	} {
		t.Run(c.name, func(t *testing.T) {
			sub := filepath.Join(dir, filepath.Base(t.Name()))
			must(t, fsys.Mkdir(sub, 0o755))
			c.test(t, fsys, sub)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("error is %v, want %v", err, kind)
	}
}

// WriteFile makes a file with these bytes, not synced.
func WriteFile(t *testing.T, fsys vfs.FS, name, data string) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	must(t, err)
	_, err = f.Write([]byte(data))
	must(t, err)
	must(t, f.Close())
}

// ReadFile returns a file's bytes.
func ReadFile(t *testing.T, fsys vfs.FS, name string) string {
	t.Helper()
	f, err := vfs.Open(fsys, name)
	must(t, err)
	data, err := io.ReadAll(f)
	must(t, err)
	must(t, f.Close())
	return string(data)
}

func testFiles(t *testing.T, fsys vfs.FS, dir string) {
	f, err := vfs.Create(fsys, filepath.Join(dir, "f"), 0o644)
	must(t, err)
	_, err = f.Write([]byte("hello "))
	must(t, err)
	_, err = f.Write([]byte("world"))
	must(t, err)
	_, err = f.WriteAt([]byte("W"), 6)
	must(t, err)
	_, err = f.WriteAt([]byte("!"), 12)
	must(t, err)
	must(t, f.Sync())

	buf := make([]byte, 5)
	n, err := f.ReadAt(buf, 6)
	if n != 5 || err != nil || string(buf) != "World" {
		t.Errorf("ReadAt: %d, %v, %q", n, err, buf)
	}
	n, err = f.ReadAt(buf, 10)
	if n != 3 || err != io.EOF || string(buf[:n]) != "d\x00!" {
		t.Errorf("ReadAt over the end: %d, %v, %q", n, err, buf[:n])
	}
	must(t, f.Truncate(5))
	fi, err := f.Stat()
	must(t, err)
	if fi.Size() != 5 || fi.IsDir() || !fi.Mode().IsRegular() {
		t.Errorf("Stat: size %d, mode %v", fi.Size(), fi.Mode())
	}
	must(t, f.Close())
	_, err = f.Write([]byte("x"))
	want(t, err, fs.ErrClosed)
	if got := ReadFile(t, fsys, filepath.Join(dir, "f")); got != "hello" {
		t.Errorf("the file holds %q", got)
	}
}

func testNames(t *testing.T, fsys vfs.FS, dir string) {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	WriteFile(t, fsys, a, "A")
	WriteFile(t, fsys, b, "B")
	old, err := vfs.Open(fsys, b)
	must(t, err)
	must(t, fsys.Rename(a, b))
	if got := ReadFile(t, fsys, b); got != "A" {
		t.Errorf("after a rename the file holds %q", got)
	}
	if data, err := io.ReadAll(old); string(data) != "B" || err != nil {
		t.Errorf("an open file that was replaced reads %q, %v", data, err)
	}
	must(t, old.Close())
	_, err = fsys.Stat(a)
	want(t, err, fs.ErrNotExist)
	must(t, fsys.Mkdir(filepath.Join(dir, "d"), 0o755))
	entries, err := fsys.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		if e.IsDir() != (e.Name() == "d") {
			t.Errorf("%s: IsDir is %v", e.Name(), e.IsDir())
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"b", "d"}) {
		t.Errorf("ReadDir: %q", names)
	}
	must(t, fsys.Remove(b))
	must(t, fsys.Remove(filepath.Join(dir, "d")))
	must(t, vfs.SyncDir(fsys, dir))
}

func testKinds(t *testing.T, fsys vfs.FS, dir string) {
	f, d := filepath.Join(dir, "f"), filepath.Join(dir, "d")
	WriteFile(t, fsys, f, "x")
	must(t, fsys.Mkdir(d, 0o755))
	WriteFile(t, fsys, filepath.Join(d, "x"), "x")

	_, err := vfs.Create(fsys, f, 0o644)
	want(t, err, fs.ErrExist)
	_, err = vfs.Open(fsys, filepath.Join(dir, "none"))
	want(t, err, fs.ErrNotExist)
	_, err = vfs.Open(fsys, filepath.Join(f, "x"))
	want(t, err, syscall.ENOTDIR)
	_, err = fsys.Stat(filepath.Join(f, "x"))
	want(t, err, syscall.ENOTDIR)
	want(t, fsys.Mkdir(d, 0o755), fs.ErrExist)
	want(t, fsys.Mkdir(filepath.Join(dir, "none", "x"), 0o755), fs.ErrNotExist)
	want(t, fsys.Remove(d), syscall.ENOTEMPTY)
	want(t, fsys.Remove(filepath.Join(dir, "none")), fs.ErrNotExist)
	want(t, fsys.Rename(filepath.Join(dir, "none"), f), fs.ErrNotExist)
	want(t, fsys.Rename(f, filepath.Join(dir, "none", "x")), fs.ErrNotExist)
	_, err = fsys.ReadDir(filepath.Join(dir, "none"))
	want(t, err, fs.ErrNotExist)
	if err := fsys.Rename(f, d); err == nil {
		t.Error("a file replaced a directory")
	}
	r, err := vfs.Open(fsys, f)
	must(t, err)
	if _, err := r.Write([]byte("y")); err == nil {
		t.Error("a file opened for reading was written")
	}
	must(t, r.Close())
}

func testNoReplace(t *testing.T, fsys vfs.FS, dir string) {
	a, b, d := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "d")
	WriteFile(t, fsys, a, "A")
	must(t, fsys.RenameNoReplace(a, b))
	WriteFile(t, fsys, a, "A2")
	want(t, fsys.RenameNoReplace(a, b), fs.ErrExist)
	if got := ReadFile(t, fsys, b) + ReadFile(t, fsys, a); got != "AA2" {
		t.Errorf("after the refused rename the files hold %q", got)
	}
	must(t, fsys.Mkdir(d, 0o755))
	want(t, fsys.RenameNoReplace(a, d), fs.ErrExist)
	want(t, fsys.RenameNoReplace(a, filepath.Join(dir, "none", "x")), fs.ErrNotExist)
	want(t, fsys.RenameNoReplace(filepath.Join(dir, "none"), filepath.Join(dir, "c")), fs.ErrNotExist)
}

func testNoReplaceRace(t *testing.T, fsys vfs.FS, dir string) {
	var wins, losses int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 16 {
		name := filepath.Join(dir, string(rune('a'+i)))
		WriteFile(t, fsys, name, name)
		wg.Go(func() {
			err := fsys.RenameNoReplace(name, filepath.Join(dir, "target"))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				wins++
			case errors.Is(err, fs.ErrExist):
				losses++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if wins != 1 || losses != 15 {
		t.Errorf("%d won and %d lost, want 1 and 15", wins, losses)
	}
}

func testMkdirAll(t *testing.T, fsys vfs.FS, dir string) {
	deep := filepath.Join(dir, "x", "y", "z")
	made, err := vfs.MkdirAll(fsys, deep, 0o755)
	must(t, err)
	if !slices.Equal(made, []string{filepath.Join(dir, "x"), filepath.Join(dir, "x", "y"), deep}) {
		t.Errorf("MkdirAll made %q", made)
	}
	made, err = vfs.MkdirAll(fsys, deep, 0o755)
	if len(made) != 0 || err != nil {
		t.Errorf("MkdirAll again made %q, %v", made, err)
	}
	WriteFile(t, fsys, filepath.Join(dir, "f"), "x")
	_, err = vfs.MkdirAll(fsys, filepath.Join(dir, "f"), 0o755)
	want(t, err, syscall.ENOTDIR)
	_, err = vfs.MkdirAll(fsys, filepath.Join(dir, "f", "x"), 0o755)
	want(t, err, syscall.ENOTDIR)
}

func testTimes(t *testing.T, fsys vfs.FS, dir string) {
	name := filepath.Join(dir, "f")
	f, err := vfs.Create(fsys, name, 0o644)
	must(t, err)
	_, err = f.Write([]byte("x"))
	must(t, err)
	when := time.Unix(1_234_567_890, 123_456_789)
	must(t, f.SetModTime(when))
	must(t, f.Close())
	fi, err := fsys.Stat(name)
	must(t, err)
	if !fi.ModTime().Equal(when) {
		t.Errorf("the time is %v, want %v", fi.ModTime(), when)
	}
}

func testLock(t *testing.T, fsys vfs.FS, dir string) {
	name := filepath.Join(dir, "lock")
	WriteFile(t, fsys, name, "")
	open := func() vfs.File {
		f, err := fsys.OpenFile(name, os.O_RDWR, 0)
		must(t, err)
		return f
	}
	a, b := open(), open()
	must(t, a.TryLock())
	must(t, a.TryLock())
	want(t, b.TryLock(), vfs.ErrLocked)
	must(t, a.Close())
	must(t, b.TryLock())
	must(t, b.Close())
}

// testIdentity is for file systems whose files are vfs.Identifiers.
func testIdentity(t *testing.T, fsys vfs.FS, dir string) {
	identity := func(f vfs.File) (string, bool) {
		i, ok := f.(vfs.Identifier)
		if !ok {
			return "", false
		}
		return i.Identity()
	}
	a := filepath.Join(dir, "a")
	must(t, fsys.Mkdir(a, 0o755))
	must(t, fsys.Mkdir(filepath.Join(dir, "b"), 0o755))
	held, err := vfs.Open(fsys, a)
	must(t, err)
	id, ok := identity(held)
	if !ok {
		must(t, held.Close())
		t.Log("this file system tells no identities")
		return
	}
	is := func(what, name string, want bool) {
		t.Helper()
		f, err := vfs.Open(fsys, filepath.Join(dir, name))
		must(t, err)
		if other, ok := identity(f); !ok || (other == id) != want {
			t.Errorf("%s has the identity %q, the directory had %q", what, other, id)
		}
		must(t, f.Close())
	}
	f, err := vfs.Create(fsys, filepath.Join(a, "x"), 0o600)
	must(t, err)
	must(t, f.Close())
	is("the directory with something in it", "a", true)
	is("another directory", "b", false)
	must(t, fsys.Remove(filepath.Join(a, "x")))
	must(t, fsys.Remove(a))
	must(t, fsys.Mkdir(a, 0o755))
	is("a directory made anew", "a", false)
	must(t, held.Close())
}

func testSameFile(t *testing.T, fsys vfs.FS, dir string) {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	must(t, fsys.Mkdir(a, 0o755))
	held, err := vfs.Open(fsys, a)
	must(t, err)
	must(t, fsys.Mkdir(b, 0o755))
	stat := func(name string) fs.FileInfo {
		fi, err := fsys.Stat(name)
		must(t, err)
		return fi
	}
	fi, err := held.Stat()
	must(t, err)
	if !vfs.SameFile(fi, stat(a)) || vfs.SameFile(fi, stat(b)) {
		t.Error("SameFile does not tell two directories apart")
	}
	must(t, fsys.Remove(a))
	must(t, fsys.Mkdir(a, 0o755))
	if vfs.SameFile(fi, stat(a)) {
		t.Error("a directory made anew is the same as the one removed, which is held open")
	}
	must(t, held.Close())
}
