package seal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// keyring is a Keyring of fixed keys.
type keyring struct {
	current repo.ID
	keys    map[repo.ID][32]byte
}

func (k keyring) Current() (repo.ID, [32]byte) { return k.current, k.keys[k.current] }
func (k keyring) Lookup(id repo.ID) (key [32]byte, ok bool) {
	key, ok = k.keys[id]
	return key, ok
}

func ringOf(ids ...byte) Keyring {
	k := keyring{keys: map[repo.ID][32]byte{}}
	for _, i := range ids {
		k.current = repo.ID{i}
		k.keys[k.current] = [32]byte{i, 1}
	}
	return k
}

// rings are the two ways a repository is sealed.
func rings() map[string]Keyring { return map[string]Keyring{"encrypted": ringOf(1), "plain": nil} }

func eachRing(t *testing.T, test func(t *testing.T, ring Keyring)) {
	for _, name := range slices.Sorted(maps.Keys(rings())) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, rings()[name])
		})
	}
}

const object = "clusters/test/packs/one"

// fixed is a repository's objects in memory, with a way at the raw bytes.
type fixed struct {
	*Objects
	mem *mem.Store
}

func newFixed(ring Keyring) fixed {
	m := mem.New(mem.Options{})
	return fixed{New(m, ring), m}
}

func (f fixed) raw(t testing.TB, name string) []byte {
	t.Helper()
	b, err := store.Get(t.Context(), f.mem, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (f fixed) put(t testing.TB, name string, raw []byte) {
	t.Helper()
	if _, err := store.Put(t.Context(), f.mem, name, raw, store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// frames are what write stores: all but the last by Frame.
func (f fixed) write(t testing.TB, name string, kind Kind, frames ...[]byte) []repo.Ref {
	t.Helper()
	w, err := f.Create(t.Context(), repo.NewID(), name, kind)
	if err != nil {
		t.Fatal(err)
	}
	var refs []repo.Ref
	for _, p := range frames[:len(frames)-1] {
		ref, err := w.Frame(chunk.S2, p, len(p)+7)
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	last := frames[len(frames)-1]
	if err := w.Commit(chunk.None, last, len(last)); err != nil {
		t.Fatal(err)
	}
	return refs
}

// readAll reads an object in every way there is, and gives its payloads.
func readAll(o *Objects, name string, kind Kind) ([][]byte, error) {
	ctx := context.Background()
	s, err := o.Stream(ctx, name, kind)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var out [][]byte
	for {
		f, err := s.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, bytes.Clone(f.Payload))
	}
}

func readLast(o *Objects, name string, kind Kind) ([]byte, error) {
	ctx := context.Background()
	op, err := o.Open(ctx, name, kind)
	if err != nil {
		return nil, err
	}
	obj, err := o.Store().Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	_, payload, _, err := op.Last(ctx, obj.Size)
	return payload, err
}

func readFrames(o *Objects, name string, kind Kind, refs []repo.Ref) ([][]byte, error) {
	ctx := context.Background()
	op, err := o.Open(ctx, name, kind)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, r := range refs {
		b := make([]byte, r.Stored)
		if err := op.ReadAt(ctx, r.Offset, b); err != nil {
			return nil, err
		}
		_, payload, err := op.Frame(b, r)
		if err != nil {
			return nil, err
		}
		out = append(out, payload)
	}
	return out, nil
}

// wantDamage is what every reader of changed bytes must give: damage that names
// the object.
func wantDamage(t testing.TB, what string, err error) {
	t.Helper()
	var d *repo.Damage
	if !errors.Is(err, repo.ErrDamaged) || !errors.As(err, &d) || d.Object != object {
		t.Fatalf("%s: got %v, want damage of %s", what, err, object)
	}
}

func TestRoundTrip(t *testing.T) {
	eachRing(t, func(t *testing.T, ring Keyring) {
		rapid.Check(t, func(rt *rapid.T) {
			f := newFixed(ring)
			payloads := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 1, 6).Draw(rt, "payloads")
			refs := f.write(t, object, Pack, payloads...)
			got, err := readAll(f.Objects, object, Pack)
			if d := cmp.Diff(payloads, got, equalEmpty); err != nil || d != "" {
				rt.Fatalf("stream: %v\n%s", err, d)
			}
			last, err := readLast(f.Objects, object, Pack)
			if err != nil || !bytes.Equal(last, payloads[len(payloads)-1]) {
				rt.Fatalf("last frame: %q, %v", last, err)
			}
			got, err = readFrames(f.Objects, object, Pack, refs)
			if d := cmp.Diff(payloads[:len(payloads)-1], got, equalEmpty); err != nil || d != "" {
				rt.Fatalf("frames: %v\n%s", err, d)
			}
		})
	})
}

var equalEmpty = cmpopts.EquateEmpty()

// Every byte of an object counts: each flipped is damage, for every reader that
// reads it, and no reader gives other bytes than were written.
func TestEveryByteFlipped(t *testing.T) {
	eachRing(t, func(t *testing.T, ring Keyring) {
		f := newFixed(ring)
		payloads := [][]byte{[]byte("the first chunk"), {}, []byte("the last")}
		refs := f.write(t, object, Pack, payloads...)
		raw := f.raw(t, object)
		for i := range raw {
			for _, bit := range []byte{1, 0x80} {
				bad := bytes.Clone(raw)
				bad[i] ^= bit
				f.put(t, object, bad)
				_, err := readAll(f.Objects, object, Pack)
				wantDamage(t, fmt.Sprintf("byte %d", i), err)

				if last, err := readLast(f.Objects, object, Pack); err == nil {
					if !bytes.Equal(last, payloads[2]) {
						t.Fatalf("byte %d: the last frame became %q", i, last)
					}
				} else {
					wantDamage(t, fmt.Sprintf("byte %d, last frame", i), err)
				}
				if got, err := readFrames(f.Objects, object, Pack, refs); err == nil {
					if d := cmp.Diff(payloads[:2], got, equalEmpty); d != "" {
						t.Fatalf("byte %d: %s", i, d)
					}
				} else {
					wantDamage(t, fmt.Sprintf("byte %d, frames", i), err)
				}
			}
		}
	})
}

func TestEveryTruncation(t *testing.T) {
	eachRing(t, func(t *testing.T, ring Keyring) {
		f := newFixed(ring)
		refs := f.write(t, object, Pack, []byte("the first chunk"), bytes.Repeat([]byte("x"), 100), []byte("last"))
		raw := f.raw(t, object)
		whole := int64(len(raw))
		for n := range raw {
			f.put(t, object, raw[:n])
			_, err := readAll(f.Objects, object, Pack)
			wantDamage(t, fmt.Sprintf("cut to %d", n), err)
			_, err = readLast(f.Objects, object, Pack)
			wantDamage(t, fmt.Sprintf("cut to %d, last frame", n), err)
			if end := refs[1].End(); uint64(n) < end {
				_, err = readFrames(f.Objects, object, Pack, refs)
				wantDamage(t, fmt.Sprintf("cut to %d, frames", n), err)
			}
			if op, err := f.Open(t.Context(), object, Pack); err == nil {
				_, _, _, err = op.Last(t.Context(), whole) // with the size it should have
				wantDamage(t, fmt.Sprintf("cut to %d, last frame by its old size", n), err)
			}
		}
		f.put(t, object, append(bytes.Clone(raw), 0))
		_, err := readAll(f.Objects, object, Pack)
		wantDamage(t, "one byte more", err)
		_, err = readLast(f.Objects, object, Pack)
		wantDamage(t, "one byte more, last frame", err)
	})
}

// A connection that broke off is no damage: the object is whole.
func TestBrokenConnection(t *testing.T) {
	for _, keep := range []int{0, 5} {
		m := mem.New(mem.Options{Hook: func(_ context.Context, c *mem.Call) error {
			if c.Op == mem.OpRead {
				c.Len = keep
				return fmt.Errorf("connection reset: %w", io.ErrUnexpectedEOF)
			}
			return nil
		}})
		o := New(m, ringOf(1))
		if err := o.Put(t.Context(), object, Head, []byte("content")); err != nil {
			t.Fatal(err)
		}
		_, streamed := o.Get(t.Context(), object, Head)
		_, opened := o.Open(t.Context(), object, Head)
		for _, err := range []error{streamed, opened} {
			if errors.Is(err, repo.ErrDamaged) || !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("after %d bytes: %v", keep, err)
			}
		}
	}
}

// Frames that change places, in one object or between two, do not open.
func TestFramesMoved(t *testing.T) {
	eachRing(t, func(t *testing.T, ring Keyring) {
		f := newFixed(ring)
		refs := f.write(t, object, Pack, []byte("chunk A"), []byte("chunk B"), []byte("last"))
		other := "clusters/test/packs/two"
		f.write(t, other, Pack, []byte("chunk C"), []byte("chunk D"), []byte("last"))
		raw, from := f.raw(t, object), f.raw(t, other)
		a, b := raw[refs[0].Offset:refs[0].End()], raw[refs[1].Offset:refs[1].End()]

		swapped := slices.Concat(raw[:HeaderSize], b, a, raw[refs[1].End():])
		f.put(t, object, swapped)
		_, err := readAll(f.Objects, object, Pack)
		wantDamage(t, "two frames swapped", err)
		_, err = readFrames(f.Objects, object, Pack, refs)
		wantDamage(t, "two frames swapped, by reference", err)

		// With their ordinals put right the tags still tell.
		binary.LittleEndian.PutUint32(swapped[HeaderSize:], 0)
		binary.LittleEndian.PutUint32(swapped[HeaderSize+len(b):], 1)
		f.put(t, object, swapped)
		_, err = readAll(f.Objects, object, Pack)
		wantDamage(t, "two frames swapped and renumbered", err)

		f.put(t, object, slices.Concat(raw[:HeaderSize], from[refs[0].Offset:refs[0].End()], raw[refs[0].End():]))
		_, err = readAll(f.Objects, object, Pack)
		wantDamage(t, "a frame of another object", err)

		f.put(t, object, slices.Concat(raw[:HeaderSize], a, a, b, raw[refs[1].End():]))
		_, err = readAll(f.Objects, object, Pack)
		wantDamage(t, "a frame doubled", err)

		f.put(t, object, slices.Concat(raw[:refs[0].Offset], raw[refs[0].End():]))
		_, err = readAll(f.Objects, object, Pack)
		wantDamage(t, "a frame left out", err)
	})
}

func TestRenamed(t *testing.T) {
	eachRing(t, func(t *testing.T, ring Keyring) {
		f := newFixed(ring)
		f.write(t, "clusters/test/packs/two", Pack, []byte("chunk"), []byte("last"))
		f.put(t, object, f.raw(t, "clusters/test/packs/two"))
		_, err := readAll(f.Objects, object, Pack)
		wantDamage(t, "an object under another's name", err)
	})
}

// header gives the bytes of a header with a right checksum, after change.
func rewritten(raw []byte, change func(h []byte)) []byte {
	raw = bytes.Clone(raw)
	change(raw[:HeaderSize])
	binary.LittleEndian.PutUint32(raw[checksumAt:], crc32.Checksum(raw[:checksumAt], castagnoli))
	return raw
}

// A header that somebody changed with care for its checksum is seen all the same.
func TestHeaderFields(t *testing.T) {
	eachRing(t, func(t *testing.T, ring Keyring) {
		f := newFixed(ring)
		f.write(t, object, Pack, []byte("chunk"), []byte("last"))
		raw := f.raw(t, object)
		for i := range checksumAt {
			f.put(t, object, rewritten(raw, func(h []byte) { h[i] ^= 1 }))
			_, err := readAll(f.Objects, object, Pack)
			switch {
			case i >= 8 && i < 10, i >= 12 && i < 16:
				if !errors.Is(err, repo.ErrUnknownFormat) || !strings.Contains(err.Error(), object) {
					t.Errorf("version or size, byte %d: %v", i, err)
				}
			case ring != nil && i >= 32 && i < 48:
				if !errors.Is(err, repo.ErrWrongKey) || !strings.Contains(err.Error(), object) {
					t.Errorf("master key, byte %d: %v", i, err)
				}
			case ring == nil && i >= 48: // not used without encryption
			default:
				wantDamage(t, fmt.Sprintf("byte %d", i), err)
			}
		}
		f.put(t, object, raw)
		_, err := f.Open(t.Context(), object, Head)
		wantDamage(t, "read as another kind", err)
	})
}

// A codec of a later release is no damage.
func TestUnknownCodec(t *testing.T) {
	eachRing(t, func(t *testing.T, ring Keyring) {
		f := newFixed(ring)
		w, err := f.Create(t.Context(), repo.NewID(), object, Pack)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(9, []byte("later"), 5); err != nil {
			t.Fatal(err)
		}
		_, streamed := readAll(f.Objects, object, Pack)
		_, last := readLast(f.Objects, object, Pack)
		for _, err := range []error{streamed, last} {
			if !errors.Is(err, repo.ErrUnknownFormat) || errors.Is(err, repo.ErrDamaged) || !strings.Contains(err.Error(), "codec 9") {
				t.Error(err)
			}
		}
	})
}

func TestKeyrings(t *testing.T) {
	f := newFixed(ringOf(1))
	f.write(t, object, Pack, []byte("chunk"), []byte("last"))
	old, sealed := f.mem, f.raw(t, object)

	if _, err := readAll(New(old, ringOf(1, 2)), object, Pack); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
	if _, err := readAll(New(old, ringOf(2)), object, Pack); !errors.Is(err, repo.ErrWrongKey) {
		t.Errorf("with another key: %v", err)
	}
	forged := keyring{repo.ID{1}, map[repo.ID][32]byte{{1}: {9}}}
	_, err := readAll(New(old, forged), object, Pack)
	wantDamage(t, "another key of the same identity", err)
	_, err = readAll(New(old, nil), object, Pack)
	wantDamage(t, "an encrypted object in a plain repository", err)

	p := newFixed(nil)
	p.write(t, object, Pack, []byte("chunk"), []byte("last"))
	_, err = readAll(New(p.mem, ringOf(1)), object, Pack)
	wantDamage(t, "a plain object in an encrypted repository", err)

	// Nor does one pass that names the cipher, or that drops it.
	p.put(t, object, rewritten(p.raw(t, object), func(h []byte) { h[11] = sealAESGCM; h[32] = 1 }))
	_, err = readAll(New(p.mem, ringOf(1)), object, Pack)
	wantDamage(t, "a plain object that claims to be encrypted", err)
	f.put(t, object, rewritten(sealed, func(h []byte) { h[11] = sealNone }))
	_, err = readAll(New(old, nil), object, Pack)
	wantDamage(t, "an encrypted object that claims to be plain", err)
}

// Nothing of the content shows in an encrypted object, and the same content is
// never the same bytes.
func TestEncrypted(t *testing.T) {
	f := newFixed(ringOf(1))
	secret := bytes.Repeat([]byte("a secret of 24 characters"), 10)
	seen := map[string]int{}
	for _, name := range []string{"a", "b"} {
		refs := f.write(t, name, Pack, secret, secret, secret)
		raw := f.raw(t, name)
		if bytes.Contains(raw, secret[:8]) {
			t.Error("plain text shows")
		}
		for _, r := range refs {
			sealed := raw[r.Offset+frameHeaderSize : r.End()]
			for i := range len(sealed) - 15 {
				seen[string(sealed[i:i+16])]++
			}
		}
	}
	for block, n := range seen {
		if n > 1 {
			t.Fatalf("%d times the same 16 bytes %x: a key and nonce were used twice", n, block)
		}
	}
}

func TestPutGet(t *testing.T) {
	eachRing(t, func(t *testing.T, ring Keyring) {
		f := newFixed(ring)
		ctx := t.Context()
		for _, n := range []int{0, 1, 1 << 20} {
			name := fmt.Sprintf("small/%d", n)
			want := bytes.Repeat([]byte{7}, n)
			if err := f.Put(ctx, name, Head, want); err != nil {
				t.Fatal(err)
			}
			got, err := f.Get(ctx, name, Head)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes: %d came back, %v", n, len(got), err)
			}
			if err := f.Put(ctx, name, Head, want); !errors.Is(err, store.ErrExists) {
				t.Errorf("writing again: %v", err)
			}
			if ok, err := f.Exists(ctx, name); !ok || err != nil {
				t.Errorf("Exists: %v, %v", ok, err)
			}
		}
		if _, err := f.Get(ctx, "absent", Head); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("absent: %v", err)
		}
		if _, err := f.Open(ctx, "absent", Head); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("absent: %v", err)
		}
		if ok, err := f.Exists(ctx, "absent"); ok || err != nil {
			t.Errorf("Exists: %v, %v", ok, err)
		}
		f.write(t, object, Head, []byte("one"), []byte("two"))
		_, err := f.Get(ctx, object, Head)
		wantDamage(t, "two frames where one should be", err)
	})
}

// The last frame is found also where it is longer than the first guess.
func TestLastSizes(t *testing.T) {
	eachRing(t, func(t *testing.T, ring Keyring) {
		const guess = 64 << 10
		for _, n := range []int{0, 1, guess - 49, guess - 48, guess - 47, guess, 3 * guess} {
			for _, before := range []int{0, 10, 2 * guess} {
				f := newFixed(ring)
				last := bytes.Repeat([]byte{1}, n)
				f.write(t, object, Pack, bytes.Repeat([]byte{2}, before), last)
				got, err := readLast(f.Objects, object, Pack)
				if err != nil || !bytes.Equal(got, last) {
					t.Errorf("%d bytes after %d: got %d, %v", n, before, len(got), err)
				}
			}
		}
	})
}

// A trailer is not sealed: whatever it says must not lead outside of the object.
func TestTrailerAnywhere(t *testing.T) {
	f := newFixed(ringOf(1))
	f.write(t, object, Pack, []byte("chunk"), bytes.Repeat([]byte("x"), 100<<10))
	raw := f.raw(t, object)
	right := binary.LittleEndian.Uint64(raw[len(raw)-16:])
	for _, at := range []uint64{0, 1, HeaderSize - 1, HeaderSize, right - 1, right + 1, uint64(len(raw)) - 48, uint64(len(raw)) - 47,
		uint64(len(raw)), 1 << 40, math.MaxInt64, math.MaxUint64 - 31, math.MaxUint64 - 10, math.MaxUint64} {
		bad := bytes.Clone(raw)
		binary.LittleEndian.PutUint64(bad[len(bad)-16:], at)
		f.put(t, object, bad)
		_, err := readLast(f.Objects, object, Pack)
		wantDamage(t, fmt.Sprintf("trailer points to %d", at), err)
		_, err = readAll(f.Objects, object, Pack)
		wantDamage(t, fmt.Sprintf("trailer points to %d, streamed", at), err)
	}
}

// A frame's length that was damaged must not cost memory.
func TestDamagedLength(t *testing.T) {
	f := newFixed(nil)
	f.write(t, object, Pack, []byte("chunk"), []byte("last"))
	raw := f.raw(t, object)
	binary.LittleEndian.PutUint32(raw[HeaderSize+4:], maxSealed)
	f.put(t, object, raw)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := readAll(f.Objects, object, Pack)
	runtime.ReadMemStats(&after)
	wantDamage(t, "a length that was damaged", err)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes were allocated for an object of %d", n, len(raw))
	}
}

func TestWriterLimits(t *testing.T) {
	f := newFixed(nil)
	w, err := f.Create(t.Context(), repo.NewID(), object, Pack)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Frame(chunk.None, make([]byte, maxSealed-tagSize+1), 1); err == nil {
		t.Error("a frame was written that no reader takes")
	}
	w.ordinal = math.MaxUint32
	if _, err := w.Frame(chunk.None, []byte("x"), 1); err == nil {
		t.Error("the nonces began again")
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	if ok, _ := f.Exists(t.Context(), object); ok {
		t.Error("an aborted object exists")
	}
}

// Whatever fails while an object is written, it does not come into being.
func TestWriterFaults(t *testing.T) {
	broken := errors.New("broken")
	for _, op := range []mem.Op{mem.OpCreate, mem.OpWrite, mem.OpCommit} {
		for nth := range 3 {
			count := 0
			m := mem.New(mem.Options{Hook: func(_ context.Context, c *mem.Call) error {
				if c.Op == op {
					if count++; count == nth+1 {
						return broken
					}
				}
				return nil
			}})
			err := New(m, ringOf(1)).Put(t.Context(), object, Head, []byte("content"))
			if count <= nth {
				continue // there is no such call
			}
			if !errors.Is(err, broken) || !strings.Contains(err.Error(), object) {
				t.Errorf("%s %d fails: %v", op, nth+1, err)
			}
			if _, err := m.Stat(t.Context(), object); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s %d fails, and the object exists: %v", op, nth+1, err)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	for name, ring := range rings() {
		x := newFixed(ring)
		x.write(f, object, Pack, []byte("a chunk"), []byte("the last"))
		f.Add(x.raw(f, object), name == "encrypted")
	}
	f.Fuzz(func(t *testing.T, raw []byte, encrypted bool) {
		x := newFixed(nil)
		if encrypted {
			x = newFixed(ringOf(1))
		}
		if len(raw) >= HeaderSize { // let it past the checksum
			raw = rewritten(raw, func([]byte) {})
		}
		x.put(t, object, raw)
		check := func(err error) {
			if err != nil && !errors.Is(err, repo.ErrDamaged) && !errors.Is(err, repo.ErrUnknownFormat) && !errors.Is(err, repo.ErrWrongKey) {
				t.Fatalf("an error of no kind: %v", err)
			}
		}
		_, err := readAll(x.Objects, object, Pack)
		check(err)
		_, err = readLast(x.Objects, object, Pack)
		check(err)
		_, err = readFrames(x.Objects, object, Pack, []repo.Ref{{Offset: HeaderSize, Stored: 39, Plain: 14}})
		check(err)
	})
}

func BenchmarkFrame(b *testing.B) {
	for name, ring := range rings() {
		b.Run(name, func(b *testing.B) {
			payload := make([]byte, 64<<10)
			w, err := newFixed(ring).Create(b.Context(), repo.NewID(), object, Pack)
			if err != nil {
				b.Fatal(err)
			}
			w.out = discard{}
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				if _, err := w.Frame(chunk.None, payload, len(payload)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// discard is a store.Writer that keeps nothing.
type discard struct{}

func (discard) Write(p []byte) (int, error)   { return len(p), nil }
func (discard) Commit() (store.Object, error) { return store.Object{}, nil }
func (discard) Abort() error                  { return nil }
