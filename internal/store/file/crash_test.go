package file_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
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

// processes is a store that each operation opens anew, as commands do that are run
// one after the other: they know nothing of what is durable but from the marks.
type processes struct {
	fs   vfs.FS
	all  []store.Store
	none store.Store // for what reads
}

func openProcesses(fsys vfs.FS) (store.Store, error) {
	s, err := openOn(fsys)
	if err != nil {
		return nil, err
	}
	return &processes{fs: fsys, all: []store.Store{s}, none: s}, nil
}

func (p *processes) next() (store.Store, error) {
	s, err := openOn(p.fs)
	if err == nil {
		p.all = append(p.all, s)
	}
	return s, err
}

func (p *processes) Create(ctx context.Context, key string, o store.CreateOptions) (store.Writer, error) {
	s, err := p.next()
	if err != nil {
		return nil, err
	}
	return s.Create(ctx, key, o)
}

func (p *processes) Delete(ctx context.Context, key string, match store.Version) error {
	s, err := p.next()
	if err != nil {
		return err
	}
	return s.Delete(ctx, key, match)
}

func (p *processes) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	return p.none.Open(ctx, key, offset, length)
}

func (p *processes) Stat(ctx context.Context, key string) (store.Object, error) {
	return p.none.Stat(ctx, key)
}

func (p *processes) List(ctx context.Context, prefix string, o store.ListOptions) iter.Seq2[store.Object, error] {
	return p.none.List(ctx, prefix, o)
}

func (p *processes) String() string { return p.none.String() }

func (p *processes) Close() error {
	var errs []error
	for _, s := range p.all {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func TestCrashOfProcesses(t *testing.T) {
	t.Parallel()
	storetest.Crash(t, openProcesses)
}

// faulty leaves out steps that durability needs.
type faulty struct {
	vfs.FS
	files, dirs bool // lies about Sync
}

type faultyFile struct{ vfs.File }

func (faultyFile) Sync() error { return nil }

// Identity is that of the file, so that marks are made as ever.
func (f faultyFile) Identity() (string, bool) { return f.File.(vfs.Identifier).Identity() }

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
			storetest.CrashFinds(t, func(y vfs.FS) (store.Store, error) { return openProcesses(broken(y)) })
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

// killed runs a Put that does nothing any more once the file has its name, in folders
// that nobody has synced.
func killed(t *testing.T, disk *vfstest.FS, s store.Store, key string) {
	t.Helper()
	renamed, dead := false, false
	disk.SetHook(func(c *vfstest.Call) error {
		dead = dead || renamed && c.Op == vfstest.OpSync
		if dead {
			return syscall.EIO
		}
		renamed = renamed || c.Op == vfstest.OpNoReplace
		return nil
	})
	_, err := store.Put(context.Background(), s, key, []byte("first"), store.CreateOptions{IfAbsent: true})
	disk.SetHook(nil)
	if !dead || err == nil {
		t.Fatalf("the writer was not killed: %v", err)
	}
}

// Folders that a writer made which was killed before it synced them, with those above
// them, are not taken for durable by processes that come later; nor is what it wrote.
func TestFolderOfKilledWriterIsSynced(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, try := range map[string]struct {
		key, data string
		err       error
	}{
		"another object": {"x/y/other", "second", nil},
		"above":          {"x/z", "second", nil},
		"the same":       {"x/y/z", "first", store.ErrExists},
	} {
		t.Run(name, func(t *testing.T) {
			disk, a, b := two(t)
			killed(t, disk, a, "x/y/z")
			_, err := store.Put(ctx, b, try.key, []byte("second"), store.CreateOptions{IfAbsent: true})
			want(t, "the second writer", err, try.err)
			holdsAfterCrash(t, disk, try.key, try.data)
		})
	}
}

// At each moment of a Put that syncs folders of a killed writer and leaves a mark,
// another process may write into the same folder: what it wrote is durable.
func TestMarkIsNotTooEarly(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for n, reached := 1, true; reached; n++ {
		disk, a, b := two(t)
		killed(t, disk, a, "x/y/z")
		reached = false
		left := n
		disk.SetHook(func(*vfstest.Call) error {
			if left--; left > 0 {
				return nil
			}
			reached = true
			disk.SetHook(nil)
			c, err := openOn(disk)
			must(t, err)
			_, err = store.Put(ctx, c, "x/y/other", []byte("second"), store.CreateOptions{IfAbsent: true})
			must(t, err)
			holdsAfterCrash(t, disk, "x/y/other", "second")
			return nil
		})
		_, err := store.Put(ctx, b, "x/y/first", []byte("first"), store.CreateOptions{IfAbsent: true})
		must(t, err)
		disk.SetHook(nil)
		holdsAfterCrash(t, disk, "x/y/first", "first")
		if _, err := disk.Stat(memRoot + "/x/y/.durable"); err != nil {
			t.Errorf("no mark was left: %v", err)
		}
		if !reached && n < 20 {
			t.Errorf("a Put has only %d operations", n)
		}
	}
}

// syncs counts the syncs of a Put by a process of its own.
func syncs(t *testing.T, disk *vfstest.FS, key string) (n int) {
	t.Helper()
	s, err := openOn(disk)
	must(t, err)
	disk.SetHook(func(c *vfstest.Call) error {
		if c.Op == vfstest.OpSync {
			n++
		}
		return nil
	})
	_, err = store.Put(context.Background(), s, key, []byte("x"), store.CreateOptions{IfAbsent: true})
	disk.SetHook(nil)
	must(t, err)
	must(t, s.Close())
	return n
}

const marked = memRoot + "/a/b/.durable"

// The second process that writes into a folder marks it, and a third one syncs only
// the file and the folder. That holds after a crash, too, if the mark survived.
func TestMarkedFolderIsCheap(t *testing.T) {
	t.Parallel()
	disk := vfstest.New()
	for i, want := range []int{4, 4, 2, 2} {
		if n := syncs(t, disk, fmt.Sprintf("a/b/%d", i)); n != want {
			t.Errorf("process %d took %d syncs, want %d", i, n, want)
		}
		if _, err := disk.Stat(marked); (err == nil) != (i > 0) {
			t.Errorf("the mark after process %d: %v", i, err)
		}
	}
	for seed, want := range []int{4, 2} { // nothing survived that was not synced; all did
		after := disk.Crash(uint64(seed))
		if seed == 0 {
			must(t, remove(after, marked))
		}
		if n := syncs(t, after, "a/b/new"); n != want {
			t.Errorf("after crash %d: %d syncs, want %d", seed, n, want)
		}
	}
}

// remove removes a file that may be missing.
func remove(disk *vfstest.FS, name string) error {
	if err := disk.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ownMark is the mark that a folder should have.
func ownMark(t *testing.T, disk *vfstest.FS, folder string) string {
	t.Helper()
	d, err := vfs.Open(disk, memRoot+"/"+folder)
	must(t, err)
	defer d.Close()
	id, _ := d.(vfs.Identifier).Identity()
	return id + " " + folder + "\n"
}

// A mark that is not the folder's own, or not whole, is not believed, and replaced.
func TestWrongMarks(t *testing.T) {
	t.Parallel()
	for name, mark := range map[string]func(own, other string) string{
		"another folder's":              func(_, other string) string { return other },
		"another folder's of this path": func(own, other string) string { return strings.Fields(other)[0] + " a/b\n" },
		"this folder's of another path": func(own, _ string) string { return strings.Fields(own)[0] + " b\n" },
		"empty":                         func(string, string) string { return "" },
		"cut off":                       func(own, _ string) string { return own[:len(own)-1] },
		"longer":                        func(own, _ string) string { return own + "\n" },
	} {
		t.Run(name, func(t *testing.T) {
			disk, a, b := two(t)
			for i := range 2 {
				syncs(t, disk, fmt.Sprintf("c/d/%d", i))
			}
			other := make([]byte, 100)
			f, err := vfs.Open(disk, memRoot+"/c/d/.durable")
			must(t, err)
			n, _ := f.ReadAt(other, 0)
			must(t, f.Close())
			if string(other[:n]) != ownMark(t, disk, "c/d") {
				t.Fatalf("the mark is %q", other[:n])
			}
			during(t, disk, a, "a/b/z", func() {
				f, err := vfs.Create(disk, marked, 0o600)
				must(t, err)
				_, err = f.Write([]byte(mark(ownMark(t, disk, "a/b"), string(other[:n]))))
				must(t, err)
				must(t, f.Close())
				_, err = store.Put(context.Background(), b, "a/b/other", []byte("second"), store.CreateOptions{IfAbsent: true})
				must(t, err)
				holdsAfterCrash(t, disk, "a/b/other", "second")
			})
			if n := syncs(t, disk, "a/b/third"); n != 2 {
				t.Errorf("the mark was not replaced: %d syncs", n)
			}
		})
	}
}

// A marked folder is tidied away as any other, and its name is free for an object.
func TestMarkedFolderIsTidied(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	disk := vfstest.New()
	for i := range 2 {
		syncs(t, disk, fmt.Sprintf("a/b/%d", i))
	}
	s, err := openOn(disk)
	must(t, err)
	must(t, s.Delete(ctx, "a/b/0", ""))
	if _, err := disk.Stat(memRoot + "/a/b/1"); err != nil {
		t.Fatal(err)
	}
	must(t, s.Delete(ctx, "a/b/1", ""))
	if _, err := disk.Stat(memRoot + "/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was not tidied away: %v", err)
	}
	for i := range 2 {
		syncs(t, disk, fmt.Sprintf("a/b/%d", i))
	}
	for i := range 2 { // by other hands
		must(t, disk.Remove(fmt.Sprintf("%s/a/b/%d", memRoot, i)))
	}
	_, err = store.Put(ctx, s, "a/b", []byte("x"), store.CreateOptions{IfAbsent: true})
	must(t, err)
	must(t, s.Close())
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
