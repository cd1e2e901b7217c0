package walrec

import (
	"fmt"
	"testing"
	"time"
)

// benchWAL is a segment of 16 MiB. Small records are as pgbench writes them: an
// insert, updates and a commit; large ones are page images.
func benchWAL(small bool) []byte {
	w := newWriter(17, 8192, 16<<20, 1<<30)
	for i := 0; len(w.out) < w.segment-9000; i++ {
		if small {
			w.filler(72)
			w.filler(120)
			w.filler(80)
			w.filler(128)
		} else {
			w.filler(7000)
		}
		w.commit(uint32(i), testTime.Add(time.Duration(i)*137*time.Microsecond))
	}
	w.switchSegment()
	return w.out
}

func BenchmarkScan(b *testing.B) {
	for _, bb := range []struct {
		name  string
		small bool
		opts  Options
	}{
		{"small records", true, Options{}},
		{"small records, no CRC", true, Options{SkipCRC: true}},
		{"page images", false, Options{}},
		{"only commits", true, Options{}},
	} {
		wal := benchWAL(bb.small)
		if bb.name == "only commits" {
			w := newWriter(17, 8192, 16<<20, 1<<30)
			for i := 0; len(w.out) < w.segment-9000; i++ {
				w.commit(uint32(i), testTime.Add(time.Duration(i)*137*time.Microsecond))
			}
			w.switchSegment()
			wal = w.out
		}
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(int64(len(wal)))
			b.ReportAllocs()
			var x Index
			for b.Loop() {
				s, err := NewScanner(bb.opts)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = s.Write(wal)
				if x, err = s.Finish(); err != nil {
					b.Fatal(err)
				}
			}
			enc := EncodeIndex(x)
			b.ReportMetric(float64(len(enc))/float64(len(x.Events)), "B/event")
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	x := mustScan(b, benchWAL(true))
	b.Run(fmt.Sprint(len(x.Events)), func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			EncodeIndex(x)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	enc := EncodeIndex(mustScan(b, benchWAL(true)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeIndex(enc); err != nil {
			b.Fatal(err)
		}
	}
}
