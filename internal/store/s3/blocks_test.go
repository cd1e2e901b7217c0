package s3

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func newPool() *sync.Pool { return &sync.Pool{New: func() any { return new(block) }} }

func TestBuffer(t *testing.T) {
	t.Parallel()
	pool := newPool()
	rapid.Check(t, func(t *rapid.T) {
		b := &buffer{pool: pool}
		max := rapid.IntRange(1, 3*len(block{})).Draw(t, "max")
		var want []byte
		for range rapid.IntRange(0, 5).Draw(t, "writes") {
			p := bytes.Repeat([]byte{byte(len(want))}, rapid.IntRange(0, len(block{})*3/2).Draw(t, "bytes"))
			n := b.write(p, max)
			if n != min(len(p), max-len(want)) {
				t.Fatalf("%d of %d bytes were taken, with %d of %d there", n, len(p), len(want), max)
			}
			want = append(want, p[:n]...)
		}
		if b.size != len(want) {
			t.Fatalf("it has %d bytes, want %d", b.size, len(want))
		}
		r := b.reader()
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came back of %d, %v", len(got), len(want), err)
		}
		at := rapid.IntRange(0, len(want)).Draw(t, "at")
		if n, err := r.Seek(int64(at-len(want)), io.SeekEnd); n != int64(at) || err != nil {
			t.Fatalf("Seek to %d: %d, %v", at, n, err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want[at:]) {
			t.Fatalf("from %d: %d bytes of %d, %v", at, len(got), len(want), err)
		}
		b.free()
	})
}

func TestBufferReader(t *testing.T) {
	t.Parallel()
	b := &buffer{pool: newPool()}
	data := bytes.Repeat([]byte("0123456789"), 60_000)
	b.write(data, 1<<20)
	if err := iotest.TestReader(b.reader(), data); err != nil {
		t.Error(err)
	}
	r := b.reader()
	if _, err := r.Seek(1, io.SeekEnd); err == nil {
		t.Error("a place behind the end was accepted")
	}
	r.revoke()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, errRevoked) {
		t.Errorf("a reader that was revoked: %v", err)
	}
}

// The checksums are those of the specifications' own examples.
func TestSums(t *testing.T) {
	t.Parallel()
	b := &buffer{pool: newPool()}
	b.write([]byte("123456789"), 1<<20)
	if got := *b.sums(CRC32C).crc32c; got != "4waSgw==" { // E3069283, the check value of CRC-32C
		t.Errorf("CRC32C is %s", got)
	}
	if got := *b.sums(MD5).md5; got != "JfnnlDI7RTiF9RgfG2JNCw==" {
		t.Errorf("MD5 is %s", got)
	}
	if s := b.sums(NoChecksum); s.crc32c != nil || s.md5 != nil {
		t.Errorf("none is %+v", s)
	}
}
