package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/salvor-dr/salvor/internal/repo/chunk"
)

// random gives bytes that do not compress.
func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// Both users of the parts see all bytes, in order, in slices of the right size, and
// no part is read anew while one of them has it.
func TestParts(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, chunk.MaxPlain, chunk.MaxPlain + 1, 20*chunk.MaxPlain - 3} {
		data := random(size)
		p := newParts()
		var here, there []byte
		var g errgroup.Group
		g.Go(func() error {
			defer close(p.read)
			return p.each(t.Context(), bytes.NewReader(data), int64(size), func(b []byte) { here = append(here, b...) })
		})
		g.Go(func() error {
			for s := range p.read {
				if left := size - len(there); len(s.data) != min(left, chunk.MaxPlain) {
					t.Errorf("a part of %d bytes where %d are left", len(s.data), left)
				}
				there = append(there, s.data...)
				p.release(s)
			}
			return nil
		})
		if err := g.Wait(); err != nil || !bytes.Equal(here, data) || !bytes.Equal(there, data) {
			t.Errorf("of %d bytes: %d and %d, %v", size, len(here), len(there), err)
		}
	}
}

// Whoever reads stops when the other has, and says when the file ends too early.
func TestPartsEnd(t *testing.T) {
	t.Parallel()
	data := random(10 * chunk.MaxPlain)
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	p := newParts()
	seen := 0
	err := p.each(ctx, bytes.NewReader(data), int64(len(data)), func([]byte) {
		if seen++; seen == partsInMemory { // nobody releases
			cancel(stopped)
		}
	})
	if !errors.Is(err, stopped) || seen != partsInMemory {
		t.Errorf("after %d parts: %v", seen, err)
	}
	if err := newParts().each(t.Context(), bytes.NewReader(data[:5]), 6, func([]byte) {}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that is too short: %v", err)
	}
}

// What does not come back as it was is found, whichever way the codec is wrong.
func TestDecodeCheck(t *testing.T) {
	t.Parallel()
	plain := bytes.Repeat([]byte("write-ahead log "), chunk.MaxPlain/16)
	for _, codec := range []chunk.Codec{chunk.S2, chunk.Zstd} {
		enc, err := chunk.NewFastEncoder(codec)
		if err != nil {
			t.Fatal(err)
		}
		used, data := enc.Encode(plain)
		other := bytes.Clone(plain)
		other[len(other)-1] ^= 1
		var c decodeCheck
		for what, try := range map[string]struct {
			data, plain []byte
			want        error
		}{
			"right":       {data, plain, nil},
			"other bytes": {data, other, ErrCodec},
			"fewer bytes": {data, plain[1:], ErrCodec},
			"cut short":   {data[:len(data)-1], plain, ErrCodec},
		} {
			if err := c.check(used, try.data, try.plain); !errors.Is(err, try.want) {
				t.Errorf("%v, %s: %v", codec, what, err)
			}
		}
	}
}

// The first part is always checked, and of the others about as many as is said.
func TestDecodeCheckSample(t *testing.T) {
	t.Parallel()
	good, bad := []byte("good"), []byte("bad!")
	const rounds = 4000
	found := 0
	for range rounds {
		var c decodeCheck
		if err := c.sample(chunk.None, good, bad); err != nil {
			t.Fatal("what was not compressed was checked", err)
		}
		if err := c.sample(chunk.S2, good, bad); err == nil {
			t.Fatal("the first part was not checked")
		}
		if c.sample(chunk.S2, good, bad) != nil {
			found++
		}
	}
	if found < rounds/checkOneIn/2 || found > 2*rounds/checkOneIn {
		t.Errorf("%d of %d second parts were checked", found, rounds)
	}
}
