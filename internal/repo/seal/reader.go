package seal

import (
	"bytes"
	"context"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/store"
)

// maxSealed bounds a frame's payload, so that a damaged length cannot ask for
// all memory. A pack's footer is its largest frame.
const maxSealed = 64 << 20

// MaxPayload is the longest payload that a frame can have, in bytes.
const MaxPayload = maxSealed - tagSize

// Opener opens the frames of one object. Its methods may be called by several
// goroutines.
type Opener struct {
	objects *Objects
	name    string
	head    header
	aead    cipher.AEAD
}

// Open reads and checks the header of an object: one range of HeaderSize bytes.
func (o *Objects) Open(ctx context.Context, name string, kind Kind) (*Opener, error) {
	op := &Opener{objects: o, name: name}
	if err := o.read(ctx, name, 0, op.head[:]); err != nil {
		return nil, err
	}
	var err error
	if op.aead, err = op.head.open(name, kind, o.ring); err != nil {
		return nil, err
	}
	return op, nil
}

// read fills b from the object's bytes at offset. An object that is too short
// is damaged.
func (o *Objects) read(ctx context.Context, name string, offset uint64, b []byte) error {
	r, err := o.store.Open(ctx, name, int64(offset), int64(len(b)))
	if err == nil {
		defer r.Close()
		_, err = readFull(r, b)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, store.ErrRange) {
		return readError(name, err)
	}
	// Either the object ends before, or the connection did: its size tells.
	obj, serr := o.store.Stat(ctx, name)
	switch {
	case serr != nil:
		return readError(name, serr)
	case uint64(obj.Size) < offset+uint64(len(b)):
		return readError(name, io.EOF)
	}
	return fmt.Errorf("reading %s: %w: %w", name, store.ErrUnavailable, err)
}

// readFull is io.ReadFull, but leaves io.EOF what it is: the end of the object.
// io.ErrUnexpectedEOF is a body that broke off, and says nothing of the object.
func readFull(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = r.Read(b[n:])
		n += k
	}
	if n == len(b) {
		err = nil
	}
	return n, err
}

// readError turns the end of an object before its time into damage.
func readError(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return repo.Damaged(name, "it is cut short")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("reading %s: %w: %w", name, store.ErrUnavailable, err)
	}
	return fmt.Errorf("reading %s: %w", name, err)
}

// ReadAt fills b with the object's bytes from offset on: frames, still sealed.
// An object that ends before is damaged.
func (op *Opener) ReadAt(ctx context.Context, offset uint64, b []byte) error {
	return op.objects.read(ctx, op.name, offset, b)
}

// ID is the object's identity.
func (op *Opener) ID() repo.ID { return op.head.id() }

// Name is the object's key in the store.
func (op *Opener) Name() string { return op.name }

// HeaderDigest is the BLAKE3-256 of the object's header, see Writer.
func (op *Opener) HeaderDigest() [32]byte { return op.head.digest() }

// Frame opens the frame b, which must be all of the frame that ref names. The
// payload is written over b.
func (op *Opener) Frame(b []byte, ref repo.Ref) (codec chunk.Codec, payload []byte, err error) {
	f, err := op.parse(b)
	if err != nil {
		return 0, nil, err
	}
	if f.ordinal != ref.Ordinal || f.plain != ref.Plain || int(f.sealed)+frameHeaderSize != len(b) || f.flags != 0 {
		return 0, nil, repo.Damaged(op.name, "the frame at %d is not number %d of %d bytes", ref.Offset, ref.Ordinal, ref.Plain)
	}
	payload, err = op.unseal(f, b[frameHeaderSize:])
	return f.codec, payload, err
}

func (op *Opener) parse(b []byte) (frameHeader, error) {
	if len(b) < frameHeaderSize+tagSize {
		return frameHeader{}, repo.Damaged(op.name, "a frame is cut short")
	}
	f := frameHeader{
		ordinal: binary.LittleEndian.Uint32(b), sealed: binary.LittleEndian.Uint32(b[4:]),
		plain: binary.LittleEndian.Uint32(b[8:]), codec: chunk.Codec(b[12]), flags: b[13],
	}
	if b[14] != 0 || b[15] != 0 || f.sealed < tagSize || f.sealed > maxSealed || f.plain > maxSealed || f.flags > flagLast {
		return f, repo.Damaged(op.name, "a frame's header makes no sense")
	}
	return f, nil
}

func (op *Opener) unseal(f frameHeader, sealed []byte) ([]byte, error) {
	var extra [32]byte
	payload, err := op.aead.Open(sealed[:0], nonce(f.ordinal), sealed, f.extra(&extra, op.head.id()))
	if err != nil {
		return nil, repo.Damaged(op.name, "frame %d does not open: its bytes changed", f.ordinal)
	}
	if f.codec > chunk.S2 { // authentic, so a later release wrote it
		return nil, fmt.Errorf("object %s, frame %d: %v: %w", op.name, f.ordinal, f.codec, repo.ErrUnknownFormat)
	}
	return payload, nil
}

// Last reads the object's last frame by its trailer: two ranges. size is the
// object's size, from the store.
func (op *Opener) Last(ctx context.Context, size int64) (codec chunk.Codec, payload []byte, plain int, err error) {
	if size < HeaderSize+frameHeaderSize+tagSize+trailerSize {
		return 0, nil, 0, repo.Damaged(op.name, "it is cut short")
	}
	// One range is mostly enough: the last frame is small beside this.
	tail := make([]byte, min(size-HeaderSize, 64<<10))
	if err := op.objects.read(ctx, op.name, uint64(size)-uint64(len(tail)), tail); err != nil {
		return 0, nil, 0, err
	}
	trailer := tail[len(tail)-trailerSize:]
	at := binary.LittleEndian.Uint64(trailer)
	end := uint64(size) - trailerSize
	if !bytes.Equal(trailer[8:], trailerMagic[:]) || at < HeaderSize || at > end-frameHeaderSize-tagSize {
		return 0, nil, 0, repo.Damaged(op.name, "its trailer is wrong, or it is cut short")
	}
	if end-at > maxSealed+frameHeaderSize {
		return 0, nil, 0, repo.Damaged(op.name, "its last frame is longer than any")
	}
	frame := make([]byte, end-at)
	if start := uint64(size) - uint64(len(tail)); at >= start {
		copy(frame, tail[at-start:])
	} else if err := op.objects.read(ctx, op.name, at, frame); err != nil {
		return 0, nil, 0, err
	}
	f, err := op.parse(frame)
	if err != nil {
		return 0, nil, 0, err
	}
	if f.flags != flagLast || int(f.sealed)+frameHeaderSize != len(frame) {
		return 0, nil, 0, repo.Damaged(op.name, "its last frame is not where its trailer says")
	}
	payload, err = op.unseal(f, frame[frameHeaderSize:])
	return f.codec, payload, int(f.plain), err
}

// littleFrame is what is made room for on the word of a frame's header alone, in bytes:
// most small objects are smaller.
const littleFrame = 16 << 10

// Stream reads an object from its beginning to its end, frame by frame. It is
// for one goroutine and must be closed.
type Stream struct {
	*Opener
	in     io.ReadCloser
	next   uint32
	offset uint64
	done   bool
	buf    []byte
}

// Frame is one opened frame.
type Frame struct {
	Ref     repo.Ref
	Codec   chunk.Codec
	Payload []byte // valid until the next call
	Last    bool
}

// Stream opens an object for reading as a whole.
func (o *Objects) Stream(ctx context.Context, name string, kind Kind) (*Stream, error) {
	in, err := o.store.Open(ctx, name, 0, -1)
	if err != nil {
		return nil, readError(name, err)
	}
	s := &Stream{Opener: &Opener{objects: o, name: name}, in: in, offset: HeaderSize}
	if _, err = readFull(in, s.head[:]); err != nil {
		err = readError(name, err)
	} else {
		s.aead, err = s.head.open(name, kind, o.ring)
	}
	if err != nil {
		_ = in.Close()
		return nil, err
	}
	return s, nil
}

// Next gives the next frame. After the frame that is marked Last it has checked
// that the object ends there, and then returns io.EOF.
func (s *Stream) Next() (Frame, error) {
	if s.done {
		return Frame{}, io.EOF
	}
	var head [frameHeaderSize + tagSize]byte
	if _, err := readFull(s.in, head[:frameHeaderSize]); err != nil {
		return Frame{}, readError(s.name, err)
	}
	f, err := s.parse(head[:])
	if err != nil {
		return Frame{}, err
	}
	if f.ordinal != s.next {
		return Frame{}, repo.Damaged(s.name, "frame %d stands where frame %d should", f.ordinal, s.next)
	}
	if err := s.fill(int(f.sealed)); err != nil {
		return Frame{}, err
	}
	payload, err := s.unseal(f, s.buf)
	if err != nil {
		return Frame{}, err
	}
	out := Frame{Codec: f.codec, Payload: payload, Last: f.flags == flagLast, Ref: repo.Ref{
		Pack: s.head.id(), Ordinal: f.ordinal, Offset: s.offset, Stored: frameHeaderSize + f.sealed, Plain: f.plain}}
	s.next++
	s.offset = out.Ref.End()
	if out.Last {
		s.done = true
		return out, s.end(out.Ref.Offset)
	}
	return out, nil
}

// fill reads n bytes into s.buf, growing it as they come, so that a damaged
// length costs no more memory than the object has bytes, or little more.
func (s *Stream) fill(n int) error {
	if s.buf == nil && n <= littleFrame {
		s.buf = make([]byte, n)
	}
	if cap(s.buf) >= n {
		s.buf = s.buf[:n]
		_, err := readFull(s.in, s.buf)
		return readError(s.name, err)
	}
	buf := bytes.NewBuffer(s.buf[:0])
	if got, err := io.CopyN(buf, s.in, int64(n)); got < int64(n) {
		return readError(s.name, err)
	}
	s.buf = buf.Bytes()
	return nil
}

func (s *Stream) end(last uint64) error {
	var want, got [trailerSize + 1]byte
	binary.LittleEndian.PutUint64(want[:], last)
	copy(want[8:], trailerMagic[:])
	n, err := readFull(s.in, got[:])
	if err != nil && !errors.Is(err, io.EOF) {
		return readError(s.name, err)
	}
	if n != trailerSize || got != want {
		return repo.Damaged(s.name, "its trailer is wrong")
	}
	return nil
}

// Close ends the reading.
func (s *Stream) Close() error { return s.in.Close() }

// Put writes a small object in one go: its content is one frame, not
// compressed. It fails with store.ErrExists if the name is taken.
func (o *Objects) Put(ctx context.Context, name string, kind Kind, content []byte) error {
	w, err := o.Create(ctx, repo.NewID(), name, kind)
	if err != nil {
		return err
	}
	return w.Commit(chunk.None, content, len(content))
}

// Get reads a small object that Put wrote. It fails with store.ErrNotFound if
// there is none.
func (o *Objects) Get(ctx context.Context, name string, kind Kind) ([]byte, error) {
	s, err := o.Stream(ctx, name, kind)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	f, err := s.Next()
	if err != nil {
		return nil, err
	}
	if !f.Last || f.Codec != chunk.None {
		return nil, repo.Damaged(name, "it is not one plain frame")
	}
	return f.Payload, nil
}

// Exists says whether the store has the object.
func (o *Objects) Exists(ctx context.Context, name string) (bool, error) {
	_, err := o.store.Stat(ctx, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking for %s: %w", name, err)
	}
	return true, nil
}
