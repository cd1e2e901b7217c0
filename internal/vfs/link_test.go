package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// The way of file systems without renameat2(RENAME_NOREPLACE).
func TestLinkNoReplace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write := func(name, data string) {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(a, "1")
	if err := linkNoReplace(a, b); err != nil {
		t.Fatal(err)
	}
	write(a, "2")
	if err := linkNoReplace(a, b); !errors.Is(err, fs.ErrExist) {
		t.Errorf("onto another file: %v", err)
	}
	if data, _ := os.ReadFile(b); string(data) != "1" {
		t.Errorf("the target holds %q", data)
	}
	// The link was made and its reply lost: the target is the same file.
	if err := os.Remove(b); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(a, b); err != nil {
		t.Fatal(err)
	}
	if err := linkNoReplace(a, b); err != nil {
		t.Errorf("onto itself: %v", err)
	}
	if _, err := os.Lstat(a); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old name is still there: %v", err)
	}
}
