package walrec

import (
	"encoding/hex"
	"errors"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/pg"
)

func exampleIndex() Index {
	h := SegmentHeader{
		PageHeader:  PageHeader{Magic: 0xD118, Major: 18, Info: 3, Timeline: 2, PageAddr: 0x5000000, RemLen: 20},
		SystemID:    testSystem,
		SegmentSize: 16 << 20,
		BlockSize:   8192,
	}
	at := pg.LSN(0x5000040)
	return Index{
		Header: h, Timeline: 3, From: 0x5000000, To: 0x6000000, Ending: EndsBySwitch,
		Head: &Fragment{Major: 18, Start: 0x5000028, End: 0x5000040, Length: 20, Sum: 0x01020304, Data: []byte("head")},
		Tail: &Fragment{Major: 18, Start: 0x5FFFFF0, End: 0x6000000, Length: 16, More: 18, Sum: 0xA0B0C0D0, Data: []byte("tail")},
		Events: []Event{
			{Kind: Commit, XID: 750, Time: testTime, LSN: at, EndLSN: at + 40},
			{Kind: Abort, XID: 749, Time: testTime.Add(-time.Millisecond), LSN: at + 100*8, EndLSN: at + 105*8},
			{Kind: CommitPrepared, XID: 1 << 31, Time: testTime, LSN: at + 110*8, EndLSN: at + 200*8},
			{Kind: AbortPrepared, XID: 3, Time: testTime, LSN: at + 200*8, EndLSN: at + 230*8},
			{Kind: RestorePoint, Name: "before", Time: testTime, LSN: at + 230*8, EndLSN: at + 244*8},
			{Kind: CheckpointOnline, Time: testTime.Truncate(time.Second), Redo: at, Timeline: 2, PrevTimeline: 2,
				WALLevel: LevelReplica, LSN: at + 300*8, EndLSN: at + 315*8},
			{Kind: EndOfRecovery, Time: testTime, Timeline: 3, PrevTimeline: 2, WALLevel: LevelLogical, LSN: at + 400*8, EndLSN: at + 406*8},
			{Kind: ParameterChange, WALLevel: LevelMinimal, LSN: at + 500*8, EndLSN: at + 507*8},
			{Kind: Overwrite, Time: testTime, Overwritten: 0x4FFFFF0, LSN: at + 600*8, EndLSN: at + 606*8},
			{Kind: CheckpointShutdown, Time: testTime.Truncate(time.Second), Redo: at + 700*8, Timeline: 3, PrevTimeline: 3,
				LSN: at + 700*8, EndLSN: at + 715*8},
			{Kind: TablespaceCreate, Tablespace: 16385, Location: "/mnt/fast", Prev: at + 700*8, LSN: at + 715*8, EndLSN: at + 720*8},
			{Kind: TablespaceCreate, Tablespace: 1 << 31, Prev: at + 715*8, LSN: at + 720*8, EndLSN: at + 725*8},
			{Kind: Switch, LSN: at + 725*8, EndLSN: 0x6000000},
		},
	}
}

// TestIndexFormat holds version 1 fast, byte for byte, as doc.go specifies it.
func TestIndexFormat(t *testing.T) {
	const want = "" +
		"0102" + "18d10300" + "180d" + "c0bae4e827325365" + "02" + "03" + "14" + "80808028" + "80808028" + "80808008" +
		"01" + "28" + "18" + "14" + "00" + "04030201" + "04" + "68656164" +
		"01" + "f0ffff07" + "10" + "10" + "12" + "d0c0b0a0" + "04" + "7461696c" +
		"0d"
	b := EncodeIndex(exampleIndex())
	if got := hex.EncodeToString(b); !strings.HasPrefix(got, want) {
		t.Errorf("encoded to\n%s, want a beginning\n%s", got, want)
	}
	x, err := DecodeIndex(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(exampleIndex(), x); d != "" {
		t.Error(d)
	}
	if got := len(AppendIndex([]byte("before"), x)); got != len(b)+6 {
		t.Errorf("appended %d bytes, want %d", got-6, len(b))
	}
}

// TestEventFormat holds the form of each kind, byte for byte.
func TestEventFormat(t *testing.T) {
	s := state{end: 0x5000040, xid: 750, time: toMicros(testTime)}
	at := pg.LSN(0x5000040)
	for _, tt := range []struct {
		e    Event
		want string
	}{
		{Event{Kind: Commit, XID: 751, Time: testTime.Add(300 * time.Microsecond), LSN: at, EndLSN: at + 40}, "51" + "00" + "d804" + "02"},
		{Event{Kind: Abort, XID: 749, Time: testTime.Add(299 * time.Microsecond), LSN: at + 80, EndLSN: at + 240}, "f2" + "14" + "05" + "01" + "03"},
		{Event{Kind: RestorePoint, Name: "x", Time: testTime.Add(299 * time.Microsecond), LSN: at + 240, EndLSN: at + 352}, "e5" + "00" + "00" + "0178"},
		{Event{Kind: CheckpointShutdown, Time: testTime.Add(299 * time.Microsecond), LSN: at + 352, EndLSN: at + 472,
			Redo: at + 352, Timeline: 3, PrevTimeline: 300, WALLevel: LevelReplica}, "f7" + "0f" + "00" + "00" + "00" + "03" + "ac02" + "02"},
		{Event{Kind: ParameterChange, WALLevel: LevelLogical, LSN: at + 472, EndLSN: at + 480}, "19" + "00" + "03"},
		{Event{Kind: Switch, LSN: at + 480, EndLSN: at + 504}, "3a" + "00"},
		{Event{Kind: Overwrite, Overwritten: at, Time: testTime.Add(299 * time.Microsecond), LSN: at + 504, EndLSN: at + 512}, "1b" + "00" + "00" + "f007"},
		{Event{Kind: TablespaceCreate, Tablespace: 16385, Location: "/m", Prev: at + 440, LSN: at + 512, EndLSN: at + 552}, "5c" + "00" + "818001" + "9001" + "02" + "2f6d"},
	} {
		before := s
		b := s.append(nil, &tt.e)
		if got := hex.EncodeToString(b); got != tt.want {
			t.Errorf("%s is %s, want %s", tt.e.Kind, got, tt.want)
		}
		r := indexReader{b: b}
		if got := before.read(&r); got != tt.e || r.err != nil || len(r.b) != 0 {
			t.Errorf("%s became %+v, %v", tt.e.Kind, got, r.err)
		}
	}
}

func TestDecodeIndexRefuses(t *testing.T) {
	good := EncodeIndex(exampleIndex())
	with := func(at int, v byte) []byte {
		b := append([]byte(nil), good...)
		b[at] = v
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"another version": with(0, 2),
		"unknown ending":  with(1, 9),
		"unknown magic":   with(2, 0),
		"segment size":    with(6, 35),
		"block size":      with(7, 5),
		"bytes after it":  append(append([]byte(nil), good...), 0),
	} {
		if _, err := DecodeIndex(b); !errors.Is(err, ErrIndex) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n := range good {
		if _, err := DecodeIndex(good[:n]); !errors.Is(err, ErrIndex) {
			t.Errorf("cut to %d of %d bytes: %v", n, len(good), err)
		}
	}
}

func TestTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		us := rapid.Int64().Draw(t, "microseconds")
		if got := toMicros(fromMicros(us)); got != us {
			t.Fatalf("%d became %d", us, got)
		}
		sec := unixTime(rapid.Int64().Draw(t, "seconds"))
		if got := fromMicros(toMicros(sec)); !got.Equal(sec) {
			t.Fatalf("%s became %s", sec, got)
		}
	})
	if got := fromMicros(0); !got.Equal(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("the epoch is %s", got)
	}
}

func TestSums(t *testing.T) {
	tab := crc32.MakeTable(crc32.Castagnoli)
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		n := rapid.IntRange(0, len(b)).Draw(t, "split")
		a, c, all := crc32.Checksum(b[:n], tab), crc32.Checksum(b[n:], tab), crc32.Checksum(b, tab)
		if got := joinSums(a, c, uint64(len(b)-n)); got != all {
			t.Fatalf("joined to %08x, want %08x", got, all)
		}
		if got := cutSum(all, a, uint64(len(b)-n)); got != c {
			t.Fatalf("cut to %08x, want %08x", got, c)
		}
	})
}
