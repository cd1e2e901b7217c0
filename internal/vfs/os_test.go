package vfs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/salvor-dr/salvor/internal/vfs"
	"github.com/salvor-dr/salvor/internal/vfs/vfstest"
)

func TestOS(t *testing.T) {
	t.Parallel()
	vfstest.Run(t, vfs.OS(), t.TempDir())
}

func TestOpenRefusesSymlink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/etc/hostname", link); err != nil {
		t.Fatal(err)
	}
	if f, err := vfs.Open(vfs.OS(), link); err == nil {
		t.Errorf("%v was opened through a symbolic link", f)
	}
	fi, err := vfs.OS().Stat(link)
	if err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("Stat followed the link: %v, %v", fi, err)
	}
}

func TestHints(t *testing.T) {
	t.Parallel()
	f, err := vfs.Create(vfs.OS(), filepath.Join(t.TempDir(), "f"), 0o640)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 1<<20)
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	h, ok := f.(vfs.Hinter)
	if !ok {
		t.Fatal("the system's file takes no hints")
	}
	h.StartWriteback(0, int64(len(data)))
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	h.DropCache(0, 0)
	if n, err := f.ReadAt(data, 0); n != len(data) || err != nil {
		t.Errorf("after the hints %d bytes can be read, %v", n, err)
	}
	if _, ok := f.(vfs.Owner); !ok {
		t.Error("the system's file cannot be given away")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	h.StartWriteback(0, 0) // on a closed file it does nothing
	if err := f.TryLock(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("locking a closed file: %v", err)
	}
}
