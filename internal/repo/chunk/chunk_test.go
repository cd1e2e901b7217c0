package chunk

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/golang/snappy"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/repo"
)

func sample(kind string, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	switch kind {
	case "random":
		r.Read(b)
	case "text":
		for i := range b {
			b[i] = "orders for two, please. "[i%24] + byte(i/4096%3)
		}
	}
	return b
}

func TestCodecs(t *testing.T) {
	for _, codec := range []Codec{None, Zstd, S2} {
		enc, err := NewEncoder(codec)
		if err != nil {
			t.Fatal(err)
		}
		var dec Decoder
		for _, kind := range []string{"random", "text", "zeros"} {
			for _, n := range []int{1, 8192, 100_000, MaxPlain} {
				plain := sample(kind, n)
				used, data := enc.Encode(plain)
				if len(data) > len(plain) {
					t.Errorf("%v made %d %s bytes larger: %d", codec, n, kind, len(data))
				}
				if kind == "text" && n >= 8192 && codec != None && used != codec {
					t.Errorf("%v did not compress %d bytes of text", codec, n)
				}
				got, err := dec.Decode(used, data, nil, n)
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%v: %d %s bytes do not come back: %v", codec, n, kind, err)
				}
				if _, err := dec.Decode(used, data, nil, n-1); err == nil {
					t.Errorf("%v: a wrong length of %d %s bytes went unseen", codec, n, kind)
				}
			}
		}
	}
}

func TestDecodeBounds(t *testing.T) {
	enc, _ := NewEncoder(Zstd)
	_, bomb := enc.Encode(make([]byte, 4*MaxPlain))
	var dec Decoder
	if _, err := dec.Decode(Zstd, bomb, nil, MaxPlain); err == nil {
		t.Error("a chunk that grows past its bound was decoded")
	}
	if _, err := dec.Decode(None, nil, nil, MaxPlain+1); err == nil {
		t.Error("a chunk above the bound was accepted")
	}
	if _, err := dec.Decode(99, nil, nil, 1); err == nil {
		t.Error("an unknown codec was accepted")
	}
}

func FuzzDecode(f *testing.F) {
	for _, codec := range []Codec{None, Zstd, S2} {
		enc, _ := NewEncoder(codec)
		_, b := enc.Encode(sample("text", 8192))
		f.Add(uint8(codec), b, 8192)
	}
	var dec Decoder
	f.Fuzz(func(t *testing.T, codec uint8, data []byte, plain int) {
		got, err := dec.Decode(Codec(codec), data, nil, plain)
		if err == nil && len(got) != plain {
			t.Fatalf("%d bytes instead of %d", len(got), plain)
		}
	})
}

// The digest does not depend on the order or on the division of the work, and
// sees blocks that changed places.
func TestDigestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		block := rapid.SampledFrom([]int{512, 1000, 8192}).Draw(t, "block")
		data := make([]byte, rapid.IntRange(1, 100_000).Draw(t, "bytes"))
		rand.NewChaCha8([32]byte{byte(len(data))}).Read(data)
		var whole, parts Digest
		whole.AddData(0, data, block)
		cut := rapid.IntRange(0, len(data)/block).Draw(t, "cut")
		var head Digest
		parts.AddData(uint64(cut), data[cut*block:], block)
		head.AddData(0, data[:cut*block], block)
		parts.Add(head)
		if whole != parts {
			t.Fatalf("in one piece %v, in two %v", whole, parts)
		}
		if len(data) < 2*block {
			return
		}
		swapped := bytes.Clone(data)
		copy(swapped, data[block:2*block])
		copy(swapped[block:], data[:block])
		var other Digest
		other.AddData(0, swapped, block)
		if other == whole && !bytes.Equal(swapped, data) {
			t.Fatal("two swapped blocks went unseen")
		}
	})
}

func drawMap(t *rapid.T) Map {
	m := Map{Block: uint32(rapid.SampledFrom([]int{1024, 8192, 32768}).Draw(t, "block"))}
	packs := []repo.ID{{1}, {2}, {3}}
	next := uint64(0)
	for range rapid.IntRange(0, 20).Draw(t, "runs") {
		r := Run{First: next, Blocks: rapid.Uint32Range(1, 8).Draw(t, "blocks"), Zero: rapid.Bool().Draw(t, "zero")}
		if !r.Zero {
			r.Slot = rapid.Uint32Range(0, 3).Draw(t, "slot")
			if (r.Slot+r.Blocks)*m.Block > MaxPlain {
				r.Slot, r.Blocks = 0, 1
			}
			r.Ref = repo.Ref{
				Pack:    rapid.SampledFrom(packs).Draw(t, "pack"),
				Ordinal: rapid.Uint32().Draw(t, "ordinal"),
				Offset:  rapid.Uint64Range(0, 1<<40).Draw(t, "offset"),
				Stored:  rapid.Uint32Range(1, MaxFrame).Draw(t, "stored"),
				Plain:   (r.Slot + r.Blocks) * m.Block,
			}
		}
		next = r.End()
		m.Runs = append(m.Runs, r)
	}
	return m
}

func TestMapRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawMap(t)
		got, err := ParseMap(want.AppendTo(nil))
		if err != nil {
			t.Fatal(err)
		}
		if len(want.Runs) == 0 {
			want.Runs = []Run{}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
		for _, r := range want.Runs {
			for b := r.First; b < r.End(); b++ {
				if f, ok := got.Find(b); !ok || f != r {
					t.Fatalf("block %d found in %+v, is in %+v", b, f, r)
				}
			}
		}
		if f, ok := got.Find(want.Blocks()); ok {
			t.Fatalf("a block past the end found in %+v", f)
		}
	})
}

// A large file's map costs few bytes for each chunk.
func TestMapSize(t *testing.T) {
	m := Map{Block: 8192}
	for i := range uint64(4096) {
		m.Runs = append(m.Runs, Run{First: i * 32, Blocks: 32, Ref: repo.Ref{
			Pack: repo.ID{1}, Ordinal: uint32(i), Offset: 112 + i*70_000, Stored: 70_000, Plain: MaxPlain}})
	}
	if n := len(m.AppendTo(nil)); n > 4096*12 {
		t.Errorf("the map of 1 GiB takes %d bytes", n)
	}
}

// So does that of a file of which every block was stored by another of many backups.
func TestMapSizeInPieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	m := Map{Block: 8192, Runs: make([]Run, 16384)}
	for round := range 60 {
		ref, slot := repo.Ref{Pack: repo.ID{byte(round)}, Offset: 112, Stored: 50_000, Plain: MaxPlain}, uint32(0)
		for i := range m.Runs {
			if round > 0 && rng.IntN(18) > 0 {
				continue
			}
			m.Runs[i] = Run{First: uint64(i), Blocks: 1, Ref: ref, Slot: slot}
			if slot++; slot*m.Block == MaxPlain {
				ref, slot = repo.Ref{Pack: ref.Pack, Ordinal: ref.Ordinal + 1, Offset: ref.End(), Stored: 50_000 + rng.Uint32N(9000), Plain: MaxPlain}, 0
			}
		}
	}
	if n := len(m.AppendTo(nil)); n > 6*len(m.Runs) {
		t.Errorf("the map takes %d bytes, %d runs", n, len(m.Runs))
	}
}

func FuzzParseMap(f *testing.F) {
	f.Add(Map{Block: 8192, Runs: []Run{
		{First: 0, Blocks: 4, Ref: repo.Ref{Pack: repo.ID{1}, Ordinal: 3, Offset: 112, Stored: 9000, Plain: 4 * 8192}},
		{First: 4, Blocks: 9, Zero: true},
	}}.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMap(b)
		if err != nil {
			return
		}
		again, err := ParseMap(m.AppendTo(nil))
		if err != nil || !cmp.Equal(m, again) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}

// S2's output is Snappy's block format: another library reads it.
func TestSnappyCompatible(t *testing.T) {
	for name, make := range map[string]func(Codec) (*Encoder, error){"NewEncoder": NewEncoder, "NewFastEncoder": NewFastEncoder} {
		enc, err := make(S2)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"text", "zeros"} {
			plain := sample(kind, MaxPlain)
			used, data := enc.Encode(plain)
			got, err := snappy.Decode(nil, data)
			if used != S2 || err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s: snappy does not read %s: %v", name, kind, err)
			}
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	plain := sample("text", MaxPlain)
	for _, codec := range []Codec{Zstd, S2} {
		b.Run(codec.String(), func(b *testing.B) {
			enc, _ := NewEncoder(codec)
			b.SetBytes(MaxPlain)
			for b.Loop() {
				enc.Encode(plain)
			}
		})
	}
}

func BenchmarkDigest(b *testing.B) {
	plain := sample("random", MaxPlain)
	b.SetBytes(MaxPlain)
	for b.Loop() {
		var d Digest
		d.AddData(0, plain, 8192)
	}
}

func TestPart(t *testing.T) {
	stored := Run{First: 10, Blocks: 6, Slot: 3, Ref: repo.Ref{Pack: repo.ID{1}, Plain: MaxPlain}}
	zero := Run{First: 10, Blocks: 6, Zero: true}
	for _, c := range []struct {
		run               Run
		first, end        uint64
		wantFirst         uint64
		wantBlocks, wantS uint32
	}{
		{stored, 0, 99, 10, 6, 3}, {stored, 12, 14, 12, 2, 5}, {stored, 15, 99, 15, 1, 8}, {stored, 0, 11, 10, 1, 3},
		{zero, 12, 14, 12, 2, 0}, {zero, 0, 99, 10, 6, 0},
	} {
		want := c.run
		want.First, want.Blocks, want.Slot = c.wantFirst, c.wantBlocks, c.wantS
		if got := c.run.Part(c.first, c.end); got != want {
			t.Errorf("from %d to %d: %+v, want %+v", c.first, c.end, got, want)
		}
	}
}
