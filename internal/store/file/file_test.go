package file_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/file"
	"github.com/salvor-dr/salvor/internal/store/storetest"
	"github.com/salvor-dr/salvor/internal/vfs"
	"github.com/salvor-dr/salvor/internal/vfs/vfstest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, what string, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%s: error is %v, want %v", what, err, kind)
	}
}

func open(t testing.TB, root string, o file.Options) *file.Store {
	t.Helper()
	s, err := file.Open(root, o)
	must(t, err)
	return s
}

func put(t testing.TB, s store.Store, key, data string) store.Object {
	t.Helper()
	o, err := store.Put(context.Background(), s, key, []byte(data), store.CreateOptions{})
	must(t, err)
	return o
}

func keys(t testing.TB, s store.Store, o store.ListOptions) []string {
	t.Helper()
	var all []string
	for entry, err := range s.List(context.Background(), "", o) {
		must(t, err)
		all = append(all, entry.Key)
	}
	return all
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, t.TempDir(), file.Options{}) })
}

// poor is a file system as some are: without a rename that does not replace,
// and with times of two seconds.
type poor struct{ vfs.FS }

type poorFile struct{ vfs.File }

func (poor) RenameNoReplace(oldname, newname string) error {
	return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: errors.ErrUnsupported}
}

func (y poor) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := y.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return poorFile{f}, nil
}

func (f poorFile) SetModTime(t time.Time) error {
	return f.File.SetModTime(t.Truncate(2 * time.Second))
}

func TestPoorFileSystem(t *testing.T) {
	t.Parallel()
	t.Run("conditions", func(t *testing.T) {
		t.Parallel()
		s := open(t, t.TempDir(), file.Options{FS: poor{vfs.OS()}, Now: stoppedClock})
		var wins atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				_, err := store.Put(t.Context(), s, "d/k", []byte("x"), store.CreateOptions{IfAbsent: true})
				if err == nil {
					wins.Add(1)
				} else {
					want(t, "IfAbsent", err, store.ErrExists)
				}
			})
		}
		wg.Wait()
		if wins.Load() != 1 {
			t.Errorf("%d writers won", wins.Load())
		}
	})
	t.Run("versions", func(t *testing.T) {
		t.Parallel()
		s := open(t, t.TempDir(), file.Options{FS: poor{vfs.OS()}, Now: stoppedClock})
		var seen []store.Version
		for i := range 10 {
			o := put(t, s, "k", strconv.Itoa(i))
			if slices.Contains(seen, o.Version) {
				t.Fatalf("content %d has a version that was there before", i)
			}
			seen = append(seen, o.Version)
		}
	})
	t.Run("crash", func(t *testing.T) {
		t.Parallel()
		storetest.Crash(t, func(y vfs.FS) (store.Store, error) { return openOn(poor{y}) })
	})
}

// Two processes on one directory are two stores.
func TestTwoStores(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, open(t, root, file.Options{}), "locks/n", "0")
	var wg sync.WaitGroup
	const steps = 10
	for range 2 {
		s := open(t, root, file.Options{})
		wg.Go(func() {
			for done := 0; done < steps; {
				seen, err := s.Stat(t.Context(), "locks/n")
				data, gerr := store.Get(t.Context(), s, "locks/n", 10)
				n, aerr := strconv.Atoi(string(data))
				if err := errors.Join(err, gerr, aerr); err != nil {
					t.Error(err)
					return
				}
				_, err = store.Put(t.Context(), s, "locks/n", []byte(strconv.Itoa(n+1)), store.CreateOptions{IfMatch: seen.Version})
				switch {
				case err == nil:
					done++
				case !errors.Is(err, store.ErrChanged):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	data, err := store.Get(t.Context(), open(t, root, file.Options{}), "locks/n", 10)
	if string(data) != strconv.Itoa(2*steps) || err != nil {
		t.Errorf("two stores counted to %s, %v", data, err)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root := filepath.Join(dir, "a b", "c")
	_, err := file.Open(root, file.Options{})
	want(t, "a directory that is missing", err, store.ErrNotFound)
	s := open(t, root, file.Options{Create: true})
	put(t, s, "k", "x")
	if s.String() != "file://"+strings.ReplaceAll(root, " ", "%20") {
		t.Errorf("the store calls itself %s", s)
	}
	must(t, s.Close())
	if _, err := file.Open("relative", file.Options{Create: true}); err == nil {
		t.Error("a relative path was opened")
	}
	if _, err := file.Open(filepath.Join(root, "k"), file.Options{}); err == nil {
		t.Error("a file was opened as a store")
	}
	if _, err := file.Open(filepath.Join(root, "k", "x"), file.Options{Create: true}); err == nil {
		t.Error("a store was made under a file")
	}
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(root, link))
	s = open(t, link, file.Options{})
	put(t, s, "d/k", "x")
	if got := keys(t, s, store.ListOptions{}); !slices.Equal(got, []string{"d/k", "k"}) {
		t.Errorf("through a symbolic link the list shows %q", got)
	}
	must(t, s.Close())
}

// A root that is not the one that was opened says nothing about what exists.
func TestUnmounted(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]func(*testing.T, string){
		"another directory": func(t *testing.T, root string) { must(t, os.Mkdir(root, 0o755)) },
		"nothing":           func(*testing.T, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			root := filepath.Join(t.TempDir(), "root")
			s := open(t, root, file.Options{Create: true})
			put(t, s, "d/k", "x")
			pending, err := s.Create(ctx, "d/l", store.CreateOptions{})
			must(t, err)
			must(t, os.Rename(root, root+".away"))
			after(t, root)

			_, err = s.Stat(ctx, "d/k")
			want(t, "Stat", err, store.ErrUnavailable)
			_, err = s.Open(ctx, "d/k", 0, -1)
			want(t, "Open", err, store.ErrUnavailable)
			_, err = s.Create(ctx, "d/k", store.CreateOptions{})
			want(t, "Create", err, store.ErrUnavailable)
			want(t, "Delete", s.Delete(ctx, "d/k", ""), store.ErrUnavailable)
			for _, e := range s.List(ctx, "", store.ListOptions{}) {
				err = e
			}
			want(t, "List", err, store.ErrUnavailable)
			_, _, err = s.RemoveTemporary(ctx, 0, time.Now())
			want(t, "RemoveTemporary", err, store.ErrUnavailable)
			if _, err := pending.Commit(); err == nil {
				t.Error("Commit succeeded")
			}
			if left, err := os.ReadDir(root); err == nil && len(left) > 0 {
				t.Errorf("%v was written into the wrong directory", left)
			}
			must(t, s.Close())
		})
	}
}

func TestForeignFiles(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, file.Options{})
	put(t, s, "d/k", "x")
	must(t, os.Mkdir(filepath.Join(root, "lost+found"), 0o000))
	must(t, os.WriteFile(filepath.Join(root, ".hidden"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(root, "d", "a name~"), nil, 0o600))
	must(t, os.Symlink("k", filepath.Join(root, "d", "link")))
	must(t, os.Symlink("d", filepath.Join(root, "linkdir")))
	must(t, os.MkdirAll(filepath.Join(root, "empty", "deep"), 0o755))
	must(t, syscall.Mkfifo(filepath.Join(root, "d", "fifo"), 0o600))
	if got := keys(t, s, store.ListOptions{}); !slices.Equal(got, []string{"d/k"}) {
		t.Errorf("the list shows %q", got)
	}
	if got := keys(t, s, store.ListOptions{Delimited: true}); !slices.Equal(got, []string{"d/"}) {
		t.Errorf("the delimited list shows %q", got)
	}
	_, err := s.Open(t.Context(), "d/link", 0, -1)
	want(t, "Open of a symbolic link", err, store.ErrNotFound)
	_, err = s.Stat(t.Context(), "d/link")
	want(t, "Stat of a symbolic link", err, store.ErrNotFound)
	// An object may take the name of folders that are empty, and of a link.
	put(t, s, "empty", "x")
	put(t, s, "d/link", "y")
	data, err := os.ReadFile(filepath.Join(root, "d", "k"))
	if string(data) != "x" || err != nil {
		t.Errorf("writing over a symbolic link changed its target to %q, %v", data, err)
	}
}

func TestFolderConflict(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), file.Options{})
	put(t, s, "a", "x")
	put(t, s, "b/c/d", "x")
	for _, key := range []string{"a/b", "a/b/c", "b", "b/c"} {
		for _, o := range []store.CreateOptions{{}, {IfAbsent: true}} {
			_, err := store.Put(t.Context(), s, key, []byte("y"), o)
			want(t, key, err, store.ErrInvalidKey)
		}
	}
	if got := keys(t, s, store.ListOptions{}); !slices.Equal(got, []string{"a", "b/c/d"}) {
		t.Errorf("the list shows %q", got)
	}
}

// The errors of the system have the kinds of the contract, keep their cause,
// and leave nothing.
func TestErrorKinds(t *testing.T) {
	t.Parallel()
	for errno, kind := range map[syscall.Errno]error{
		syscall.ENOSPC: store.ErrNoSpace, syscall.EDQUOT: store.ErrNoSpace,
		syscall.EACCES: store.ErrPermission, syscall.EROFS: store.ErrPermission,
		syscall.EINTR: store.ErrUnavailable, syscall.ESTALE: store.ErrUnavailable, syscall.ETIMEDOUT: store.ErrUnavailable,
		syscall.EIO: syscall.EIO, syscall.EXDEV: syscall.EXDEV,
	} {
		for _, op := range []vfstest.Op{vfstest.OpCreate, vfstest.OpWrite, vfstest.OpSync, vfstest.OpNoReplace, vfstest.OpRename} {
			disk := vfstest.New()
			s, err := openOn(disk)
			must(t, err)
			disk.SetHook(func(c *vfstest.Call) error {
				if c.Op != op {
					return nil
				}
				c.Len = min(c.Len, 100)
				return errno
			})
			o := store.CreateOptions{IfAbsent: op == vfstest.OpNoReplace}
			_, err = store.Put(t.Context(), s, "k", make([]byte, 300_000), o)
			want(t, fmt.Sprintf("%v at %s", errno, op), err, kind)
			want(t, fmt.Sprintf("%v at %s", errno, op), err, errno)
			disk.SetHook(nil)
			_, err = s.Stat(t.Context(), "k")
			want(t, "Stat", err, store.ErrNotFound)
			if left, _ := disk.ReadDir(memRoot + "/.tmp"); len(left) != 0 {
				t.Errorf("%v at %s left %v", errno, op, left)
			}
			must(t, s.Close())
			if disk.Open() != 0 {
				t.Errorf("%v at %s left %d files open", errno, op, disk.Open())
			}
		}
	}
}

// A file that shrinks under a reader, or a disk that reads short, is an error.
func TestReadFaults(t *testing.T) {
	t.Parallel()
	disk := vfstest.New()
	s, err := openOn(disk)
	must(t, err)
	put(t, s, "k", "hello")
	disk.SetHook(vfstest.FailNth(1, func(c *vfstest.Call) bool { return c.Op == vfstest.OpRead }, syscall.EIO))
	_, err = store.Get(t.Context(), s, "k", 10)
	want(t, "Get from a broken disk", err, syscall.EIO)
	disk.SetHook(nil)
	r, err := s.Open(t.Context(), "k", 0, -1)
	must(t, err)
	f, err := disk.OpenFile(memRoot+"/k", os.O_RDWR, 0)
	must(t, err)
	must(t, f.Truncate(2))
	must(t, f.Close())
	buf := make([]byte, 5)
	n, err := r.Read(buf)
	if err == nil {
		_, err = r.Read(buf[n:])
	}
	if n != 2 || err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a file that shrank: %d bytes, %v", n, err)
	}
	must(t, r.Close())
}

func TestRemoveTemporary(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, file.Options{})
	n, bytes, err := s.RemoveTemporary(t.Context(), 0, time.Now())
	if n != 0 || bytes != 0 || err != nil {
		t.Errorf("where nothing was written: %d, %d, %v", n, bytes, err)
	}
	var writers []store.Writer
	for range 3 {
		w, err := s.Create(t.Context(), "k", store.CreateOptions{})
		must(t, err)
		_, err = w.Write(make([]byte, 1<<20))
		must(t, err)
		writers = append(writers, w)
	}
	now := time.Now()
	temps, err := filepath.Glob(root + "/.tmp/*")
	must(t, err)
	for _, name := range temps[:2] { // two are old
		must(t, os.Chtimes(name, now.Add(-2*time.Hour), now.Add(-2*time.Hour)))
	}
	n, bytes, err = s.RemoveTemporary(t.Context(), time.Hour, now)
	if n != 2 || bytes != 2<<20 || err != nil {
		t.Errorf("removed %d files of %d bytes, %v", n, bytes, err)
	}
	committed := 0
	for _, w := range writers {
		if _, err := w.Commit(); err == nil {
			committed++
		} else if !strings.Contains(err.Error(), "was removed meanwhile") {
			t.Errorf("a writer that lost its file: %v", err)
		}
	}
	if committed != 1 {
		t.Errorf("%d writers committed, want 1", committed)
	}
}

// A lock that another process holds is waited for, as long as the context says.
func TestLockIsWaitedFor(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := open(t, root, file.Options{})
	put(t, s, "k", "x")
	locks, err := filepath.Glob(root + "/.locks/*")
	must(t, err)
	if len(locks) != 1 {
		t.Fatalf("lock files: %q", locks)
	}
	held, err := vfs.OS().OpenFile(locks[0], os.O_RDWR, 0)
	must(t, err)
	must(t, held.TryLock())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	want(t, "Delete while another holds the lock", s.Delete(ctx, "k", ""), context.DeadlineExceeded)
	done := make(chan error)
	go func() { done <- s.Delete(t.Context(), "k", "") }()
	must(t, held.Close())
	must(t, <-done)
}

// The folders held open are few, and closed in the end.
func TestFoldersHeldOpen(t *testing.T) {
	t.Parallel()
	disk := vfstest.New()
	s, err := openOn(disk)
	must(t, err)
	for i := range 100 {
		put(t, s, fmt.Sprintf("d%d/k", i), "x")
		put(t, s, fmt.Sprintf("d%d/k", i/2), "y")
	}
	if n := disk.Open(); n > 20 {
		t.Errorf("%d files are open", n)
	}
	must(t, s.Close())
	if n := disk.Open(); n != 0 {
		t.Errorf("after Close %d files are open", n)
	}
}

// A second object in a folder costs no sync of the folders above.
func TestKnownFolderIsCheap(t *testing.T) {
	t.Parallel()
	disk := vfstest.New()
	s, err := openOn(disk)
	must(t, err)
	count := func(key string) (syncs int) {
		disk.SetHook(func(c *vfstest.Call) error {
			if c.Op == vfstest.OpSync {
				syncs++
			}
			return nil
		})
		_, err := store.Put(t.Context(), s, key, []byte("x"), store.CreateOptions{IfAbsent: true})
		must(t, err)
		return syncs
	}
	if first, second := count("a/b/c/1"), count("a/b/c/2"); first != 5 || second != 2 {
		t.Errorf("the first object took %d syncs, the second %d; want 5 and 2", first, second)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, open(t, root, file.Options{}), "a/b/k", "x")
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		fi, err := d.Info()
		allowed := fs.FileMode(0o640)
		if d.IsDir() {
			allowed = 0o750
		}
		if err == nil && (fi.Mode().Perm()&^allowed != 0 || fi.Mode().Perm()&0o600 != 0o600) {
			t.Errorf("%s has the mode %v", path, fi.Mode())
		}
		return err
	}))
}

// What root makes in a store of another user belongs to that user.
func TestOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const uid, gid = 65534, 65533
	root := t.TempDir()
	must(t, os.Chown(root, uid, gid))
	s := open(t, root, file.Options{})
	put(t, s, "a/b/k", "x")
	put(t, open(t, root, file.Options{}), "a/b/l", "x") // leaves a mark
	w, err := s.Create(t.Context(), "underway", store.CreateOptions{})
	must(t, err)
	defer func() { must(t, w.Abort()) }()
	seen := 0
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		seen++
		if st := fi.Sys().(*syscall.Stat_t); st.Uid != uid || st.Gid != gid {
			t.Errorf("%s belongs to %d:%d", path, st.Uid, st.Gid)
		}
		return nil
	}))
	if seen < 9 { // the root, .tmp, a file in it, .locks, a lock, a, b, k, l; a mark where the file system has identities
		t.Errorf("only %d files were looked at", seen)
	}
}
