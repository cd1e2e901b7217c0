package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// maxOpen bounds the headers that a Reader keeps, about 2 KiB each: a large backup
// has a hundred thousand packs, and its chunks are read mostly pack by pack.
const maxOpen = 4096

// Reader reads chunks of packs. Its methods may be called by several goroutines.
type Reader struct {
	objects *seal.Objects
	name    func(repo.ID) string
	known   map[repo.ID]Info

	mu   sync.Mutex
	open map[repo.ID]*seal.Opener
}

// NewReader makes a reader of the packs that infos list.
func NewReader(objects *seal.Objects, name func(repo.ID) string, infos []Info) *Reader {
	known := make(map[repo.ID]Info, len(infos))
	for _, i := range infos {
		known[i.ID] = i
	}
	return &Reader{objects: objects, name: name, known: known, open: map[repo.ID]*seal.Opener{}}
}

// opener checks a pack's header once and keeps what opens its frames.
func (r *Reader) opener(ctx context.Context, id repo.ID) (*seal.Opener, error) {
	r.mu.Lock()
	op, ok := r.open[id]
	r.mu.Unlock()
	if ok {
		return op, nil
	}
	info, ok := r.known[id]
	if !ok {
		return nil, repo.Damaged(r.name(id), "a file map names it, and the backup's list of packs does not")
	}
	op, err := r.objects.Open(ctx, r.name(id), seal.Pack)
	if errors.Is(err, store.ErrNotFound) {
		return nil, repo.Damaged(r.name(id), "it is missing, and the backup needs it")
	}
	if err != nil {
		return nil, err
	}
	if op.ID() != id || op.HeaderDigest() != info.Header {
		return nil, repo.Damaged(r.name(id), "it is another pack than the one the backup wrote")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.open) >= maxOpen {
		for old := range r.open {
			delete(r.open, old)
			break
		}
	}
	r.open[id] = op
	return op, nil
}

// Scratch is the memory one goroutine reads with.
type Scratch struct {
	frames  []byte
	plain   []byte
	decoder chunk.Decoder
}

// Read fetches neighbouring chunks of one pack in one range, and calls use with
// each, in order. The bytes are use's until it returns. Chunks must lie one
// right after the other, as Join finds them.
func (r *Reader) Read(ctx context.Context, refs []repo.Ref, s *Scratch, use func(i int, plain []byte) error) error {
	first, last := refs[0], refs[len(refs)-1]
	op, err := r.opener(ctx, first.Pack)
	if err != nil {
		return err
	}
	n := int(last.End() - first.Offset)
	if cap(s.frames) < n {
		s.frames = make([]byte, n)
	}
	s.frames = s.frames[:n]
	if err := op.ReadAt(ctx, first.Offset, s.frames); err != nil {
		return err
	}
	for i, ref := range refs {
		frame := s.frames[ref.Offset-first.Offset:][:ref.Stored]
		if err := s.open(op, ref, frame); err != nil {
			return err
		}
		if err := use(i, s.plain); err != nil {
			return err
		}
	}
	return nil
}

// open leaves the chunk's plain bytes in s.plain.
func (s *Scratch) open(op *seal.Opener, ref repo.Ref, frame []byte) error {
	codec, payload, err := op.Frame(frame, ref)
	if err != nil {
		return err
	}
	if s.plain, err = s.decoder.Decode(codec, payload, s.plain, int(ref.Plain)); err != nil {
		return repo.Damaged(op.Name(), "chunk %d: %v", ref.Ordinal, err)
	}
	return nil
}

// Join says whether b lies right after a in the same pack, so that both can be
// read in one range.
func Join(a, b repo.Ref) bool {
	return a.Pack == b.Pack && a.End() == b.Offset && a.Ordinal+1 == b.Ordinal
}

// Entries reads the footer of a pack: its chunks and the hashes of their blocks.
func (r *Reader) Entries(ctx context.Context, id repo.ID) ([]Entry, error) {
	op, err := r.opener(ctx, id)
	if err != nil {
		return nil, err
	}
	entries, err := readFooter(ctx, op, int64(r.known[id].Size))
	if err != nil {
		return nil, err
	}
	if want := r.known[id].Chunks; uint64(len(entries)) != uint64(want) {
		return nil, repo.Damaged(op.Name(), "its footer lists %d chunks instead of %d", len(entries), want)
	}
	return entries, nil
}

// Verify reads a whole pack: every frame must open, decode, and give blocks with
// the hashes that the footer lists. use, if not nil, sees each chunk.
func (r *Reader) Verify(ctx context.Context, id repo.ID, use func(ref repo.Ref, plain []byte) error) error {
	entries, err := r.Entries(ctx, id)
	if err != nil {
		return err
	}
	name := r.name(id)
	stream, err := r.objects.Stream(ctx, name, seal.Pack)
	if err != nil {
		return err
	}
	defer stream.Close()
	var dec chunk.Decoder
	var plain []byte
	for i := 0; ; i++ {
		f, err := stream.Next()
		if err == io.EOF || f.Last && err == nil && i == len(entries) {
			return nil
		}
		if err != nil {
			return err
		}
		if i >= len(entries) || f.Ref != entries[i].Ref {
			return repo.Damaged(name, "its footer does not list chunk %d", i)
		}
		if plain, err = dec.Decode(f.Codec, f.Payload, plain, int(f.Ref.Plain)); err != nil {
			return repo.Damaged(name, "chunk %d: %v", i, err)
		}
		if err := checkBlocks(plain, entries[i]); err != nil {
			return repo.Damaged(name, "chunk %d: %v", i, err)
		}
		if use != nil {
			if err := use(f.Ref, plain); err != nil {
				return err
			}
		}
	}
}

func checkBlocks(plain []byte, e Entry) error {
	for i, want := range e.Hashes {
		b := plain[i*int(e.Block):]
		if chunk.BlockHash(b[:min(len(b), int(e.Block))]) != want {
			return fmt.Errorf("block %d has not the hash its footer lists", i)
		}
	}
	return nil
}
