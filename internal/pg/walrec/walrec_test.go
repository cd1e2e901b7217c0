package walrec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/pg"
)

// scan feeds b to a Scanner in pieces of the given size.
func scan(t testing.TB, b []byte, piece int, opts Options) (Index, error) {
	t.Helper()
	s, err := NewScanner(opts)
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		n := min(piece, len(b))
		if k, err := s.Write(b[:n]); k != n || err != nil {
			t.Fatalf("Write took %d of %d bytes: %v", k, n, err)
		}
		b = b[n:]
	}
	return s.Finish()
}

func mustScan(t testing.TB, b []byte) Index {
	t.Helper()
	x, err := scan(t, b, len(b)+1, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// randomWAL writes WAL of all kinds of record over some segments and returns
// the events that a reader must find.
func randomWAL(t *rapid.T) (*walWriter, int, []Event) {
	major := rapid.IntRange(pg.OldestMajor, pg.NewestMajor).Draw(t, "major")
	block := 1 << rapid.IntRange(10, 16).Draw(t, "block")
	w := newWriter(major, block, 1<<20, pg.LSN(rapid.Uint64Range(0, 1<<20).Draw(t, "segment")<<20))
	w.prev = w.start / 2
	var want []Event
	clock := testTime
	xid := rapid.Uint32().Draw(t, "xid")
	for range rapid.IntRange(1, 40).Draw(t, "records") {
		clock = clock.Add(time.Duration(rapid.Int64Range(-1e6, 1e7).Draw(t, "step")) * time.Microsecond)
		xid += rapid.Uint32Range(0, 9).Draw(t, "xids")
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0, 1, 2:
			want = append(want, w.commit(xid, clock))
		case 3:
			want = append(want, w.commitPrepared(major, xid, clock,
				rapid.IntRange(0, 3000).Draw(t, "subxacts"), rapid.IntRange(0, 1000).Draw(t, "invals")))
		case 4:
			want = append(want, w.restorePoint(rapid.StringMatching("[a-z]{1,63}").Draw(t, "name"), clock))
		case 5:
			w.filler(rapid.IntRange(24, 5<<18).Draw(t, "large"))
		case 6:
			// Up to some bytes before the segment's end.
			w.fillTo(w.segmentEnd() - 8*rapid.IntRange(1, 25).Draw(t, "before"))
		case 8:
			want = append(want, w.createTablespace(pg.OID(xid), strings.Repeat("/", rapid.IntRange(0, maxLocation).Draw(t, "location"))))
		case 7:
			if rapid.IntRange(0, 3).Draw(t, "switch") == 0 {
				want = append(want, w.switchSegment())
			}
		default:
			w.filler(rapid.IntRange(24, 9000).Draw(t, "small"))
		}
	}
	// A last record to fill the segment exactly would be luck; a switch does it.
	want = append(want, w.switchSegment())
	return w, major, want
}

func TestScannerFindsEveryEventHoweverInputIsSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, major, want := randomWAL(t)
		s, err := NewScanner(Options{})
		if err != nil {
			t.Fatal(err)
		}
		rest := w.out
		for len(rest) > 0 {
			n := min(len(rest), 1<<rapid.IntRange(0, 20).Draw(t, "piece"))
			if n < 1<<12 && len(rest) > 1<<12 { // some small pieces are enough
				for i := range min(40, len(rest)/n) {
					_, _ = s.Write(rest[i*n : (i+1)*n])
				}
				n *= min(40, len(rest)/n)
			} else {
				_, _ = s.Write(rest[:n])
			}
			rest = rest[n:]
		}
		x, err := s.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, x.Events); d != "" {
			t.Fatal(d)
		}
		if x.From != w.start || x.To != w.at() || x.Ending != EndsBySwitch || x.Header.Major != major ||
			x.Header.SystemID != testSystem || x.Head != nil || x.Tail != nil {
			t.Fatalf("%+v", x)
		}
	})
}

// joined puts together what indexes of single segments tell of all of them.
func joined(t interface{ Fatal(...any) }, indexes []Index) []Event {
	var all []Event
	var open []Fragment
	for _, x := range indexes {
		switch {
		case x.Head != nil && len(open) > 0:
			open = append(open, *x.Head)
			if x.Head.More == 0 {
				e, ok, err := Join(open[0], open[1:]...)
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					all = append(all, e)
				}
				open = nil
			}
		case x.Head == nil:
			open = nil
		}
		all = append(all, x.Events...)
		if x.Tail != nil {
			open = []Fragment{*x.Tail}
		}
	}
	return all
}

func TestSegmentsJoinToTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, _, want := randomWAL(t)
		var indexes []Index
		for b := w.out; len(b) > 0; b = b[w.segment:] {
			s, err := NewScanner(Options{})
			if err != nil {
				t.Fatal(err)
			}
			_, _ = s.Write(b[:w.segment])
			x, err := s.Finish()
			if err != nil {
				t.Fatal(err)
			}
			if x.To != x.From+pg.LSN(w.segment) {
				t.Fatalf("%s to %s, %s", x.From, x.To, x.Ending)
			}
			again, err := DecodeIndex(EncodeIndex(x))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(x, again); d != "" {
				t.Fatal(d)
			}
			indexes = append(indexes, again)
		}
		if d := cmp.Diff(want, joined(t, indexes)); d != "" {
			t.Fatal(d)
		}
	})
}

func TestBlockReferencesArePassedOver(t *testing.T) {
	block := func(id, flags byte, data int, image []byte, imageSize int) []byte {
		b := binary.LittleEndian.AppendUint16([]byte{id, flags}, uint16(data))
		if image != nil {
			b = append(binary.LittleEndian.AppendUint16(b, uint16(imageSize)), image...)
		}
		if flags&blockSameRel == 0 {
			b = append(b, make([]byte, relFileLocatorSize)...)
		}
		return append(b, 9, 9, 9, 9)
	}
	tests := []struct {
		name   string
		major  int
		parts  []byte
		blocks int
	}{
		{"none", 15, nil, 0},
		{"data", 15, block(0, 0x20, 100, nil, 0), 100},
		{"same relation", 15, append(block(0, 0x20, 7, nil, 0), block(1, 0xA0, 8, nil, 0)...), 15},
		{"image with hole", 15, block(0, 0x10, 0, []byte{0, 1, 0x01}, 300), 300},
		{"image applied, 15", 15, block(0, 0x10, 0, []byte{0, 1, 0x03}, 300), 300},
		{"image compressed, hole, 15", 15, block(0, 0x90, 0, []byte{0, 1, 0x05, 1, 1}, 200), 200},
		{"image lz4, hole, 15", 15, block(0, 0x10, 3, []byte{0, 1, 0x0B, 1, 1}, 200), 203},
		{"image zstd, no hole, 15", 15, block(0, 0x10, 3, []byte{0, 1, 0x12}, 200), 203},
		{"image compressed, hole, 14", 14, block(0, 0x10, 0, []byte{0, 1, 0x03, 1, 1}, 200), 200},
		{"image applied, hole, 14", 14, block(0, 0x10, 0, []byte{0, 1, 0x05}, 300), 300},
		{"origin and top-level xid", 15, []byte{idOrigin, 1, 0, idTopLevelXID, 1, 2, 3, 4}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWriter(tt.major, 8192, 1<<20, 3<<20)
			main := timeBytes(testTime)
			lsn, end := w.add(rmgrXact, 0x20, 77, tt.parts, make([]byte, tt.blocks), main)
			w.switchSegment()
			want := Event{Kind: Abort, XID: 77, Time: testTime, LSN: lsn, EndLSN: end}
			if d := cmp.Diff(want, mustScan(t, w.out).Events[0]); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestRecordOfLyingLengthsIsDamage(t *testing.T) {
	for name, parts := range map[string][]byte{
		"unknown part":    {100},
		"long data":       {idDataLong, 0xFF, 0xFF, 0xFF, 0xFF},
		"cut data header": {idDataLong},
		"block too large": {0, 0x80, 0xFF, 0xFF, 0, 0, 0, 0},
		"cut block":       {0, 0x10, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWriter(15, 8192, 1<<20, 3<<20)
			w.bytes(w.record(rmgrXact, 0, 77, parts, nil, nil))
			w.zeros()
			x, err := scan(t, w.out, 1<<20, Options{})
			if !errors.Is(err, ErrRecord) || x.Ending != Damaged || x.To != x.From || x.Events != nil {
				t.Errorf("%s, %s to %s, %v", x.Ending, x.From, x.To, err)
			}
		})
	}
}

func TestEndsOfWAL(t *testing.T) {
	// The segment has 200 commits, then the rest is as each case makes it.
	build := func() (*walWriter, pg.LSN) {
		w := newWriter(15, 8192, 1<<20, 5<<20)
		for i := range 600 {
			w.commit(uint32(1000+i), testTime)
		}
		return w, w.at()
	}
	fill := func(w *walWriter, f func(off int) []byte) {
		for len(w.out) < w.segment {
			w.out = append(w.out, f(len(w.out))...)
		}
	}
	tests := []struct {
		name   string
		change func(w *walWriter)
		ending Ending
		cause  error
		back   int // bytes that To is before the end of the last commit
	}{
		{"zeros", func(w *walWriter) { w.zeros() }, EndsEarly, ErrRecord, 0},
		{"cut input", func(*walWriter) {}, EndsEarly, nil, 0},
		{"recycled tail", func(w *walWriter) {
			w.out = append(w.out, make([]byte, 8192-len(w.out)%8192)...)
			fill(w, func(off int) []byte {
				old := newWriter(15, 8192, 1<<20, 2<<20+pg.LSN(off))
				old.filler(8192 - ShortHeaderSize)
				return old.out
			})
		}, EndsEarly, ErrRecord, 0},
		{"full page, recycled next", func(w *walWriter) {
			*w = *newWriter(15, 8192, 1<<20, 5<<20)
			w.commit(1, testTime)
			w.filler(8192 - len(w.out))
			old := newWriter(15, 8192, 1<<20, 1<<20+8192)
			old.filler(100)
			w.out = append(w.out, old.out...)
			w.zeros()
		}, EndsEarly, ErrPageAddress, -1},
		{"record of another chain", func(w *walWriter) {
			w.prev = 99 << 3
			w.commit(1, testTime)
			w.zeros()
		}, EndsEarly, ErrRecord, 0},
		{"bad checksum", func(w *walWriter) {
			w.commit(1, testTime)
			w.out[len(w.out)-8] ^= 1
			w.zeros()
		}, Damaged, ErrChecksum, 0},
		{"bad checksum over pages", func(w *walWriter) {
			w.filler(20000)
			w.out[len(w.out)-9] ^= 1
			w.zeros()
		}, Damaged, ErrChecksum, 0},
		{"hole in the middle", func(w *walWriter) {
			w.prev = 0
			w.commit(1, testTime)
			w.filler(9000)
			w.zeros()
		}, Damaged, ErrRecord, 0},
		{"rest of a record missing", func(w *walWriter) {
			end := len(w.out) - len(w.out)%8192 + 8192
			w.filler(9000)
			w.out = w.out[:end]
			w.header(0, 0)
			w.zeros()
		}, Damaged, ErrRecord, 0},
		{"rest of a record of wrong length", func(w *walWriter) {
			end := len(w.out) - len(w.out)%8192 + 8192
			w.filler(9000)
			w.out[end+16]++
			w.zeros()
		}, Damaged, ErrRecord, 0},
		{"page not written under a record", func(w *walWriter) {
			end := len(w.out) - len(w.out)%8192 + 8192
			w.filler(9000)
			w.out = w.out[:end]
			w.zeros()
		}, EndsEarly, ErrPageHeader, 0},
		{"garbage for a page header", func(w *walWriter) {
			end := len(w.out) - len(w.out)%8192 + 8192
			w.filler(9000)
			w.out[end+1] ^= 0x40
			w.zeros()
		}, Damaged, ErrPageHeader, 0},
		{"page of a later address", func(w *walWriter) {
			end := len(w.out) - len(w.out)%8192 + 8192
			w.filler(9000)
			w.out[end+13]++
			w.zeros()
		}, Damaged, ErrPageAddress, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, end := build()
			tt.change(w)
			s, _ := NewScanner(Options{})
			_, _ = s.Write(w.out)
			x, err := s.Finish()
			if x.Ending != tt.ending {
				t.Errorf("%s, want %s", x.Ending, tt.ending)
			}
			if (err != nil) != (tt.ending == Damaged) {
				t.Errorf("error %v for %s", err, x.Ending)
			}
			var where *Error
			if cause := s.Cause(); !errors.As(cause, &where) || tt.cause != nil && !errors.Is(cause, tt.cause) {
				t.Errorf("cause %v, want %v", cause, tt.cause)
			}
			if want := end; tt.back == 0 && (x.To != want || len(x.Events) != 600) {
				t.Errorf("%d events to %s, want 600 to %s", len(x.Events), x.To, want)
			} else if tt.back != 0 && x.To != x.From+8192 {
				t.Errorf("to %s", x.To)
			}
			if x.Tail != nil {
				t.Errorf("a tail after the end: %+v", x.Tail)
			}
		})
	}
}

func TestSkipCRC(t *testing.T) {
	w := newWriter(15, 8192, 1<<20, 5<<20)
	want := w.commit(1, testTime)
	w.out[len(w.out)-1] ^= 1 // padding is not covered
	w.filler(200)
	w.out[len(w.out)-20] ^= 1
	w.switchSegment()
	if _, err := scan(t, w.out, 1<<20, Options{}); !errors.Is(err, ErrChecksum) {
		t.Errorf("damage was not seen: %v", err)
	}
	x, err := scan(t, w.out, 1<<20, Options{SkipCRC: true})
	if err != nil || len(x.Events) != 2 || x.Events[0] != want {
		t.Errorf("%v, %v", x.Events, err)
	}
}

func TestOverwrittenRecord(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before int // bytes of the record before the segment's end
	}{{"whole header", 400}, {"cut header", 16}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWriter(16, 8192, 1<<20, 5<<20)
			first := w.commit(1, testTime)
			w.fillTo(w.segment - tt.before)
			prev := w.prev
			given := w.commitPrepared(16, 9, testTime, 500, 0)
			if w.segment-int(given.LSN-w.start) != tt.before {
				t.Fatalf("the record starts at %s", given.LSN)
			}
			w.out = w.out[:w.segment]
			w.prev = prev
			w.header(flagOverwritten, 0)
			main := binary.LittleEndian.AppendUint64(nil, uint64(given.LSN))
			lsn, end := w.add(rmgrXLOG, 0xD0, 0, nil, nil, append(main, timeBytes(testTime)...))
			over := Event{Kind: Overwrite, LSN: lsn, EndLSN: end, Time: testTime, Overwritten: given.LSN}
			last := w.commit(10, testTime)
			sw := w.switchSegment()

			if d := cmp.Diff([]Event{first, over, last, sw}, mustScan(t, w.out).Events); d != "" {
				t.Error(d)
			}
			x, y := mustScan(t, w.out[:w.segment]), mustScan(t, w.out[w.segment:])
			if x.Tail == nil || x.Tail.Start != given.LSN || y.Head != nil {
				t.Fatalf("tail %+v, head %+v", x.Tail, y.Head)
			}
			if _, _, err := Join(*x.Tail); !errors.Is(err, ErrIncomplete) {
				t.Errorf("joining nothing: %v", err)
			}
			if d := cmp.Diff([]Event{first, over, last, sw}, joined(t, []Index{x, y})); d != "" {
				t.Error(d)
			}
		})
	}
}

// spanning gives two segments with one record over the boundary.
func spanning(t *testing.T, subxacts, before int) (x, y Index, want Event) {
	t.Helper()
	w := newWriter(18, 8192, 1<<20, 5<<20)
	w.fillTo(w.segment - before)
	want = w.commitPrepared(18, 4321, testTime, subxacts, 3)
	w.switchSegment()
	return mustScan(t, w.out[:w.segment]), mustScan(t, w.out[w.segment:2*w.segment]), want
}

func TestJoinSeesWhatDoesNotFit(t *testing.T) {
	x, y, want := spanning(t, 100, 64)
	if e, ok, err := Join(*x.Tail, *y.Head); err != nil || !ok || e != want {
		t.Fatalf("%+v %v %v, want %+v", e, ok, err, want)
	}
	with := func(f Fragment, change func(*Fragment)) Fragment {
		f.Data = bytes.Clone(f.Data)
		change(&f)
		return f
	}
	tests := []struct {
		name       string
		tail, head Fragment
		want       error
	}{
		{"elsewhere", *x.Tail, with(*y.Head, func(f *Fragment) { f.Start += 1 << 20 }), ErrFragments},
		{"other length", *x.Tail, with(*y.Head, func(f *Fragment) { f.Length++ }), ErrFragments},
		{"other version", *x.Tail, with(*y.Head, func(f *Fragment) { f.Major = 17 }), ErrFragments},
		{"damaged head", *x.Tail, with(*y.Head, func(f *Fragment) { f.Sum ^= 1 }), ErrChecksum},
		{"damaged tail", with(*x.Tail, func(f *Fragment) { f.Sum ^= 1 }), *y.Head, ErrChecksum},
		{"damaged header", with(*x.Tail, func(f *Fragment) { f.Data[4] ^= 1 }), *y.Head, ErrChecksum},
		{"head for tail", *y.Head, *y.Head, ErrFragments},
	}
	for _, tt := range tests {
		if _, _, err := Join(tt.tail, tt.head); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestJoinBeyondTheBound(t *testing.T) {
	x, y, want := spanning(t, 30000, 64)
	if len(y.Head.Data) != keepSmall || y.Head.Length < DefaultMaxFragment {
		t.Fatalf("%d bytes kept of %d", len(y.Head.Data), y.Head.Length)
	}
	want.XID = 0
	if e, ok, err := Join(*x.Tail, *y.Head); err != nil || !ok || e != want {
		t.Errorf("%+v %v %v, want %+v", e, ok, err, want)
	}
	y.Head.Sum++
	if _, _, err := Join(*x.Tail, *y.Head); !errors.Is(err, ErrChecksum) {
		t.Errorf("damage was not seen: %v", err)
	}
}

func TestStartInsideASegment(t *testing.T) {
	w := newWriter(17, 8192, 1<<20, 5<<20)
	var want []Event
	for i := range 4000 {
		want = append(want, w.commit(uint32(i), testTime))
		w.filler(100 + i%9000)
	}
	want = append(want, w.switchSegment())
	for _, start := range []int{8192, 3 * 8192, 1<<20 - 8192, 1 << 20, 100, 8192 + 4000, 1<<20 - 1} {
		opts := Options{Start: w.start + pg.LSN(start), BlockSize: 8192, SegmentSize: 1 << 20}
		x, err := scan(t, w.out[start:], 5000, opts)
		if err != nil {
			t.Fatal(err)
		}
		page := w.start + pg.LSN((start+8191)/8192*8192)
		first := 0
		for want[first].LSN < page {
			first++
		}
		if d := cmp.Diff(want[first:], x.Events); d != "" {
			t.Errorf("from %s: %s", opts.Start, d)
		}
		if x.From != page || (start%8192 != 0 && x.Head != nil) {
			t.Errorf("from %s: span starts at %s, head %+v", opts.Start, x.From, x.Head)
		}
	}
}

func TestReader(t *testing.T) {
	w := newWriter(14, 8192, 1<<20, 5<<20)
	var want []Event
	for i := range 3000 {
		want = append(want, w.commit(uint32(i), testTime))
		w.filler(700)
	}
	want = append(want, w.switchSegment())
	read := func(src io.Reader) ([]Event, Index, error) {
		r, err := NewReader(src, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got []Event
		for {
			e, err := r.Next()
			if err != nil {
				if _, again := r.Next(); again != err {
					t.Errorf("after %v came %v", err, again)
				}
				return got, r.Index(), err
			}
			got = append(got, e)
		}
	}
	for name, src := range map[string]io.Reader{
		"at once":       bytes.NewReader(w.out),
		"byte for byte": iotest.OneByteReader(bytes.NewReader(w.out)),
		"eof with data": iotest.DataErrReader(bytes.NewReader(w.out)),
	} {
		got, x, err := read(src)
		if d := cmp.Diff(want, got); d != "" || err != io.EOF || x.To != w.at() || x.Ending != EndsBySwitch {
			t.Errorf("%s: %v, %s to %s: %s", name, err, x.From, x.To, d)
		}
	}
	broken := errors.New("broken")
	_, _, err := read(io.MultiReader(bytes.NewReader(w.out[:100000]), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("error of the source: %v", err)
	}
	w.out[1<<20+50000] ^= 1
	got, x, err := read(bytes.NewReader(w.out))
	var where *Error
	if !errors.As(err, &where) || where.At != x.To || len(got) == 0 || x.Ending != Damaged {
		t.Errorf("damage: %v, %s to %s", err, x.From, x.To)
	}
	if d := cmp.Diff(want[:len(got)], got); d != "" {
		t.Error(d)
	}
}

func TestOptionsThatContradict(t *testing.T) {
	for _, o := range []Options{
		{Start: 8192},
		{BlockSize: 8192, SegmentSize: 16 << 20},
		{Start: 8192, BlockSize: 8192},
		{Start: 8192, BlockSize: 8000, SegmentSize: 16 << 20},
		{MaxFragment: 100},
	} {
		if _, err := NewScanner(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
		if _, err := NewReader(nil, o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func TestInputThatIsNoSegment(t *testing.T) {
	w := newWriter(15, 8192, 1<<20, 5<<20)
	w.commit(1, testTime)
	w.zeros()
	for name, tt := range map[string]struct {
		in   []byte
		opts Options
		want error
	}{
		"nothing":          {nil, Options{}, ErrPageHeader},
		"too little":       {w.out[:30], Options{}, ErrPageHeader},
		"zeros":            {make([]byte, 1<<20), Options{}, ErrPageHeader},
		"from the middle":  {w.out[8192:], Options{}, ErrPageHeader},
		"another position": {w.out, Options{Start: 6 << 20}, ErrPageAddress},
	} {
		x, err := scan(t, tt.in, 1000, tt.opts)
		if !errors.Is(err, tt.want) || x.Ending != Damaged || x.From != x.To {
			t.Errorf("%s: %v, %s", name, err, x.Ending)
		}
		if y, err := DecodeIndex(EncodeIndex(x)); err != nil || !cmp.Equal(x, y) {
			t.Errorf("%s: %v after encoding, %v", name, y, err)
		}
	}
}
