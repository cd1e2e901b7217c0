package file_test

import (
	"fmt"
	"testing"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/file"
)

// BenchmarkPut measures durable objects: of a WAL segment's size, and small.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{16 << 20, 4 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := open(b, b.TempDir(), file.Options{})
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(i * 7)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				_, err := store.Put(b.Context(), s, fmt.Sprintf("wal/00000001/%08d", n%64), data, store.CreateOptions{})
				must(b, err)
			}
			must(b, s.Close())
		})
	}
}

// BenchmarkCreate measures small objects that must not be there yet, as packs
// and segments are written: without a lock.
func BenchmarkCreate(b *testing.B) {
	s := open(b, b.TempDir(), file.Options{})
	data := make([]byte, 4<<10)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		_, err := store.Put(b.Context(), s, fmt.Sprintf("wal/00000001/%08d", n), data, store.CreateOptions{IfAbsent: true})
		must(b, err)
	}
	must(b, s.Close())
}

func BenchmarkOpen4KiB(b *testing.B) {
	s := open(b, b.TempDir(), file.Options{})
	put(b, s, "a/b/c", string(make([]byte, 4<<10)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := store.Get(b.Context(), s, "a/b/c", 4<<10)
		must(b, err)
	}
	must(b, s.Close())
}

func BenchmarkList(b *testing.B) {
	s := open(b, b.TempDir(), file.Options{})
	const objects = 500
	for i := range objects {
		put(b, s, fmt.Sprintf("packs/%08d", i), "x")
	}
	b.ReportAllocs()
	for b.Loop() {
		if n := len(keys(b, s, store.ListOptions{})); n != objects {
			b.Fatal(n)
		}
	}
	must(b, s.Close())
}
