package file_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/file"
	"github.com/salvor-dr/salvor/internal/store/storetest"
	"github.com/salvor-dr/salvor/internal/vfs"
	"github.com/salvor-dr/salvor/internal/vfs/vfstest"
)

const memRoot = "/backup/store"

// stoppedClock never moves, which is the hardest for versions.
func stoppedClock() time.Time { return time.Unix(1_700_000_000, 0) }

func openOn(fsys vfs.FS) (store.Store, error) {
	s, err := file.Open(memRoot, file.Options{FS: fsys, Create: true, Now: stoppedClock})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func TestCrash(t *testing.T) {
	t.Parallel()
	storetest.Crash(t, openOn)
}

// faulty leaves out steps that durability needs.
type faulty struct {
	vfs.FS
	files, dirs bool // lies about Sync
}

type faultyFile struct{ vfs.File }

func (faultyFile) Sync() error { return nil }

func (y faulty) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := y.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if fi.IsDir() && y.dirs || !fi.IsDir() && y.files {
		return faultyFile{f}, nil
	}
	return f, nil
}

// parentsUnsynced makes the sync of the root a lie: what a store does that syncs
// the object's folder and forgets those above it.
type parentsUnsynced struct{ vfs.FS }

func (y parentsUnsynced) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := y.FS.OpenFile(name, flag, perm)
	if err == nil && strings.TrimSuffix(name, "/") == memRoot {
		return faultyFile{f}, nil
	}
	return f, err
}

// A store that forgets a sync is found out.
func TestCrashFinds(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(vfs.FS) vfs.FS{
		"files not synced":       func(y vfs.FS) vfs.FS { return faulty{FS: y, files: true} },
		"directories not synced": func(y vfs.FS) vfs.FS { return faulty{FS: y, dirs: true} },
		"parents not synced":     func(y vfs.FS) vfs.FS { return parentsUnsynced{y} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.CrashFinds(t, func(y vfs.FS) (store.Store, error) { return openOn(broken(y)) })
		})
	}
}

// during runs act once, in the middle of a Put of key by s: after the rename,
// and before anything of it is durable.
func during(t *testing.T, disk *vfstest.FS, s store.Store, key string, act func()) {
	t.Helper()
	renamed, acted := false, false
	disk.SetHook(func(c *vfstest.Call) error {
		if c.Op == vfstest.OpSync && renamed && !acted {
			acted = true
			act()
		}
		renamed = renamed || c.Op == vfstest.OpNoReplace
		return nil
	})
	_, err := store.Put(context.Background(), s, key, []byte("first"), store.CreateOptions{IfAbsent: true})
	must(t, err)
	disk.SetHook(nil)
	if !acted {
		t.Fatal("nothing was synced after the rename")
	}
}

func two(t *testing.T) (disk *vfstest.FS, a, b store.Store) {
	t.Helper()
	disk = vfstest.New()
	a, err := openOn(disk)
	must(t, err)
	b, err = openOn(disk)
	must(t, err)
	return disk, a, b
}

func holdsAfterCrash(t *testing.T, disk *vfstest.FS, key, data string) {
	t.Helper()
	s, err := openOn(disk.Crash(0))
	must(t, err)
	got, err := store.Get(context.Background(), s, key, 100)
	if err != nil || string(got) != data {
		t.Errorf("after a crash %s holds %q, %v; want %q", key, got, err, data)
	}
}

// Who loses to a writer that is not done yet is told ErrExists only when what
// the winner wrote is durable.
func TestExistsIsDurable(t *testing.T) {
	t.Parallel()
	disk, a, b := two(t)
	during(t, disk, a, "x/y/z", func() {
		_, err := store.Put(context.Background(), b, "x/y/z", []byte("second"), store.CreateOptions{IfAbsent: true})
		if !errors.Is(err, store.ErrExists) {
			t.Errorf("the second writer: %v", err)
		}
		holdsAfterCrash(t, disk, "x/y/z", "first")
	})
}

// A folder that another process has made, and not synced yet, is not taken for
// durable.
func TestForeignFolderIsSynced(t *testing.T) {
	t.Parallel()
	disk, a, b := two(t)
	during(t, disk, a, "x/y/z", func() {
		_, err := store.Put(context.Background(), b, "x/y/other", []byte("second"), store.CreateOptions{IfAbsent: true})
		must(t, err)
		holdsAfterCrash(t, disk, "x/y/other", "second")
	})
}

// Nor is one that this process knew, and that was removed and made again.
func TestFolderMadeAgainIsSynced(t *testing.T) {
	t.Parallel()
	disk, a, b := two(t)
	ctx := context.Background()
	_, err := store.Put(ctx, b, "x/y/other", []byte("before"), store.CreateOptions{})
	must(t, err)
	must(t, a.Delete(ctx, "x/y/other", ""))
	must(t, vfs.SyncDir(disk, memRoot))
	if _, err := disk.Stat(memRoot + "/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the folder was not tidied away: %v", err)
	}
	during(t, disk, a, "x/y/z", func() {
		_, err := store.Put(ctx, b, "x/y/other", []byte("second"), store.CreateOptions{IfAbsent: true})
		must(t, err)
		holdsAfterCrash(t, disk, "x/y/other", "second")
	})
}

// Each operation of the file system fails once, in each run of the work: the
// store says so or succeeds, and keeps its promises either way.
func TestEveryFault(t *testing.T) {
	t.Parallel()
	for _, o := range []store.CreateOptions{{}, {IfAbsent: true}} {
		for n := 1; ; n++ {
			reached, err := faultAt(n, o)
			if err != nil {
				t.Errorf("%+v, fault at operation %d: %v", o, n, err)
			}
			if !reached {
				if n < 10 {
					t.Errorf("a run has only %d operations", n)
				}
				break
			}
		}
	}
}

// faultAt runs a Put and a Delete whose nth operation fails.
func faultAt(n int, o store.CreateOptions) (reached bool, err error) {
	ctx := context.Background()
	disk := vfstest.New()
	s, err := openOn(disk)
	if err != nil {
		return false, err
	}
	data := []byte(strings.Repeat("x", 300_000))
	fault := vfstest.FailNth(n, nil, syscall.EIO)
	failedOp := vfstest.Op("")
	disk.SetHook(func(c *vfstest.Call) error {
		err := fault(c)
		if err != nil {
			failedOp = c.Op
		}
		return err
	})
	made, perr := store.Put(ctx, s, "d/k", data, o)
	putFailed := perr != nil
	var derr error
	if !putFailed {
		derr = s.Delete(ctx, "d/k", made.Version)
	}
	disk.SetHook(nil)
	for _, err := range []error{perr, derr} {
		if err != nil && !errors.Is(err, syscall.EIO) {
			return true, fmt.Errorf("the cause is lost: %w", err)
		}
	}
	got, err := store.Get(ctx, s, "d/k", 1<<20)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return true, err
	case err == nil && string(got) != string(data):
		return true, fmt.Errorf("after a failed %s %d bytes are visible", failedOp, len(got))
	case err == nil && !putFailed && derr == nil:
		return true, errors.New("Delete succeeded and the object is there")
	}
	if left, _ := disk.ReadDir(memRoot + "/.tmp"); len(left) > 0 && failedOp != vfstest.OpRemove {
		return true, fmt.Errorf("a failed %s left a temporary file", failedOp)
	}
	if err := s.Close(); err != nil {
		return true, err
	}
	if open := disk.Open(); open != 0 {
		return true, fmt.Errorf("a failed %s left %d files open", failedOp, open)
	}
	return failedOp != "", nil
}
