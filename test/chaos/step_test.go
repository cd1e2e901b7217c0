package chaos

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// event is a file that has come or gone.
type event struct {
	path string
	gone bool
}

// step is a moment in an operation that an event tells of.
type step struct {
	name string
	gone bool
	in   string // a part of the path; a last slash means the folder's own files
	most int    // how often it happens, at most; the round draws one
}

func (st step) match(e event) bool {
	return e.gone == st.gone && strings.Contains(e.path, st.in)
}

// appears and vanishes name steps.
func appears(name, in string) step  { return step{name: name, in: in, most: 1} }
func vanishes(name, in string) step { return step{name: name, in: in, most: 1, gone: true} }

func (st step) times(n int) step {
	st.most = n
	return st
}

// watcher tells of everything that comes and goes below some directories.
type watcher struct {
	t    testing.TB
	file *os.File

	mu   sync.Mutex
	dirs map[int32]string
	want step
	left int // so many times more; 0: nothing is awaited
	met  chan struct{}
}

const watched = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_ONLYDIR

func newWatcher(t testing.TB) *watcher {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{t: t, file: os.NewFile(uintptr(fd), "inotify"), dirs: map[int32]string{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.read()
	}()
	t.Cleanup(func() {
		w.file.Close()
		<-done
	})
	return w
}

// add watches a directory and all below it, and gives what is there already: it may
// have come before it was watched.
func (w *watcher) add(dir string) (there []event) {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return nil
	}
	var id int
	cerr := raw.Control(func(fd uintptr) { id, err = unix.InotifyAddWatch(int(fd), dir, watched) })
	if err = errors.Join(err, cerr); err != nil {
		return nil // gone again, or no directory
	}
	w.mu.Lock()
	w.dirs[int32(id)] = dir
	w.mu.Unlock()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		there = append(there, event{path: path})
		if e.IsDir() {
			there = append(there, w.add(path)...)
		}
	}
	return there
}

// await lets a channel be closed when the step has happened n times from now on.
func (w *watcher) await(st step, n int) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.want, w.left, w.met = st, n, make(chan struct{})
	return w.met
}

func (w *watcher) tell(e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left == 0 || !w.want.match(e) {
		return
	}
	if w.left--; w.left == 0 {
		close(w.met)
	}
}

func (w *watcher) read() {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return // closed
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			id := int32(binary.NativeEndian.Uint32(b))
			mask := binary.NativeEndian.Uint32(b[4:])
			size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
			name := string(bytes.TrimRight(b[unix.SizeofInotifyEvent:size], "\x00"))
			b = b[size:]
			w.handle(id, mask, name)
		}
	}
}

func (w *watcher) handle(id int32, mask uint32, name string) {
	if mask&unix.IN_Q_OVERFLOW != 0 {
		w.t.Error("inotify lost events: the steps would be missed")
		return
	}
	w.mu.Lock()
	dir := w.dirs[id]
	if mask&unix.IN_IGNORED != 0 {
		delete(w.dirs, id)
	}
	w.mu.Unlock()
	if dir == "" || name == "" {
		return
	}
	path := filepath.Join(dir, name)
	gone := mask&(unix.IN_DELETE|unix.IN_MOVED_FROM) != 0
	w.tell(event{path, gone})
	if !gone && mask&unix.IN_ISDIR != 0 {
		for _, e := range w.add(path) {
			w.tell(e)
		}
	}
}
