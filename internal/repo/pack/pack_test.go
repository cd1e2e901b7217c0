package pack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// ring is a Keyring of one key.
type ring struct{}

func (ring) Current() (repo.ID, [32]byte)       { return repo.ID{1}, [32]byte{1} }
func (ring) Lookup(id repo.ID) ([32]byte, bool) { return [32]byte{1}, id == repo.ID{1} }
func named(id repo.ID) string                   { return "packs/" + id.String() }
func objectsIn(st store.Store) *seal.Objects    { return seal.New(st, ring{}) }
func wantDamage(t testing.TB, what string, e error) {
	t.Helper()
	if !errors.Is(e, repo.ErrDamaged) || !strings.Contains(e.Error(), "packs/") {
		t.Fatalf("%s: got %v, want damage that names the pack", what, e)
	}
}

// piece is a chunk as it was given to Add.
type piece struct {
	plain []byte
	block int
	ref   repo.Ref
}

func newPiece(seed uint64, size, block int) piece {
	p := piece{plain: make([]byte, size), block: block}
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range p.plain {
		if seed%2 == 0 || i%64 == 0 { // every other piece compresses
			p.plain[i] = byte(r.Uint32())
		}
	}
	return p
}

func (p piece) hashes() []uint64 {
	var h []uint64
	for b := range slices.Chunk(p.plain, p.block) {
		h = append(h, chunk.BlockHash(b))
	}
	return h
}

func write(t testing.TB, st store.Store, codec chunk.Codec, size uint64, pieces []piece) []Info {
	t.Helper()
	w, err := NewWriter(objectsIn(st), named, codec, size)
	if err != nil {
		t.Fatal(err)
	}
	for i := range pieces {
		if pieces[i].ref, err = w.Add(t.Context(), pieces[i].plain, pieces[i].block, pieces[i].hashes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.Packs()
}

// What was added comes back, chunk by chunk, joined, and by Verify; and the list of
// packs says what is in the store.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		st := mem.New(mem.Options{})
		codec := rapid.SampledFrom([]chunk.Codec{chunk.None, chunk.Zstd, chunk.S2}).Draw(rt, "codec")
		size := rapid.SampledFrom([]uint64{1, 5000, 100_000, DefaultSize}).Draw(rt, "pack size")
		var pieces []piece
		for i := range rapid.IntRange(1, 12).Draw(rt, "chunks") {
			n := rapid.IntRange(1, 40_000).Draw(rt, "bytes")
			pieces = append(pieces, newPiece(uint64(i), n, rapid.SampledFrom([]int{512, 8192, chunk.SliceSize}).Draw(rt, "block")))
		}
		infos := write(t, st, codec, size, pieces)
		r := NewReader(objectsIn(st), named, infos)
		checkRead(rt, r, pieces)

		var total uint32
		for _, info := range infos {
			obj, err := st.Stat(t.Context(), named(info.ID))
			if err != nil || uint64(obj.Size) != info.Size {
				rt.Fatalf("pack %s has %d bytes, its info says %d: %v", info.ID, obj.Size, info.Size, err)
			}
			total += info.Chunks
			if err := r.Verify(t.Context(), info.ID, nil); err != nil {
				rt.Fatal(err)
			}
		}
		if int(total) != len(pieces) {
			rt.Fatalf("%d chunks listed of %d", total, len(pieces))
		}
		checkEntries(rt, r, infos, pieces)
	})
}

// checkRead reads the pieces in ranges as long as Join allows.
func checkRead(t rapid.TB, r *Reader, pieces []piece) {
	var s Scratch
	for i := 0; i < len(pieces); {
		refs := []repo.Ref{pieces[i].ref}
		for j := i + 1; j < len(pieces) && Join(refs[len(refs)-1], pieces[j].ref); j++ {
			refs = append(refs, pieces[j].ref)
		}
		seen := 0
		err := r.Read(context.Background(), refs, &s, func(k int, plain []byte) error {
			if k != seen || !bytes.Equal(plain, pieces[i+k].plain) {
				return fmt.Errorf("chunk %d of the range is not the one that was added", k)
			}
			seen++
			return nil
		})
		if err != nil || seen != len(refs) {
			t.Fatalf("reading %d chunks from %d: %d came, %v", len(refs), i, seen, err)
		}
		i += len(refs)
	}
}

func checkEntries(t rapid.TB, r *Reader, infos []Info, pieces []piece) {
	var got, want []Entry
	for _, info := range infos {
		e, err := r.Entries(context.Background(), info.ID)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e...)
	}
	for _, p := range pieces {
		want = append(want, Entry{p.ref, uint32(p.block), p.hashes()})
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

// Packs roll over by size and by number of chunks, and no chunk is in two.
func TestRollover(t *testing.T) {
	many := make([]piece, maxChunks+1)
	for i := range many {
		many[i] = newPiece(1, 16, 16)
	}
	if n := len(write(t, mem.New(mem.Options{}), chunk.None, DefaultSize, many)); n != 2 {
		t.Errorf("%d chunks made %d packs", len(many), n)
	}
	large := make([]piece, 9)
	for i := range large {
		large[i] = newPiece(0, 1000, 1000)
	}
	for size, packs := range map[uint64]int{1: 9, 1100: 9, 2000: 5, 1 << 20: 1} {
		st := mem.New(mem.Options{})
		infos := write(t, st, chunk.None, size, large)
		if len(infos) != packs {
			t.Errorf("packs of %d bytes: %d instead of %d", size, len(infos), packs)
		}
		for _, info := range infos[:len(infos)-1] {
			if info.Size < size || info.Size > size+2000 {
				t.Errorf("a pack of about %d bytes has %d", size, info.Size)
			}
		}
		checkRead(t, NewReader(objectsIn(st), named, infos), large)
	}
	if infos := write(t, mem.New(mem.Options{}), chunk.None, 1, nil); len(infos) != 0 {
		t.Errorf("nothing made %d packs", len(infos))
	}
}

// A pack that the store did not take is told, once by Add and always by Close,
// whatever the caller does between.
func TestBackgroundFaults(t *testing.T) {
	broken := errors.New("the disk broke")
	for _, op := range []mem.Op{mem.OpCreate, mem.OpWrite, mem.OpCommit} {
		for fail := 1; fail <= 12; fail++ {
			count := 0
			var mu sync.Mutex
			st := mem.New(mem.Options{Hook: func(_ context.Context, c *mem.Call) error {
				mu.Lock()
				defer mu.Unlock()
				if c.Op == op {
					count++
				}
				if c.Op == op && count == fail {
					return broken
				}
				return nil
			}})
			w, err := NewWriter(objectsIn(st), named, chunk.None, 2500)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 9 { // three packs of three chunks
				p := newPiece(uint64(i), 1000, 1000)
				_, _ = w.Add(t.Context(), p.plain, p.block, p.hashes()) // Close must tell
			}
			err = w.Close()
			if count < fail {
				if err != nil {
					t.Fatal(err)
				}
				continue
			}
			if !errors.Is(err, broken) {
				t.Errorf("%s number %d fails, and Close says %v", op, fail, err)
			}
			if err := w.Close(); !errors.Is(err, broken) {
				t.Errorf("%s number %d fails, and Close says at last %v", op, fail, err)
			}
			for _, info := range w.Packs() {
				if _, err := st.Stat(t.Context(), named(info.ID)); err != nil {
					t.Errorf("%s number %d fails, and a listed pack is not there: %v", op, fail, err)
				}
			}
		}
	}
}

func TestAbort(t *testing.T) {
	st := mem.New(mem.Options{})
	w, err := NewWriter(objectsIn(st), named, chunk.None, 1500)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		p := newPiece(0, 1000, 1000)
		if _, err := w.Add(t.Context(), p.plain, p.block, p.hashes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range st.List(t.Context(), "packs/", store.ListOptions{}) {
		if n++; err != nil {
			t.Fatal(err)
		}
	}
	if n != 1 || len(w.Packs()) != 1 {
		t.Errorf("after Abort %d packs are there, %d listed, want the one that was complete", n, len(w.Packs()))
	}
}

func TestAddRefuses(t *testing.T) {
	w, err := NewWriter(objectsIn(mem.New(mem.Options{})), named, chunk.None, 1500)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ bytes, block, hashes int }{
		"nothing":          {0, 8192, 0},
		"too much":         {chunk.MaxPlain + 1, chunk.MaxPlain, 2},
		"no block size":    {10, 0, 1},
		"blocks too large": {10, chunk.MaxPlain + 1, 1},
		"a hash too few":   {8193, 8192, 1},
		"a hash too many":  {8192, 8192, 2},
	} {
		if _, err := w.Add(t.Context(), make([]byte, c.bytes), c.block, make([]uint64, c.hashes)); err == nil {
			t.Errorf("%s was packed", name)
		}
	}
	if err := w.Close(); err != nil {
		t.Errorf("what was refused spoiled the writer: %v", err)
	}
	if _, err := NewWriter(nil, nil, 99, 1); err == nil {
		t.Error("an unknown codec was accepted")
	}
}

// Verify finds every flipped byte of a pack and every truncation; reading a chunk
// finds those in the chunk.
func TestVerifyFindsDamage(t *testing.T) {
	st := mem.New(mem.Options{})
	pieces := []piece{newPiece(0, 50, 16), newPiece(1, 200, 512), newPiece(2, 30, 30)}
	infos := write(t, st, chunk.S2, DefaultSize, pieces)
	id := infos[0].ID
	raw, err := store.Get(t.Context(), st, named(id), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	put := func(b []byte) *Reader {
		if _, err := store.Put(t.Context(), st, named(id), b, store.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		return NewReader(objectsIn(st), named, infos)
	}
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 4
		r := put(bad)
		wantDamage(t, fmt.Sprintf("byte %d", i), r.Verify(t.Context(), id, nil))
		for _, p := range pieces {
			err := r.Read(t.Context(), []repo.Ref{p.ref}, new(Scratch), func(_ int, plain []byte) error {
				if !bytes.Equal(plain, p.plain) {
					t.Fatalf("byte %d: wrong data", i)
				}
				return nil
			})
			inside := uint64(i) >= p.ref.Offset && uint64(i) < p.ref.End() || i < seal.HeaderSize
			if inside {
				wantDamage(t, fmt.Sprintf("byte %d, read", i), err)
			} else if err != nil {
				t.Fatalf("byte %d outside of the chunk: %v", i, err)
			}
		}
		wantDamage(t, fmt.Sprintf("cut to %d", i), put(raw[:i]).Verify(t.Context(), id, nil))
	}
	wantDamage(t, "longer", put(append(bytes.Clone(raw), 0)).Verify(t.Context(), id, nil))
}

// Whole packs that stand in the wrong place are told before their chunks are used.
func TestWrongPack(t *testing.T) {
	st := mem.New(mem.Options{})
	pieces := []piece{newPiece(0, 500, 500), newPiece(1, 500, 500)}
	infos := write(t, st, chunk.None, 1, pieces)
	use := func(int, []byte) error { t.Error("a chunk was handed out"); return nil }
	read := func(r *Reader) error { return r.Read(t.Context(), []repo.Ref{pieces[0].ref}, new(Scratch), use) }

	wantDamage(t, "not in the list", read(NewReader(objectsIn(st), named, infos[1:])))

	// Another attempt under the same identity and name: well sealed, other bytes.
	w, err := objectsIn(mem.New(mem.Options{})).Create(t.Context(), infos[0].ID, named(infos[0].ID), seal.Pack)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	other := infos[0]
	other.Header = w.HeaderDigest()
	wantDamage(t, "another header", read(NewReader(objectsIn(st), named, []Info{other})))

	less := infos[0]
	less.Chunks++
	_, err = NewReader(objectsIn(st), named, []Info{less}).Entries(t.Context(), less.ID)
	wantDamage(t, "another number of chunks", err)

	if err := st.Delete(t.Context(), named(infos[0].ID), ""); err != nil {
		t.Fatal(err)
	}
	wantDamage(t, "a pack that is missing", read(NewReader(objectsIn(st), named, infos)))
}

// A reference that a wrong map could give leads to damage, nothing else.
func TestWrongReference(t *testing.T) {
	st := mem.New(mem.Options{})
	pieces := []piece{newPiece(0, 500, 500), newPiece(1, 500, 500)}
	infos := write(t, st, chunk.None, DefaultSize, pieces)
	r := NewReader(objectsIn(st), named, infos)
	good := pieces[0].ref
	for name, change := range map[string]func(*repo.Ref){
		"another ordinal":  func(r *repo.Ref) { r.Ordinal++ },
		"another length":   func(r *repo.Ref) { r.Plain-- },
		"shifted":          func(r *repo.Ref) { r.Offset++ },
		"the next frame":   func(r *repo.Ref) { *r = repo.Ref{Pack: r.Pack, Offset: r.End(), Stored: r.Stored, Plain: r.Plain} },
		"too short":        func(r *repo.Ref) { r.Stored = 5 },
		"beyond the end":   func(r *repo.Ref) { r.Offset = 1 << 40 },
		"across the end":   func(r *repo.Ref) { r.Stored = 4000 },
		"the footer's end": func(r *repo.Ref) { r.Offset = infos[0].Size - uint64(r.Stored) },
	} {
		ref := good
		change(&ref)
		err := r.Read(t.Context(), []repo.Ref{ref}, new(Scratch), func(int, []byte) error { return nil })
		wantDamage(t, name, err)
	}
}

// Many goroutines may read through one Reader.
func TestConcurrentReaders(t *testing.T) {
	st := mem.New(mem.Options{})
	var pieces []piece
	for i := range 60 {
		pieces = append(pieces, newPiece(uint64(i), 3000, 1000))
	}
	r := NewReader(objectsIn(st), named, write(t, st, chunk.Zstd, 10_000, pieces))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			var s Scratch
			for i := range pieces {
				p := pieces[(i*7+g*11)%len(pieces)]
				err := r.Read(t.Context(), []repo.Ref{p.ref}, &s, func(_ int, plain []byte) error {
					if !bytes.Equal(plain, p.plain) {
						return errors.New("wrong data")
					}
					return nil
				})
				if err != nil {
					t.Errorf("reader %d: %v", g, err)
				}
			}
		})
	}
	wg.Wait()
}

// The Reader keeps a bounded number of headers.
func TestReaderForgets(t *testing.T) {
	st := mem.New(mem.Options{})
	pieces := []piece{newPiece(0, 10, 10), newPiece(1, 10, 10)}
	r := NewReader(objectsIn(st), named, write(t, st, chunk.None, 1, pieces))
	for i := range uint64(maxOpen) {
		r.open[repo.ID(binary.BigEndian.AppendUint64(make([]byte, 8), i+1))] = nil
	}
	for _, p := range pieces {
		if _, err := r.opener(t.Context(), p.ref.Pack); err != nil || len(r.open) != maxOpen {
			t.Fatalf("%d headers kept, want %d: %v", len(r.open), maxOpen, err)
		}
	}
}

// An error of the user of a chunk comes back as it is.
func TestUseFails(t *testing.T) {
	st := mem.New(mem.Options{})
	pieces := []piece{newPiece(0, 10, 10)}
	infos := write(t, st, chunk.None, 1, pieces)
	r := NewReader(objectsIn(st), named, infos)
	stop := errors.New("enough")
	if err := r.Read(t.Context(), []repo.Ref{pieces[0].ref}, new(Scratch), func(int, []byte) error { return stop }); err != stop {
		t.Errorf("Read: %v", err)
	}
	if err := r.Verify(t.Context(), infos[0].ID, func(repo.Ref, []byte) error { return stop }); err != stop {
		t.Errorf("Verify: %v", err)
	}
}

func TestFooterMalformed(t *testing.T) {
	good := appendFooter(nil, []Entry{{Ref: repo.Ref{Stored: 100, Plain: 20}, Block: 16, Hashes: []uint64{1, 2}}})
	if e, err := parseFooter(repo.ID{}, good); err != nil || len(e) != 1 {
		t.Fatalf("%v, %v", e, err)
	}
	for n := range good {
		if e, err := parseFooter(repo.ID{}, good[:n]); err == nil {
			t.Errorf("cut to %d bytes: %v", n, e)
		}
	}
	for name, b := range map[string][]byte{
		"another version": append([]byte{2}, good[1:]...),
		"a byte more":     append(bytes.Clone(good), 0),
		"too many chunks": binary.AppendUvarint([]byte{footerVersion}, maxChunks+1),
		"no block size":   {footerVersion, 1, 50, 20, 0},
		"empty chunk":     {footerVersion, 1, 50, 0, 16},
	} {
		if e, err := parseFooter(repo.ID{}, b); err == nil {
			t.Errorf("%s: %v", name, e)
		}
	}
}

func FuzzParseFooter(f *testing.F) {
	f.Add(appendFooter(nil, []Entry{{Ref: repo.Ref{Stored: 100, Plain: 20}, Block: 16, Hashes: []uint64{1, 2}}}))
	f.Add([]byte{footerVersion, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parseFooter(repo.ID{7}, b)
		if err != nil {
			return
		}
		again, err := parseFooter(repo.ID{7}, appendFooter(nil, entries))
		if err != nil || !cmp.Equal(entries, again) {
			t.Fatalf("%+v became %+v, %v", entries, again, err)
		}
	})
}
