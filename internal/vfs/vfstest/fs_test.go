package vfstest_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/salvor-dr/salvor/internal/vfs"
	"github.com/salvor-dr/salvor/internal/vfs/vfstest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	fsys := vfstest.New()
	vfstest.Run(t, fsys, "/")
	if n := fsys.Open(); n != 0 {
		t.Errorf("%d files are open at the end", n)
	}
}

// fate collects what a file holds after many crashes; "-" is no such file.
func fate(t *testing.T, fsys *vfstest.FS, name string) map[string]bool {
	seen := map[string]bool{}
	for seed := range uint64(200) {
		c := fsys.Crash(seed)
		if _, err := c.Stat(name); errors.Is(err, fs.ErrNotExist) {
			seen["-"] = true
			continue
		}
		seen[vfstest.ReadFile(t, c, name)] = true
	}
	return seen
}

func syncFile(t *testing.T, fsys vfs.FS, name string) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

func TestCrash(t *testing.T) {
	t.Parallel()
	steps := []struct {
		what string
		do   func(*testing.T, *vfstest.FS)
		want []string
	}{
		{"create", func(t *testing.T, y *vfstest.FS) { vfstest.WriteFile(t, y, "/f", "1") }, []string{"-", "", "1", "\x00"}},
		{"sync file", func(t *testing.T, y *vfstest.FS) { syncFile(t, y, "/f") }, []string{"-", "1"}},
		{"sync directory", func(t *testing.T, y *vfstest.FS) { must(t, vfs.SyncDir(y, "/")) }, []string{"1"}},
		{"replace", func(t *testing.T, y *vfstest.FS) {
			vfstest.WriteFile(t, y, "/g", "22")
			syncFile(t, y, "/g")
			must(t, y.Rename("/g", "/f"))
		}, []string{"1", "22"}},
		{"remove", func(t *testing.T, y *vfstest.FS) { must(t, y.Remove("/f")) }, []string{"1", "22", "-"}},
		{"sync directory again", func(t *testing.T, y *vfstest.FS) { must(t, vfs.SyncDir(y, "/")) }, []string{"-"}},
	}
	fsys := vfstest.New()
	for _, s := range steps {
		s.do(t, fsys)
		seen := fate(t, fsys, "/f")
		for _, w := range s.want {
			if !seen[w] {
				t.Errorf("after %s: no crash leaves %q", s.what, w)
			}
			delete(seen, w)
		}
		for got := range seen {
			t.Errorf("after %s: a crash leaves %q", s.what, got)
		}
	}
}

// Sectors are kept or lost each for itself, and never become anything else.
func TestCrashTearsFiles(t *testing.T) {
	t.Parallel()
	fsys := vfstest.New()
	a, b := bytes.Repeat([]byte("a"), 2048), bytes.Repeat([]byte("b"), 2048)
	vfstest.WriteFile(t, fsys, "/f", string(a))
	syncFile(t, fsys, "/f")
	must(t, vfs.SyncDir(fsys, "/"))
	f, err := fsys.OpenFile("/f", os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(b, 0)
	must(t, err)
	torn := false
	for got := range fate(t, fsys, "/f") {
		if len(got) != 2048 {
			t.Fatalf("the size is %d", len(got))
		}
		for i := range got {
			if got[i] != got[i/512*512] {
				t.Fatalf("sector %d is torn", i/512)
			}
		}
		torn = torn || got[0] != got[2047]
	}
	if !torn {
		t.Error("no crash tears the file")
	}
	must(t, f.Sync())
	if seen := fate(t, fsys, "/f"); len(seen) != 1 || !seen[string(b)] {
		t.Errorf("after Sync %d states are possible", len(seen))
	}
	must(t, f.Close())
}

// A directory is as durable as its name in the parent.
func TestCrashLosesDirectory(t *testing.T) {
	t.Parallel()
	fsys := vfstest.New()
	_, err := vfs.MkdirAll(fsys, "/a/b", 0o755)
	must(t, err)
	vfstest.WriteFile(t, fsys, "/a/b/f", "1")
	syncFile(t, fsys, "/a/b/f")
	for _, dir := range []string{"/a/b", "/a"} {
		must(t, vfs.SyncDir(fsys, dir))
		if seen := fate(t, fsys, "/a/b/f"); !seen["-"] {
			t.Errorf("after the sync of %s no crash loses the file", dir)
		}
	}
	must(t, vfs.SyncDir(fsys, "/"))
	if seen := fate(t, fsys, "/a/b/f"); seen["-"] {
		t.Error("the file is lost although everything is synced")
	}
}

func TestHook(t *testing.T) {
	t.Parallel()
	fsys := vfstest.New()
	f, err := vfs.Create(fsys, "/f", 0o644)
	must(t, err)
	fsys.SetHook(func(c *vfstest.Call) error {
		if c.Op == vfstest.OpWrite {
			c.Len = 3
			return syscall.ENOSPC
		}
		return nil
	})
	if n, err := f.Write([]byte("hello")); n != 3 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a write on a full disk: %d, %v", n, err)
	}
	fsys.SetHook(func(c *vfstest.Call) error { c.Len = min(c.Len, 1); return nil })
	if n, err := f.Write([]byte("lo")); n != 1 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a short write: %d, %v", n, err)
	}
	fsys.SetHook(vfstest.FailNth(2, nil, syscall.EIO))
	must(t, f.Sync())
	if err := f.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the second operation: %v", err)
	}
	if fsys.Open() != 0 {
		t.Error("a Close that failed left the file open")
	}
	fsys.SetHook(nil)
	if got := vfstest.ReadFile(t, fsys, "/f"); got != "hell" {
		t.Errorf("the file holds %q", got)
	}
}
