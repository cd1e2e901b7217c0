package s3_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/s3"
)

// Of sixteen uploads in parts with IfAbsent one wins, as it is with small objects.
func TestRaceOfUploads(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.PartSize = 5 << 20
	s := open(t, o)
	var wins atomic.Int64
	var winner atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	writers := 16
	if testing.Short() {
		writers = 6 // each holds 5 MiB, and the race detector is slow
	}
	for i := range writers {
		w, err := s.Create(t.Context(), "d/k", store.CreateOptions{IfAbsent: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(noise(uint64(i), 5<<20+100)); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			<-start
			_, err := w.Commit()
			switch {
			case err == nil:
				wins.Add(1)
				winner.Store(int64(i))
			case !errors.Is(err, store.ErrExists):
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	if wins.Load() != 1 {
		t.Fatalf("%d writers won", wins.Load())
	}
	holds(t, s, "d/k", noise(uint64(winner.Load()), 5<<20+100))
	noUploads(t, s)
}

func TestConditionsOfUploads(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.PartSize = 5 << 20
	s := open(t, o)
	put := func(seed uint64, c store.CreateOptions) (store.Object, error) {
		return store.Put(t.Context(), s, "k", noise(seed, 6<<20), c)
	}
	if _, err := put(1, store.CreateOptions{IfMatch: "0123"}); !errors.Is(err, store.ErrChanged) {
		t.Errorf("IfMatch on nothing: %v", err)
	}
	one, err := put(1, store.CreateOptions{IfAbsent: true})
	if err != nil {
		t.Fatal(err)
	}
	two, err := put(2, store.CreateOptions{IfMatch: one.Version})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(3, store.CreateOptions{IfMatch: one.Version}); !errors.Is(err, store.ErrChanged) {
		t.Errorf("IfMatch on the former: %v", err)
	}
	holds(t, s, "k", noise(2, 6<<20))
	if there, err := s.Stat(t.Context(), "k"); err != nil || there.Version != two.Version || there.Size != 6<<20 {
		t.Errorf("Stat: %+v, %v, want %+v", there, err, two)
	}
}

// What is exactly a part, or a byte more or less, arrives.
func TestSizesAroundAPart(t *testing.T) {
	t.Parallel()
	for _, c := range []s3.Checksum{s3.CRC32C, s3.MD5, s3.NoChecksum} {
		t.Run(string(c), func(t *testing.T) {
			t.Parallel()
			o := options(t)
			o.PartSize, o.Checksum = 5<<20, c
			s := open(t, o)
			sizes := []int{0, 1, 256 << 10, 5<<20 - 1, 5 << 20, 5<<20 + 1, 10 << 20, 10<<20 + 1}
			if testing.Short() || c != s3.CRC32C {
				sizes = []int{0, 256<<10 + 1, 5<<20 + 1}
			}
			for _, size := range sizes {
				key := fmt.Sprint("k", size)
				data := noise(uint64(size), size)
				made, err := store.Put(t.Context(), s, key, data, store.CreateOptions{IfAbsent: true})
				if err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
				if made.Size != int64(size) {
					t.Errorf("%d bytes: Commit says %+v", size, made)
				}
				holds(t, s, key, data)
			}
		})
	}
}

func TestRemoveTemporary(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Prefix = "repo"
	s := open(t, o)
	o.Prefix = "other"
	other := open(t, o)
	for _, st := range []*s3.Store{s, s, other} {
		w, err := st.Create(t.Context(), "k", store.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(noise(1, 9<<20)); err != nil { // one part, and a beginning
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = w.Abort() })
		s3.WaitForParts(w) // one that arrives after its upload was dropped stays
	}
	now := time.Now()
	if n, size, err := s.RemoveTemporary(t.Context(), time.Hour, now); n != 0 || size != 0 || err != nil {
		t.Errorf("of uploads that are young %d were dropped, of %d bytes, %v", n, size, err)
	}
	if n, size, err := s.RemoveTemporary(t.Context(), time.Hour, now.Add(2*time.Hour)); n != 2 || size != 16<<20 || err != nil {
		t.Errorf("%d uploads were dropped, of %d bytes, %v", n, size, err)
	}
	noUploads(t, s)
	if n, _, err := other.RemoveTemporary(t.Context(), time.Hour, now.Add(2*time.Hour)); n != 1 || err != nil {
		t.Errorf("under the other prefix %d were left, %v", n, err)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Prefix = "some/where"
	s := open(t, o)
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	for entry, err := range s.List(t.Context(), "", store.ListOptions{}) {
		t.Errorf("the probe left %s, %v", entry.Key, err)
	}
	noUploads(t, s)
}
