package fetch

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What killed fetches left goes with the next, and what another is writing stays.
func TestRemoveDead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	live, err := createTemp(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	dead, err := createTemp(dir)
	if err != nil {
		t.Fatal(err)
	}
	// By closing it alone it stays locked for as long as a process that another test
	// starts just now holds it, between fork and exec.
	if err := unix.Flock(int(dead.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	dead.Close()
	dest := filepath.Join(dir, "RECOVERYXLOG")
	err = publish(dest, func(w io.Writer) error {
		_, err := io.WriteString(w, "WAL")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{dest: true, live.Name(): true, dead.Name(): false} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %t, want %t", filepath.Base(path), !want, want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}
