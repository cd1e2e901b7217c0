package pack

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// Entry describes one chunk of a pack.
type Entry struct {
	Ref    repo.Ref
	Block  uint32   // size of its blocks, bytes
	Hashes []uint64 // chunk.BlockHash of each block
}

const footerVersion = 1

// appendFooter encodes the entries: version (1 byte), number of chunks; then for
// each its stored length, plain length and block size as unsigned varints, and
// the hash of each block, 8 bytes little-endian. Ordinals count from 0, and
// frames follow one another from the end of the header.
func appendFooter(b []byte, entries []Entry) []byte {
	b = append(b, footerVersion)
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for _, e := range entries {
		b = binary.AppendUvarint(b, uint64(e.Ref.Stored))
		b = binary.AppendUvarint(b, uint64(e.Ref.Plain))
		b = binary.AppendUvarint(b, uint64(e.Block))
		for _, h := range e.Hashes {
			b = binary.LittleEndian.AppendUint64(b, h)
		}
	}
	return b
}

var errFooter = errors.New("its footer is malformed")

// parseFooter reads what appendFooter wrote, for the pack with the given
// identity.
func parseFooter(id repo.ID, b []byte) ([]Entry, error) {
	if len(b) == 0 || b[0] != footerVersion {
		return nil, errFooter
	}
	b = b[1:]
	bad := false
	next := func(limit uint64) uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > limit {
			bad = true
			return 0
		}
		b = b[n:]
		return v
	}
	count := next(maxChunks)
	if bad {
		return nil, errFooter
	}
	entries := make([]Entry, 0, count)
	offset := uint64(seal.HeaderSize)
	for i := range uint32(count) {
		e := Entry{Ref: repo.Ref{Pack: id, Ordinal: i, Offset: offset}}
		e.Ref.Stored = uint32(next(chunk.MaxFrame))
		e.Ref.Plain = uint32(next(chunk.MaxPlain))
		e.Block = uint32(next(chunk.MaxPlain))
		if bad || e.Ref.Stored == 0 || e.Ref.Plain == 0 || e.Block == 0 {
			return nil, errFooter
		}
		n := (int(e.Ref.Plain) + int(e.Block) - 1) / int(e.Block)
		if len(b) < n*8 {
			return nil, errFooter
		}
		e.Hashes = make([]uint64, n)
		for j := range e.Hashes {
			e.Hashes[j] = binary.LittleEndian.Uint64(b[j*8:])
		}
		b = b[n*8:]
		offset = e.Ref.End()
		entries = append(entries, e)
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes follow its end", errFooter, len(b))
	}
	return entries, nil
}
