package fetch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tempPrefix begins the names of files that are being fetched.
const tempPrefix = ".salvor-fetch-"

// publish makes dest appear whole and durable, or not at all.
func publish(dest string, write func(io.Writer) error) error {
	dir := filepath.Dir(dest)
	removeDead(dir)
	f, err := createTemp(dir)
	if err != nil {
		return fmt.Errorf("writing %s: %w", dest, err)
	}
	defer os.Remove(f.Name()) // gone after the rename
	defer f.Close()           // and not before it: this ends the lock
	if err := write(f); err != nil {
		return fmt.Errorf("writing %s: %w", dest, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("writing %s: %w", dest, err)
	}
	if err := os.Rename(f.Name(), dest); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// createTemp makes a temporary file that is locked (flock(2)) while its process
// lives. Where the file system has no locks it is not, and stays if it is killed.
func createTemp(dir string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, tempPrefix)
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		err = lock(f)
		if !errors.Is(err, unix.EWOULDBLOCK) && unix.Fstat(int(f.Fd()), &st) == nil && st.Nlink > 0 {
			return f, nil
		}
		// Another fetch looked at it before it was locked, and took it for dead.
		os.Remove(f.Name())
		_ = f.Close()
	}
}

func lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// removeDead removes the temporary files of fetches that were killed: a server that
// recovers for long, or a standby, would gather them in its pg_wal. That one cannot
// be removed is no reason not to fetch.
func removeDead(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		name := filepath.Join(dir, e.Name())
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if lock(f) == nil {
			os.Remove(name)
		}
		_ = f.Close()
	}
}
