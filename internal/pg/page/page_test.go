package page

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// realPage is a page that PostgreSQL wrote, see testdata/README.md.
type realPage struct {
	name  string
	block uint32
	data  []byte
}

func realPages(tb testing.TB) []realPage {
	tb.Helper()
	f, err := os.Open("testdata/pages.gz")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	all, err := io.ReadAll(z)
	if err != nil {
		tb.Fatal(err)
	}
	var pages []realPage
	for len(all) > 0 {
		n := int(all[0])
		block := binary.LittleEndian.Uint32(all[1:])
		pages = append(pages, realPage{string(all[5 : 5+n]), block, all[5+n : 5+n+8192]})
		all = all[5+n+8192:]
	}
	if len(pages) < 20 {
		tb.Fatalf("testdata holds %d pages, want at least 20", len(pages))
	}
	return pages
}

func TestPagesOfRealClustersAreGood(t *testing.T) {
	for _, p := range realPages(t) {
		before := bytes.Clone(p.data)
		if v := Check(p.data, p.block, true); v != OK {
			t.Errorf("%s block %d: %v", p.name, p.block, v)
		}
		if v := Check(p.data, p.block+1, true); v != BadChecksum {
			t.Errorf("%s block %d taken for the next block: %v", p.name, p.block, v)
		}
		if !bytes.Equal(before, p.data) {
			t.Errorf("%s block %d: Check changed the page", p.name, p.block)
		}
	}
}

// Every byte of a page is covered, those of pd_checksum by the comparison. The
// stored sum has 16 bits (modulo 65535), so one flip in 65535 keeps it by
// chance; a byte that is left out would be missed each time.
func TestChecksumFindsFlippedBits(t *testing.T) {
	pages := realPages(t)
	for start, p := range []realPage{pages[0], pages[3], pages[len(pages)-1]} {
		page := bytes.Clone(p.data)
		missed := 0
		for bit := start; bit < len(page)*8; bit += 5 { // one or two bits of each byte
			page[bit/8] ^= 1 << (bit % 8)
			if Check(page, p.block, true).Good() {
				missed++
				if naiveChecksum(page, p.block) != binary.LittleEndian.Uint16(page[offChecksum:]) {
					t.Fatalf("%s: flipped bit %d went unnoticed", p.name, bit)
				}
			}
			page[bit/8] ^= 1 << (bit % 8)
		}
		if missed > 3 {
			t.Errorf("%s: %d flipped bits went unnoticed", p.name, missed)
		}
	}
}

// naiveChecksum is the algorithm written down as simply as it goes, on a copy.
func naiveChecksum(page []byte, block uint32) uint16 {
	p := bytes.Clone(page)
	p[8], p[9] = 0, 0
	sums := [32]uint32{
		0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
		0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
		0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
		0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
	}
	round := func(lane int, word uint32) {
		x := sums[lane] ^ word
		sums[lane] = x*16777619 ^ x>>17
	}
	for i := 0; i < len(p); i += 4 {
		round(i/4%32, binary.LittleEndian.Uint32(p[i:]))
	}
	result := block
	for lane := range sums {
		round(lane, 0)
		round(lane, 0)
		result ^= sums[lane]
	}
	return uint16(result%65535 + 1)
}

func TestChecksumIsTheNaiveOneForEveryBlockSize(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := 1 << rapid.IntRange(10, 15).Draw(t, "log2 of size")
		seed := rapid.Uint64().Draw(t, "seed")
		block := rapid.Uint32().Draw(t, "block")
		page := randomBytes(seed, size)
		if got, want := Checksum(page, block), naiveChecksum(page, block); got != want {
			t.Fatalf("Checksum = %#04x, want %#04x", got, want)
		}
	})
}

func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	for r, i := rand.New(rand.NewPCG(seed, 1)), 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}

func TestChecksumOfWhatIsNoPage(t *testing.T) {
	for _, n := range []int{0, 1, 24, 127, 129, 8191} {
		if got := Checksum(make([]byte, n), 0); got != 0 {
			t.Errorf("Checksum of %d bytes = %d, want 0", n, got)
		}
	}
}

// A zero page is a page of zeros, not one whose header is zero: wherever one
// bit is left, the page is broken.
func TestZeroPageHasOnlyZeros(t *testing.T) {
	for size, step := range map[int]int{1 << 10: 1, 8 << 10: 3, 32 << 10: 61} {
		page := make([]byte, size)
		for _, checksums := range []bool{false, true} {
			if v := Check(page, 7, checksums); v != Zero {
				t.Errorf("zeros of %d bytes: %v", size, v)
			}
		}
		for i := size - 1; i >= 0; i -= step {
			page[i] = 0x10
			if IsZero(page) {
				t.Fatalf("IsZero with byte %d of %d set", i, size)
			}
			if v := Check(page, 7, true); v.Good() {
				t.Fatalf("byte %d of %d set: %v", i, size, v)
			}
			page[i] = 0
		}
	}
	if v := Check(append(make([]byte, 8191), 1), 0, false); v != BadHeader {
		t.Errorf("zero header before data: %v, want %v", v, BadHeader)
	}
}

func TestIsZeroOfEveryLength(t *testing.T) {
	for n := range 200 {
		b := make([]byte, n)
		if !IsZero(b) {
			t.Errorf("%d zero bytes are not zero", n)
		}
		if n > 0 {
			b[n-1] = 1
			if IsZero(b) {
				t.Errorf("last of %d bytes not seen", n)
			}
		}
	}
}

func TestHeaderSanity(t *testing.T) {
	put := func(off int, v uint16) func([]byte) {
		return func(p []byte) { binary.LittleEndian.PutUint16(p[off:], v) }
	}
	tests := []struct {
		name string
		edit func([]byte)
		want Verdict
	}{
		{"untouched", func([]byte) {}, OK},
		{"all flags", put(offFlags, 7), OK},
		{"unknown flag", put(offFlags, 8), BadHeader},
		{"lower above upper", put(offLower, 8193), BadHeader},
		{"upper above special", put(offUpper, 8193), BadHeader},
		{"special beyond the page", put(offSpecial, 8200), BadHeader},
		{"special not aligned", func(p []byte) { put(offSpecial, 8191)(p); put(offUpper, 8000)(p) }, BadHeader},
		{"never initialised", put(offUpper, 0), BadHeader},
	}
	good := realPages(t)[0] // a heap page: special is the page size
	for _, tt := range tests {
		page := bytes.Clone(good.data)
		tt.edit(page)
		if got := Check(page, good.block, false); got != tt.want {
			t.Errorf("%s, checksums off: %v, want %v", tt.name, got, tt.want)
		}
		binary.LittleEndian.PutUint16(page[offChecksum:], Checksum(page, good.block))
		if got := Check(page, good.block, true); got != tt.want {
			t.Errorf("%s, checksum made to fit: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// Encrypting extensions and foreign files put noise where a header should be.
func TestNoiseIsNeverGood(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		page := randomBytes(rapid.Uint64().Draw(t, "seed"), 8192)
		page[offFlags+1] |= 0x80
		if v := Check(page, 0, false); v != BadHeader {
			t.Fatalf("noise: %v", v)
		}
	})
}

func TestSizesThatAreNoPage(t *testing.T) {
	page := realPages(t)[0].data
	for _, n := range []int{0, 1, 23, 24, 512, 1000, 4097, 8191} {
		if v := Check(page[:n], 0, false); v != BadHeader {
			t.Errorf("%d bytes: %v, want %v", n, v, BadHeader)
		}
	}
	if v := Check(make([]byte, 64<<10), 0, false); v != BadHeader {
		t.Errorf("64 KiB of zeros: %v, want %v", v, BadHeader)
	}
}

func TestParseHeader(t *testing.T) {
	for _, p := range realPages(t) {
		if p.name != "pg15 h_btree" || p.block != 20 {
			continue
		}
		got, ok := ParseHeader(p.data)
		want := Header{LSN: 0x1248d88, Checksum: 0x416f, Flags: 0, Lower: 0x5d4, Upper: 0x900,
			Special: 0x1ff0, PageSize: 8192, Layout: 4}
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
		binary.LittleEndian.PutUint32(p.data, 0x16)
		if lsn := LSN(p.data); lsn.String() != "16/1248D88" {
			t.Errorf("LSN = %v: the high half comes first", lsn)
		}
		return
	}
	t.Fatal("the page is not in testdata")
}

func TestLSNAndHeaderOfTooFewBytes(t *testing.T) {
	if LSN(make([]byte, 7)) != 0 {
		t.Error("LSN of 7 bytes is not zero")
	}
	if _, ok := ParseHeader(make([]byte, 23)); ok {
		t.Error("a header in 23 bytes")
	}
}

func TestVerdictString(t *testing.T) {
	var words []string
	for v := OK; v <= BadChecksum+1; v++ {
		words = append(words, v.String())
	}
	if got, want := strings.Join(words, ","), "ok,zero,bad header,bad checksum,Verdict(4)"; got != want {
		t.Errorf("verdicts are %s, want %s", got, want)
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	p := realPages(t)[0]
	if n := testing.AllocsPerRun(100, func() { Check(p.data, p.block, true) }); n != 0 {
		t.Errorf("Check allocates %v times", n)
	}
}

func FuzzCheck(f *testing.F) {
	for _, p := range realPages(f)[:4] {
		f.Add(p.data[:1024], p.block)
	}
	f.Add(make([]byte, 1024), uint32(0))
	f.Add([]byte{}, uint32(0))
	f.Fuzz(func(t *testing.T, page []byte, block uint32) {
		v := Check(page, block, true)
		if v == Zero != (IsZero(page) && sizeValid(len(page))) {
			t.Fatalf("verdict %v for zero = %v", v, IsZero(page))
		}
		if sum := Checksum(page, block); sum != 0 && sum != naiveChecksum(page, block) {
			t.Fatalf("checksum %#04x is not the naive one", sum)
		}
	})
}
