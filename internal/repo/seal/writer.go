package seal

import (
	"context"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/store"
)

const (
	frameHeaderSize = 16
	trailerSize     = 16
	flagLast        = 1
)

var trailerMagic = [8]byte{'S', 'A', 'L', 'V', 'E', 'N', 'D', '\n'}

// Objects makes and reads the objects of one repository.
type Objects struct {
	store store.Store
	ring  Keyring
}

// New gives access to the objects in st; ring is nil without encryption.
func New(st store.Store, ring Keyring) *Objects { return &Objects{store: st, ring: ring} }

// Through gives access to the same objects by way of another store, one that adds a
// behaviour to the first.
func (o *Objects) Through(st store.Store) *Objects { return &Objects{store: st, ring: o.ring} }

// Store is where the objects are.
func (o *Objects) Store() store.Store { return o.store }

// Writer makes one object. It is for one goroutine, and must be ended by
// Commit or Abort.
type Writer struct {
	out     store.Writer
	name    string
	head    header
	aead    cipher.AEAD
	offset  uint64
	ordinal uint32
	buf     []byte
}

// Create begins the object name. It does not exist before Commit, which fails
// with store.ErrExists if another has the name by then: objects are never
// replaced. The identity must be fresh, from repo.NewID: it binds this one
// attempt to a key.
func (o *Objects) Create(ctx context.Context, id repo.ID, name string, kind Kind) (*Writer, error) {
	return o.Replace(ctx, id, name, kind, "")
}

// Replace is Create over an object of the given version that is damaged, the only kind
// that may be replaced. Commit takes its place in one step, or fails with
// store.ErrChanged if it is not there any more. Without a version it is Create.
func (o *Objects) Replace(ctx context.Context, id repo.ID, name string, kind Kind, over store.Version) (*Writer, error) {
	head, aead, err := newHeader(id, name, kind, o.ring)
	if err != nil {
		return nil, fmt.Errorf("sealing %s: %w", name, err)
	}
	out, err := o.store.Create(ctx, name, store.CreateOptions{IfAbsent: over == "", IfMatch: over})
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	w := &Writer{out: out, name: name, head: head, aead: aead}
	if err := w.write(head[:]); err != nil {
		out.Abort()
		return nil, err
	}
	return w, nil
}

// Frame appends a frame: a payload and, if it is compressed, its codec and
// the length it had. The reference it returns names the frame for ever once
// the object is committed.
func (w *Writer) Frame(codec chunk.Codec, payload []byte, plain int) (repo.Ref, error) {
	return w.frame(codec, payload, plain, 0)
}

func (w *Writer) frame(codec chunk.Codec, payload []byte, plain int, flags byte) (repo.Ref, error) {
	switch {
	case len(payload) > MaxPayload || plain < 0 || plain > maxSealed:
		return repo.Ref{}, fmt.Errorf("writing %s: a frame of %d bytes is longer than any reader takes", w.name, max(len(payload), plain))
	case w.ordinal == math.MaxUint32:
		return repo.Ref{}, fmt.Errorf("writing %s: it has too many frames", w.name) // no nonce is used twice
	}
	ref := repo.Ref{
		Pack: w.head.id(), Ordinal: w.ordinal, Offset: w.offset,
		Stored: uint32(frameHeaderSize + len(payload) + tagSize), Plain: uint32(plain),
	}
	head := frameHeader{ordinal: w.ordinal, sealed: uint32(len(payload) + tagSize), plain: uint32(plain), codec: codec, flags: flags}
	if need := int(ref.Stored); cap(w.buf) < need {
		w.buf = make([]byte, 0, max(need, 2*cap(w.buf))) // Seal would take just what each frame needs
	}
	w.buf = head.appendTo(w.buf[:0])
	var extra [32]byte
	w.buf = w.aead.Seal(w.buf, nonce(w.ordinal), payload, head.extra(&extra, w.head.id()))
	if err := w.write(w.buf); err != nil {
		return repo.Ref{}, err
	}
	w.ordinal++
	return ref, nil
}

func (w *Writer) write(b []byte) error {
	n, err := w.out.Write(b)
	w.offset += uint64(n)
	if err != nil {
		return fmt.Errorf("writing %s: %w", w.name, err)
	}
	return nil
}

// Size is the number of bytes written until now.
func (w *Writer) Size() uint64 { return w.offset }

// ID is the object's identity.
func (w *Writer) ID() repo.ID { return w.head.id() }

// HeaderDigest is the BLAKE3-256 of the object's header. The header holds the
// object's random key, so who knows this digest cannot be given another object.
func (w *Writer) HeaderDigest() [32]byte { return w.head.digest() }

// Commit appends the last frame and the trailer, and publishes the object. When
// it returns nil, the object is durable. It fails with store.ErrExists if the
// name has been taken.
func (w *Writer) Commit(codec chunk.Codec, payload []byte, plain int) error {
	ref, err := w.frame(codec, payload, plain, flagLast)
	if err == nil {
		var trailer [trailerSize]byte
		binary.LittleEndian.PutUint64(trailer[:], ref.Offset)
		copy(trailer[8:], trailerMagic[:])
		err = w.write(trailer[:])
	}
	if err != nil {
		w.Abort()
		return err
	}
	if _, err := w.out.Commit(); err != nil {
		return fmt.Errorf("completing %s: %w", w.name, err)
	}
	return nil
}

// Abort leaves nothing of the object.
func (w *Writer) Abort() error { return w.out.Abort() }

// frameHeader is what stands before a sealed payload: ordinal, length of the
// sealed payload with its tag, length before compression (4 bytes each), codec,
// flags, and two bytes of zero.
type frameHeader struct {
	ordinal, sealed, plain uint32
	codec                  chunk.Codec
	flags                  byte
}

func (f frameHeader) appendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, f.ordinal)
	b = binary.LittleEndian.AppendUint32(b, f.sealed)
	b = binary.LittleEndian.AppendUint32(b, f.plain)
	return append(b, byte(f.codec), f.flags, 0, 0)
}

// extra is what the seal covers beside the payload: the identity of the object
// and the frame's header.
func (f frameHeader) extra(buf *[32]byte, id repo.ID) []byte {
	return f.appendTo(append(buf[:0], id[:]...))
}

func nonce(ordinal uint32) []byte {
	var n [12]byte
	binary.BigEndian.PutUint32(n[8:], ordinal)
	return n[:]
}
