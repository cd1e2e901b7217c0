package walrec

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// smallWAL is some WAL of many kinds of record in small pages, ending early.
func smallWAL(major int) []byte {
	w := newWriter(major, 1024, 1<<20, 7<<20)
	w.commit(7, testTime)
	w.restorePoint("here", testTime)
	w.filler(700)
	w.commitPrepared(major, 8, testTime, 20, 3)
	w.add(rmgrXact, 0x20, 9, []byte{0, 0x30, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1, 1, 1, 1}, make([]byte, 5), timeBytes(testTime))
	w.add(rmgrXLOG, 0x10, 0, nil, nil, make([]byte, 88))
	w.add(rmgrXLOG, 0x60, 0, nil, nil, make([]byte, 28))
	w.add(rmgrXLOG, 0x90, 0, nil, nil, make([]byte, 24))
	w.add(rmgrXLOG, 0xD0, 0, nil, nil, make([]byte, 16))
	w.commit(10, testTime)
	w.createTablespace(16385, "/mnt/fast")
	w.createTablespace(16386, strings.Repeat("/long", 180))
	w.add(rmgrXLOG, 0x40, 0, nil, nil, nil)
	return w.out
}

// FuzzScan feeds any bytes, in one piece and in two. Without the check of
// checksums a changed byte reaches all of the decoding.
func FuzzScan(f *testing.F) {
	for major := 14; major <= 18; major++ {
		f.Add(smallWAL(major), uint16(1000), true)
		f.Add(smallWAL(major), uint16(33), false)
	}
	w := newWriter(16, 1024, 1<<20, 1<<20)
	w.fillTo(w.segment - 16)
	w.commit(1, testTime)
	f.Add(w.out[w.segment:], uint16(5), true)
	f.Fuzz(func(t *testing.T, b []byte, split uint16, skip bool) {
		opts := Options{SkipCRC: skip, MaxFragment: keepSmall}
		x, err := scan(t, b, len(b)+1, opts)
		var where *Error
		if (err != nil) != (x.Ending == Damaged) || err != nil && !errors.As(err, &where) {
			t.Fatalf("%s: %v", x.Ending, err)
		}
		if x.To < x.From {
			t.Fatalf("from %s to %s", x.From, x.To)
		}
		at := x.From
		for _, e := range x.Events {
			if e.LSN < at || e.EndLSN <= e.LSN || e.EndLSN > x.To {
				t.Fatalf("%s to %s after %s", e.LSN, e.EndLSN, at)
			}
			at = e.EndLSN
		}
		again, err2 := scan(t, b, 1+int(split), opts)
		if d := cmp.Diff(x, again); d != "" || (err == nil) != (err2 == nil) {
			t.Fatalf("in pieces: %s, %v, %v", d, err, err2)
		}
		decoded, err := DecodeIndex(EncodeIndex(x))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(x, decoded); d != "" {
			t.Fatalf("encoded and decoded: %s", d)
		}
		fuzzRecords(t, b, x, opts)
		if x.Tail != nil {
			if _, _, err := Join(*x.Tail, *x.Tail); err == nil {
				t.Fatal("a record was joined of two beginnings")
			}
		}
	})
}

// fuzzRecords asks for the records of the same bytes: as far as their insides are
// right, the rest is found as without.
func fuzzRecords(t *testing.T, b []byte, x Index, opts Options) {
	at := x.From
	opts.Records = func(r *Record) {
		if r.LSN < at || r.EndLSN <= r.LSN || len(r.Blocks) > idMaxBlock+1 {
			t.Fatalf("%+v after %s", r, at)
		}
		at = r.EndLSN
	}
	s, err := NewScanner(opts)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = s.Write(b)
	y, err := s.Finish()
	if y.To > x.To || err == nil && cmp.Diff(x, y) != "" {
		t.Fatalf("with records: %s, %v", cmp.Diff(x, y), err)
	}
	if _, tail := s.Ends(); tail != nil {
		if _, err := JoinRecord(*tail, *tail); err == nil {
			t.Fatal("a record was joined of two beginnings")
		}
	}
}

// FuzzDecodeIndex: what can be decoded is encoded to what decodes to the same.
func FuzzDecodeIndex(f *testing.F) {
	for _, major := range []int{14, 18} {
		b := smallWAL(major)
		s, err := NewScanner(Options{})
		if err != nil {
			f.Fatal(err)
		}
		_, _ = s.Write(b)
		x, err := s.Finish()
		if err != nil || len(x.Events) == 0 {
			f.Fatal(len(x.Events), err)
		}
		f.Add(EncodeIndex(x))
		x.Head = &Fragment{Major: major, Start: x.From + 40, End: x.From + 64, Length: 20, Sum: 99, Data: []byte("some bytes")}
		x.Tail = &Fragment{Major: major, Start: x.To, End: x.To + 64, Length: 20, More: 9, Sum: 99, Data: []byte("some bytes")}
		f.Add(EncodeIndex(x))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := DecodeIndex(b)
		if err != nil {
			if !errors.Is(err, ErrIndex) {
				t.Fatal(err)
			}
			return
		}
		enc := EncodeIndex(x)
		if len(enc) > len(b) {
			t.Fatalf("%d bytes became %d", len(b), len(enc))
		}
		y, err := DecodeIndex(enc)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(x, y); d != "" {
			t.Fatal(d)
		}
		if !bytes.Equal(enc, EncodeIndex(y)) {
			t.Fatal("encoding is not stable")
		}
		if x.Tail != nil && x.Head != nil {
			_, _, _ = Join(*x.Tail, *x.Head)
		}
	})
}

// FuzzDecodeRecord takes any bytes for the beginning of a record of any kind.
func FuzzDecodeRecord(f *testing.F) {
	b := smallWAL(18)
	for off := LongHeaderSize; off < LongHeaderSize+400; off += 8 {
		f.Add(b[off:off+300], 18)
	}
	w := newWriter(18, 8192, 1<<20, 1<<20)
	f.Add(w.record(rmgrTablespace, 0, 5, nil, nil, tablespaceBytes(16385, "/mnt/fast")), 18)
	f.Add(w.record(rmgrTablespace, 0, 5, nil, nil, []byte{1, 2, 3, 4, '/'}), 18)
	ref := blockHeader(18, BlockRef{HasImage: true, Block: 9}, false, 3, 30, true)
	f.Add(w.record(10, 0x40, 5, append(ref, blockHeader(18, BlockRef{ID: 1}, true, 0, 0, false)...), make([]byte, 33), []byte{1, 2, 3}), 18)
	drops := appendLocator(appendNumbers(timeBytes(testTime), xinfoRels|xinfoSubxacts, 1, 7, 1), RelFileLocator{1663, 5, 9})
	f.Add(w.record(rmgrXact, 0x81, 5, nil, nil, drops), 18)
	f.Add(w.record(rmgrDatabase, 0x21, 5, nil, nil, appendNumbers(nil, 5, 1, 1663)), 18)
	f.Add(w.record(rmgrStorage, 0x21, 5, nil, nil, appendNumbers(nil, 5, 1663, 5, 9, 7)), 18)
	f.Add(w.record(rmgrStorage, 0x11, 5, nil, nil, appendNumbers(nil, 1663, 5, 9, 0)), 18)
	f.Fuzz(func(t *testing.T, b []byte, major int) {
		for k := Commit; k <= TablespaceCreate; k++ {
			e := Event{Kind: k}
			switch err := decode(major, b, &e); {
			case err == nil && e.Kind != k:
				t.Fatalf("%s became %+v", k, e)
			case err != nil && !errors.Is(err, ErrRecord):
				t.Fatal(err)
			}
		}
		var r Record
		if err := decodeRecord(major, b, &r); err != nil && !errors.Is(err, ErrRecord) {
			t.Fatal(err)
		}
		if len(r.Dropped)*relFileLocatorSize > len(b) || len(r.Tablespaces)*4 > len(b) || r.Change > lastChange {
			t.Fatalf("%d bytes became %+v", len(b), r)
		}
	})
}
