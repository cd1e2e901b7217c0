package catalog

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// WALFooter is the last frame of a stored segment: what the segment is, and an
// index of the records in it that matter to a restore. Encoded it is the length
// of a JSON document (4 bytes, little-endian), the document, and the index as
// walrec encodes it.
type WALFooter struct {
	Size     int64       `json:"size_bytes"`
	Digest   Hash        `json:"blake3"` // of the segment's bytes
	SystemID pg.SystemID `json:"system_id"`
	Major    int         `json:"server_major"`

	Index walrec.Index `json:"-"`
}

// Encode gives the frame's payload.
func (f WALFooter) Encode() ([]byte, error) {
	doc, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(doc)))
	return append(append(b, doc...), walrec.EncodeIndex(f.Index)...), nil
}

// ParseWALFooter reads what Encode gave.
func ParseWALFooter(b []byte) (WALFooter, error) {
	if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
		return WALFooter{}, errors.New("its footer is cut short")
	}
	n := 4 + int(binary.LittleEndian.Uint32(b))
	var f WALFooter
	if err := json.Unmarshal(b[4:n], &f); err != nil {
		return WALFooter{}, err
	}
	var err error
	f.Index, err = walrec.DecodeIndex(b[n:])
	return f, err
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
	return a.Place.WALName(s.Segment.Timeline, file)
}
