package page

import "testing"

func BenchmarkChecksum(b *testing.B) {
	p := make([]byte, 8192)
	for i := range p {
		p[i] = byte(i * 7)
	}
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	var sum uint16
	for i := 0; b.Loop(); i++ {
		sum += Checksum(p, uint32(i))
	}
	_ = sum
}

func BenchmarkIsZero(b *testing.B) {
	p := make([]byte, 8192)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if !IsZero(p) {
			b.Fatal("not zero")
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	pages := realPages(b)
	b.SetBytes(8192)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r := pages[i%len(pages)]
		if v := Check(r.data, r.block, true); !v.Good() {
			b.Fatal(v)
		}
	}
}
