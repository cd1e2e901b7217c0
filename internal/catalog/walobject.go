package catalog

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/zeebo/blake3"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// WALFooter is the last frame of a stored segment: what the segment is, an index
// of the records in it that matter to a restore, and a summary of the blocks that
// it changes. Encoded it is the length of a JSON document (4 bytes,
// little-endian), the document, the index as walrec encodes it, and the summary.
type WALFooter struct {
	Size     int64       `json:"size_bytes"`
	Digest   Hash        `json:"blake3"` // of the segment's bytes
	SystemID pg.SystemID `json:"system_id"`
	Major    int         `json:"server_major"`

	Index walrec.Index `json:"-"`
	// Changes is the summary of the blocks that the segment changes, as
	// wal/summary encodes it; what is in it is not looked at here. It is empty
	// where none was stored: then the segment itself has to be read for it.
	Changes []byte `json:"-"`
}

// walFooterDoc is the JSON document. Without ChangesSize, as the first ones were,
// there are no Changes.
type walFooterDoc struct {
	WALFooter
	ChangesSize int64 `json:"changes_bytes,omitempty"`
}

// Encode gives the frame's payload.
func (f WALFooter) Encode() ([]byte, error) {
	doc, err := json.Marshal(walFooterDoc{f, int64(len(f.Changes))})
	if err != nil {
		return nil, err
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(doc)))
	return slices.Concat(b, doc, walrec.EncodeIndex(f.Index), f.Changes), nil
}

// ParseWALFooter reads what Encode gave. Changes shares b's memory.
func ParseWALFooter(b []byte) (WALFooter, error) {
	if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
		return WALFooter{}, errors.New("its footer is cut short")
	}
	n := 4 + int(binary.LittleEndian.Uint32(b))
	var doc walFooterDoc
	if err := json.Unmarshal(b[4:n], &doc); err != nil {
		return WALFooter{}, err
	}
	f, rest := doc.WALFooter, b[n:]
	if doc.ChangesSize < 0 || doc.ChangesSize > int64(len(rest)) {
		return WALFooter{}, fmt.Errorf("its footer has %d bytes after the document, of which %d are to be the summary", len(rest), doc.ChangesSize)
	}
	end := len(rest) - int(doc.ChangesSize)
	var err error
	if f.Index, err = walrec.DecodeIndex(rest[:end]); err != nil {
		return WALFooter{}, err
	}
	if end < len(rest) {
		f.Changes = rest[end:]
	}
	return f, nil
}

// ReadWALFooter reads the footer of a stored segment, and not the segment. It
// fails with store.ErrNotFound if the segment is not there.
func ReadWALFooter(ctx context.Context, objects *seal.Objects, name string) (WALFooter, error) {
	obj, err := objects.Store().Stat(ctx, name)
	if err != nil {
		return WALFooter{}, err
	}
	op, err := objects.Open(ctx, name, seal.WALSegment)
	if err != nil {
		return WALFooter{}, err
	}
	codec, payload, _, err := op.Last(ctx, obj.Size)
	if err != nil {
		return WALFooter{}, err
	}
	if codec != chunk.None {
		return WALFooter{}, repo.Damaged(name, "its footer has codec %v", codec)
	}
	f, err := ParseWALFooter(payload)
	if err != nil {
		return WALFooter{}, repo.Damaged(name, "%v", err)
	}
	return f, nil
}

// Name is the object of the step's segment.
func (s Step) Name(a Archive) string {
	file := s.Segment.Name(a.SegmentSize)
	if s.Partial {
		file += ".partial"
	}
	return s.Place.WALName(s.Segment.Timeline, file)
}

// WAL reads a stored segment, from its beginning. After its last byte Read checks
// size and digest, and gives io.EOF only if both are right.
type WAL struct {
	stream *seal.Stream
	hash   *blake3.Hasher
	dec    chunk.Decoder
	buf    []byte // plain bytes that were not read yet
	plain  []byte
	size   int64
	footer *WALFooter
}

// OpenWAL opens a stored segment. It fails with store.ErrNotFound if it is not
// there, and must be closed.
func OpenWAL(ctx context.Context, objects *seal.Objects, name string) (*WAL, error) {
	s, err := objects.Stream(ctx, name, seal.WALSegment)
	if err != nil {
		return nil, err
	}
	return &WAL{stream: s, hash: blake3.New()}, nil
}

// Read implements io.Reader.
func (w *WAL) Read(p []byte) (int, error) {
	for len(w.buf) == 0 {
		if w.footer != nil {
			return 0, io.EOF
		}
		if err := w.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, w.buf)
	w.buf = w.buf[n:]
	return n, nil
}

func (w *WAL) next() error {
	f, err := w.stream.Next()
	if err != nil {
		return err
	}
	if f.Last {
		return w.finish(f.Payload)
	}
	if w.plain, err = w.dec.Decode(f.Codec, f.Payload, w.plain, int(f.Ref.Plain)); err != nil {
		return repo.Damaged(w.stream.Name(), "%v", err)
	}
	w.hash.Write(w.plain)
	w.size += int64(len(w.plain))
	w.buf = w.plain
	return nil
}

func (w *WAL) finish(payload []byte) error {
	f, err := ParseWALFooter(payload)
	if err != nil {
		return repo.Damaged(w.stream.Name(), "%v", err)
	}
	var sum Hash
	w.hash.Digest().Read(sum[:])
	if f.Size != w.size || f.Digest != sum {
		return repo.Damaged(w.stream.Name(), "its content has not the size and digest its footer says")
	}
	w.footer = &f
	return nil
}

// Close ends the reading.
func (w *WAL) Close() error { return w.stream.Close() }
