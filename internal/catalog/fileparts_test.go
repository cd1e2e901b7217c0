package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
)

// A table that is read again part by part, in any order, is the one that was read as a
// whole; a part that was damaged since is found.
func TestFileParts(t *testing.T) {
	w := newWorld(t)
	var want []File
	for i := range 10_000 {
		want = append(want, File{Kind: Regular, Path: fmt.Sprintf("base/1/%08d", i), Mode: 0o600, ModTime: minute(0), Size: 1,
			Block: chunk.SliceSize, Digest: chunk.Digest{Hi: uint64(i) * 0x9e3779b97f4a7c15}, Map: []byte{1, 2, byte(i)}})
	}
	h := w.table(want)
	var first []File
	parts, err := IndexFiles(t.Context(), w.objects, h, func(f File) error {
		first = append(first, f)
		return nil
	})
	w.must(err)
	if d := cmp.Diff(want, first, sameFile); d != "" || parts.Len() < 2 {
		t.Fatalf("%d parts\n%s", parts.Len(), d)
	}
	var again []File
	for i := parts.Len() - 1; i >= 0; i-- {
		var part []File
		w.must(parts.Read(t.Context(), i, func(f File) error {
			part = append(part, f)
			return nil
		}))
		again = append(part, again...)
	}
	if d := cmp.Diff(want, again, sameFile); d != "" {
		t.Error(d)
	}
	stop := errors.New("enough")
	if err := parts.Read(t.Context(), 0, func(File) error { return stop }); err != stop {
		t.Errorf("%v", err)
	}
	name := testPlace.backupName(h.ID, "files")
	b := w.raw(name)
	b[len(b)/3] ^= 1
	w.put(name, b)
	var failed error
	for i := range parts.Len() {
		failed = errors.Join(failed, parts.Read(t.Context(), i, func(File) error { return nil }))
	}
	if !errors.Is(failed, repo.ErrDamaged) {
		t.Errorf("damaged since: %v", failed)
	}
	w.put(name, b[:len(b)/2])
	if err := parts.Read(t.Context(), parts.Len()-1, func(File) error { return nil }); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("cut since: %v", err)
	}
}

// Several goroutines find, at the same time, what the table says.
func TestFindFilesTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var want []File
	for i := range 30_000 {
		want = append(want, File{Kind: Regular, Path: fmt.Sprintf("base/1/%08d", i), Mode: 0o600, ModTime: minute(0), Size: uint64(i),
			Block: chunk.SliceSize, Digest: chunk.Digest{Hi: uint64(i) * 0x9e3779b97f4a7c15}, Map: []byte{1, 2, byte(i)}})
	}
	finder, err := FindFiles(t.Context(), w.objects, w.table(want))
	w.must(err)
	if finder.parts.Len() < 4 {
		t.Fatalf("%d parts", finder.parts.Len())
	}
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 200 {
				f := want[rng.IntN(len(want))]
				got, ok, err := finder.Find(t.Context(), f.Path)
				if d := cmp.Diff(f, got, sameFile); d != "" || !ok || err != nil {
					t.Errorf("%s: %v, %v\n%s", f.Path, ok, err, d)
					return
				}
			}
		})
	}
	all.Wait()
}
