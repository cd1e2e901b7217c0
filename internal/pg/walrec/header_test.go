package walrec

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg"
)

func TestParseSegmentHeader(t *testing.T) {
	page := func(change func(b []byte)) []byte {
		w := newWriter(17, 16384, 64<<20, 3*64<<20)
		w.timeline = 5
		w.header(flagContinued, 77)
		change(w.out)
		return w.out
	}
	le := binary.LittleEndian
	h, err := ParseSegmentHeader(page(func([]byte) {}))
	want := SegmentHeader{
		PageHeader:  PageHeader{Magic: 0xD116, Major: 17, Info: 3, Timeline: 5, PageAddr: 0xC000000, RemLen: 77},
		SystemID:    testSystem,
		SegmentSize: 64 << 20,
		BlockSize:   16384,
	}
	if err != nil || h != want || !h.Continued() || !h.Long() || h.Overwritten() {
		t.Errorf("%+v, %v", h, err)
	}
	for name, change := range map[string]func(b []byte){
		"magic":          func(b []byte) { le.PutUint16(b, 0xD10C) },
		"byte order":     func(b []byte) { b[0], b[1] = b[1], b[0] },
		"flags":          func(b []byte) { b[2] |= 0x10 },
		"short header":   func(b []byte) { b[2] &^= flagLong },
		"no timeline":    func(b []byte) { le.PutUint32(b[4:], 0) },
		"inside segment": func(b []byte) { le.PutUint64(b[8:], 0xC000000+16384) },
		"segment size":   func(b []byte) { le.PutUint32(b[32:], 3<<20) },
		"no block size":  func(b []byte) { le.PutUint32(b[36:], 0) },
		"block size":     func(b []byte) { le.PutUint32(b[36:], 8191) },
	} {
		if _, err := ParseSegmentHeader(page(change)); !errors.Is(err, ErrPageHeader) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range LongHeaderSize {
		if _, err := ParseSegmentHeader(page(func([]byte) {})[:n]); !errors.Is(err, ErrPageHeader) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestHeaderCheck(t *testing.T) {
	w := newWriter(17, 8192, 16<<20, 3*16<<20)
	w.timeline = 5
	w.header(0, 0)
	h, err := ParseSegmentHeader(w.out)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		seg    pg.Segment
		system pg.SystemID
		ok     bool
	}{
		{"itself", pg.Segment{Timeline: 5, Number: 3}, testSystem, true},
		{"any system", pg.Segment{Timeline: 5, Number: 3}, 0, true},
		{"copy on a later timeline", pg.Segment{Timeline: 6, Number: 3}, testSystem, true},
		{"earlier timeline", pg.Segment{Timeline: 4, Number: 3}, testSystem, false},
		{"another number", pg.Segment{Timeline: 5, Number: 4}, testSystem, false},
		{"another system", pg.Segment{Timeline: 5, Number: 3}, testSystem + 1, false},
	} {
		if err := h.Check(tt.seg, tt.system); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrForeignSegment) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
