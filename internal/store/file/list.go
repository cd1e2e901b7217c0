package file

import (
	"cmp"
	"context"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"github.com/salvor-dr/salvor/internal/store"
)

// List walks the folders that the prefix leads to, in the order of the keys.
func (s *Store) List(ctx context.Context, prefix string, o store.ListOptions) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		if err := store.ValidatePrefix(prefix); err != nil {
			yield(store.Object{}, err)
			return
		}
		w := &walk{s: s, prefix: prefix, after: o.After, delimited: o.Delimited,
			cause: func() error { return context.Cause(ctx) }, yield: yield}
		err := w.folder(prefix[:strings.LastIndexByte(prefix, '/')+1])
		if err == nil && !w.stopped {
			err = s.checkRoot() // the emptiness of a folder is proven
		}
		if err != nil && !w.stopped {
			yield(store.Object{}, s.fail("listing", prefix+"*", err))
		}
	}
}

// walk is a list under way.
type walk struct {
	s             *Store
	prefix, after string
	delimited     bool
	cause         func() error
	yield         func(store.Object, error) bool
	stopped       bool // by the caller
}

// entry is a name in a folder. key ends with a slash where it is a folder
// itself, so that keys of entries sort as the objects under them do: "a-b"
// before "a/b" before "a0".
type entry struct {
	key string
	fs.DirEntry
}

// folder lists a folder, given as "" or with its slash.
func (w *walk) folder(folder string) error {
	entries, err := w.read(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.cause(); err != nil {
			return err
		}
		switch {
		case !e.IsDir():
			err = w.object(e)
		case w.delimited:
			err = w.commonPrefix(e.key)
		default:
			err = w.folder(e.key)
		}
		if err != nil || w.stopped {
			return err
		}
	}
	return nil
}

// read reads the entries of a folder that may have something to list, in order.
// One that is gone meanwhile is empty.
func (w *walk) read(folder string) ([]entry, error) {
	names, err := w.s.fs.ReadDir(w.s.path(folder))
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, n := range names {
		if e := (entry{folder + n.Name(), n}); w.wanted(folder, &e) {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
	return entries, nil
}

func (w *walk) wanted(folder string, e *entry) bool {
	if store.ValidateKey(e.key) != nil || folder == "" && e.key == "lost+found" {
		return false // ours, hidden; or none of ours
	}
	switch {
	case e.Type().IsRegular():
		return strings.HasPrefix(e.key, w.prefix) && e.key > w.after
	case !e.IsDir():
		return false
	}
	e.key += "/"
	if !strings.HasPrefix(e.key, w.prefix) {
		return false
	}
	// Every key under it is less than after, unless after is under it too.
	return e.key > w.after || !w.delimited && strings.HasPrefix(w.after, e.key)
}

func (w *walk) object(e entry) error {
	fi, err := e.Info()
	if absent(err) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	if fi.Mode().IsRegular() {
		w.stopped = !w.yield(describe(e.key, fi), nil)
	}
	return nil
}

// commonPrefix yields a folder when there is an object in it.
func (w *walk) commonPrefix(folder string) error {
	found := false
	in := walk{s: w.s, prefix: folder, cause: w.cause,
		yield: func(store.Object, error) bool { found = true; return false }}
	if err := in.folder(folder); err != nil {
		return err
	}
	if found {
		w.stopped = !w.yield(store.Object{Key: folder, Prefix: true}, nil)
	}
	return nil
}
