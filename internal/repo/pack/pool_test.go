package pack

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// stock stores pieces in packs of about size bytes, and lists the packs.
func stock(t testing.TB, st store.Store, size uint64, pieces []piece) []Stored {
	t.Helper()
	var all []Stored
	for _, i := range write(t, st, chunk.S2, size, pieces) {
		all = append(all, Stored{i.ID, int64(i.Size)})
	}
	return all
}

func openPool(t testing.TB, st store.Store, packs []Stored, most int) *Pool {
	t.Helper()
	var skipped []error
	p, err := openPoolOf(t.Context(), objectsIn(st), named, packs, 512, most, func(err error) { skipped = append(skipped, err) })
	if err != nil || len(skipped) > 0 {
		t.Fatal(err, skipped)
	}
	return p
}

// With an index of everything, every chunk is found, in any order; what was changed,
// shortened or never stored is not.
func TestPoolFindsAll(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	var pieces []piece
	for i := range 200 {
		pieces = append(pieces, newPiece(uint64(i), 4096, 512))
	}
	other := newPiece(900, 4096, 1024) // of another block size
	all := append(slices.Clone(pieces), other)
	p := openPool(t, st, stock(t, st, 20<<10, all), 1000)
	for _, i := range rand.Perm(len(pieces)) {
		ref, ok := p.Find(t.Context(), pieces[i].hashes(), 4096)
		if !ok || ref != all[i].ref {
			t.Fatalf("chunk %d: found %v at %v, it is at %v", i, ok, ref, all[i].ref)
		}
	}
	for i := range pieces {
		changed := pieces[i].hashes()
		changed[i%len(changed)]++
		if _, ok := p.Find(t.Context(), changed, 4096); ok {
			t.Fatalf("chunk %d was found with another block", i)
		}
		if _, ok := p.Find(t.Context(), pieces[i].hashes(), 4095); ok {
			t.Fatalf("chunk %d was found with another length", i)
		}
	}
	if _, ok := p.Find(t.Context(), other.hashes(), 4096); ok {
		t.Error("a chunk of another block size was found")
	}
	if n := len(p.Used()); n < 20 {
		t.Errorf("%d packs were used", n)
	}
}

// With a small index, chunks that are looked for as they were stored are found by their
// neighbours.
func TestPoolSample(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	var pieces []piece
	for i := range 2000 {
		pieces = append(pieces, newPiece(uint64(i)*2+1, 1024, 512))
	}
	p := openPool(t, st, stock(t, st, 40<<10, pieces), 250)
	if len(p.index) > 250 || len(p.index) < 60 {
		t.Fatalf("the index has %d entries", len(p.index))
	}
	found := 0
	for i := range pieces {
		if ref, ok := p.Find(t.Context(), pieces[i].hashes(), 1024); ok {
			if ref != pieces[i].ref {
				t.Fatalf("chunk %d: %v instead of %v", i, ref, pieces[i].ref)
			}
			found++
		}
	}
	if found < 1700 {
		t.Errorf("of 2000 chunks %d were found", found)
	}
	if len(p.loaded) > maxLoaded {
		t.Errorf("%d footers are held", len(p.loaded))
	}
}

// Packs that are damaged, cut or gone are left out, and so are those that go later.
func TestPoolLeavesOut(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	pieces := []piece{newPiece(1, 4096, 512), newPiece(3, 4096, 512), newPiece(5, 4096, 512), newPiece(7, 4096, 512)}
	packs := stock(t, st, 1, pieces)
	if len(packs) != 4 {
		t.Fatalf("there are %d packs", len(packs))
	}
	data, err := store.Get(t.Context(), st, named(packs[0].ID), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-40] ^= 1
	if _, err := store.Put(t.Context(), st, named(packs[0].ID), data, store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := st.Delete(t.Context(), named(packs[1].ID), ""); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var skipped []error
	p, err := OpenPool(t.Context(), objectsIn(st), named, packs, 512, func(err error) {
		mu.Lock()
		defer mu.Unlock()
		skipped = append(skipped, err)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(skipped) != 2 || !slices.ContainsFunc(skipped, func(err error) bool { return errors.Is(err, repo.ErrDamaged) }) ||
		!slices.ContainsFunc(skipped, func(err error) bool { return errors.Is(err, store.ErrNotFound) }) {
		t.Errorf("left out: %v", skipped)
	}
	if err := st.Delete(t.Context(), named(packs[2].ID), ""); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, false, false, true} {
		if _, ok := p.Find(t.Context(), pieces[i].hashes(), 4096); ok != want {
			t.Errorf("chunk %d: found %v", i, ok)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := OpenPool(ctx, objectsIn(st), named, packs, 512, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("in a cancelled context: %v", err)
	}
}
