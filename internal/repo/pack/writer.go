package pack

import (
	"context"
	"errors"
	"fmt"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

const (
	// DefaultSize is when a pack is full, in bytes: large enough that objects
	// are few, small enough that a restore has many in flight.
	DefaultSize = 32 << 20
	// maxChunks bounds the footer of a pack whose chunks compress to nothing.
	maxChunks = 4096
)

// Info is what a backup remembers of a pack that it names.
type Info struct {
	ID     repo.ID
	Size   uint64   // bytes
	Header [32]byte // BLAKE3-256 of its header
	Chunks uint32
	Plain  uint64 // bytes of its chunks before compression
}

// Writer writes chunks into packs, a new one whenever the last is full. It is for
// one goroutine, and must be ended by Close or Abort.
type Writer struct {
	objects *seal.Objects
	name    func(repo.ID) string
	encoder *chunk.Encoder
	size    uint64

	open    *seal.Writer
	entries []Entry
	done    []Info
	commit  chan committed // a pack on its way to the disk, nil when none
	failed  error          // the first error: a chunk may be lost, so Close must not succeed
}

// NewWriter makes a writer of packs of about size bytes. name gives the object's
// name for a pack's identity.
func NewWriter(objects *seal.Objects, name func(repo.ID) string, codec chunk.Codec, size uint64) (*Writer, error) {
	enc, err := chunk.NewEncoder(codec)
	if err != nil {
		return nil, err
	}
	return &Writer{objects: objects, name: name, encoder: enc, size: size}, nil
}

// Add stores one chunk: plain, of blocks of the given size, of which the last may
// be short. hashes are the blocks' hashes, in order; the writer keeps them. The
// chunk is durable after Close only. After an error the writer is of no use: Add
// and Close give the error again.
func (w *Writer) Add(ctx context.Context, plain []byte, block int, hashes []uint64) (repo.Ref, error) {
	if n := len(plain); n == 0 || n > chunk.MaxPlain || block <= 0 || block > chunk.MaxPlain || len(hashes) != (n+block-1)/block {
		return repo.Ref{}, fmt.Errorf("packing a chunk of %d bytes in blocks of %d with %d hashes: that does not fit together", n, block, len(hashes))
	}
	if w.failed != nil {
		return repo.Ref{}, w.failed
	}
	ref, err := w.add(ctx, plain, block, hashes)
	w.failed = err
	return ref, err
}

func (w *Writer) add(ctx context.Context, plain []byte, block int, hashes []uint64) (repo.Ref, error) {
	if w.open == nil {
		id := repo.NewID()
		open, err := w.objects.Create(ctx, id, w.name(id), seal.Pack)
		if err != nil {
			return repo.Ref{}, err
		}
		w.open = open
	}
	codec, data := w.encoder.Encode(plain)
	ref, err := w.open.Frame(codec, data, len(plain))
	if err != nil {
		return repo.Ref{}, err
	}
	w.entries = append(w.entries, Entry{Ref: ref, Block: uint32(block), Hashes: hashes})
	if w.open.Size() >= w.size || len(w.entries) >= maxChunks {
		err = w.finish()
	}
	return ref, err
}

// finish completes the open pack in the background, so that its way to the disk
// does not hold up the next one. One is on its way at a time.
func (w *Writer) finish() error {
	if err := w.wait(); err != nil {
		return err
	}
	open, footer := w.open, appendFooter(nil, w.entries)
	info := Info{ID: open.ID(), Header: open.HeaderDigest(), Chunks: uint32(len(w.entries)), Plain: plainOf(w.entries)}
	w.open, w.entries = nil, nil
	w.commit = make(chan committed, 1)
	go func(result chan<- committed) {
		err := open.Commit(chunk.None, footer, len(footer))
		info.Size = open.Size()
		result <- committed{info, err}
	}(w.commit)
	return nil
}

func plainOf(entries []Entry) (n uint64) {
	for _, e := range entries {
		n += uint64(e.Ref.Plain)
	}
	return n
}

// committed is how a pack's way to the disk ended.
type committed struct {
	info Info
	err  error
}

func (w *Writer) wait() error {
	if w.commit == nil {
		return nil
	}
	c := <-w.commit
	w.commit = nil
	if c.err == nil {
		w.done = append(w.done, c.info)
	}
	return c.err
}

// Close completes the last pack and waits until all are durable.
func (w *Writer) Close() error {
	if w.failed == nil && w.open != nil {
		w.failed = w.finish()
	}
	if w.failed == nil {
		w.failed = w.wait()
	}
	if w.failed != nil {
		return errors.Join(w.failed, w.Abort())
	}
	return nil
}

// Abort gives up the pack that is open. Those that are complete stay.
func (w *Writer) Abort() error {
	err := w.wait()
	if w.open != nil {
		err = errors.Join(err, w.open.Abort())
		w.open = nil
	}
	return err
}

// Packs lists the packs that are durable: after Close, all of them.
func (w *Writer) Packs() []Info { return w.done }
