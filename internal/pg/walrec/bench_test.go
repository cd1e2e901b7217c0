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

// benchBlocks is a segment of 16 MiB of records with block references, as pgbench
// writes them: updates, insertions into an index, commits, some page images.
func benchBlocks() []byte {
	const major = 17
	w := newWriter(major, 8192, 16<<20, 1<<30)
	ref := func(number, block uint32, id uint8, data, image int) []byte {
		r := BlockRef{RelFileLocator: RelFileLocator{1663, 5, number}, Block: block, ID: id, HasImage: image > 0}
		return blockHeader(major, r, id > 0, data, image, false)
	}
	random := uint32(1)
	for i := 0; len(w.out) < w.segment-20000; i++ {
		random = random*1664525 + 1013904223
		block := random >> 8
		account := ref(16384, block%160000, 0, 20, 0)
		w.add(10, 0x40, 5, account, make([]byte, 20), make([]byte, 14))
		w.add(10, 0x20, 5, append(account, ref(16384, block%7, 1, 60, 0)...), make([]byte, 80), make([]byte, 14))
		w.add(11, 0x00, 5, ref(16390, block%27000, 0, 20, 0), make([]byte, 20), make([]byte, 2))
		w.add(10, 0x40, 5, ref(16400, block%100, 0, 40, 0), make([]byte, 40), make([]byte, 14))
		w.add(10, 0x00, 5, ref(16410, uint32(i)/100, 0, 30, 0), make([]byte, 30), make([]byte, 3))
		if i%20 == 0 {
			w.add(10, 0x40, 5, ref(16384, block%160000, 0, 20, 7000), make([]byte, 7020), make([]byte, 14))
		}
		w.commit(uint32(i), testTime.Add(time.Duration(i)*137*time.Microsecond))
	}
	w.switchSegment()
	return w.out
}

func BenchmarkRecords(b *testing.B) {
	wal := benchBlocks()
	run := func(name string, opts Options) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(wal)))
			for b.Loop() {
				s, err := NewScanner(opts)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = s.Write(wal)
				if _, err := s.Finish(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("not asked for", Options{})
	count := 0
	run("asked for", Options{Records: func(r *Record) { count += len(r.Blocks) }})
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
