package chunk

import (
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

const (
	// MaxPlain is the largest chunk, in bytes before compression.
	MaxPlain = 256 << 10
	// SliceSize is the block size of files that have no pages, in bytes.
	SliceSize = MaxPlain
)

// Codec names how a chunk is compressed. It is stored with every chunk.
type Codec uint8

// The codecs. S2 writes Snappy's block format, which any Snappy decoder reads.
const (
	None Codec = 0
	Zstd Codec = 1
	S2   Codec = 2
)

// ParseCodec reads "none", "zstd" or "s2".
func ParseCodec(s string) (Codec, error) {
	for _, c := range []Codec{None, Zstd, S2} {
		if c.String() == s {
			return c, nil
		}
	}
	return None, fmt.Errorf("unknown compression %q: want zstd, s2 or none", s)
}

// String gives the name used in the configuration.
func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case Zstd:
		return "zstd"
	case S2:
		return "s2"
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// Encoder compresses chunks with one codec. It is for one goroutine.
type Encoder struct {
	codec Codec
	fast  bool
	zstd  *zstd.Encoder
	buf   []byte
}

// NewEncoder makes an encoder. Levels are chosen by what they save on pages of a
// mixed database, against what they cost. Zstandard runs at its fastest: the next
// level stores 2.3 % less for twice the processor time, and the best were wrong
// twice in the library. S2 runs one above its fastest, which stores 10 % less at
// two thirds of the speed: about as much as LZ4.
func NewEncoder(codec Codec) (*Encoder, error) {
	e := &Encoder{codec: codec}
	switch codec {
	case None, S2:
	case Zstd:
		enc, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(MaxPlain),
			zstd.WithEncoderCRC(false), // the seal tells damage
			zstd.WithSingleSegment(true))
		if err != nil {
			return nil, fmt.Errorf("making a zstd encoder: %w", err)
		}
		e.zstd = enc
	default:
		return nil, fmt.Errorf("making an encoder: %v is unknown", codec)
	}
	return e, nil
}

// NewFastEncoder is NewEncoder for WAL, which the server waits for and which has
// less to gain: S2 runs at its fastest, and stores what LZ4 does.
func NewFastEncoder(codec Codec) (*Encoder, error) {
	e, err := NewEncoder(codec)
	if err == nil {
		e.fast = true
	}
	return e, err
}

// Encode compresses plain, and says with which codec: None when that would be
// no larger. The result is valid until the next call, and may be plain itself.
func (e *Encoder) Encode(plain []byte) (Codec, []byte) {
	switch e.codec {
	case Zstd:
		e.buf = e.zstd.EncodeAll(plain, e.buf[:0])
	case S2:
		if need := s2.MaxEncodedLen(len(plain)); cap(e.buf) < need {
			e.buf = make([]byte, need)
		}
		encode := s2.EncodeSnappyBetter
		if e.fast {
			encode = s2.EncodeSnappy
		}
		e.buf = encode(e.buf[:cap(e.buf)], plain)
	case None:
		return None, plain
	}
	if len(e.buf) >= len(plain) {
		return None, plain
	}
	return e.codec, e.buf
}

// Decoder decompresses chunks of any codec. It is for one goroutine.
type Decoder struct{ zstd *zstd.Decoder }

// decodeSlack is spare room behind what is decoded: with it the zstd decoder copies
// in whole vectors to the end of every block, and is a tenth faster.
const decodeSlack = 16

// Decode decompresses data into dst[:plain] and returns it; dst is replaced when
// it is too small. Output of any other length than plain is an error, and
// plain must not be above MaxPlain.
func (d *Decoder) Decode(codec Codec, data, dst []byte, plain int) ([]byte, error) {
	if plain < 0 || plain > MaxPlain {
		return nil, fmt.Errorf("a chunk of %d bytes is longer than any", plain)
	}
	if cap(dst) < plain+decodeSlack {
		dst = make([]byte, 0, plain+decodeSlack)
	}
	var err error
	switch codec {
	case None:
		dst = append(dst[:0], data...)
	case S2:
		if n, e := s2.DecodedLen(data); e != nil || n != plain {
			return nil, fmt.Errorf("its compressed form does not say %d bytes", plain)
		}
		dst, err = s2.Decode(dst[:plain], data)
	case Zstd:
		dst, err = d.decodeZstd(data, dst)
	default:
		return nil, fmt.Errorf("%v is unknown", codec)
	}
	if err != nil {
		return nil, fmt.Errorf("decompressing %v: %w", codec, err)
	}
	if len(dst) != plain {
		return nil, fmt.Errorf("decompressing gave %d bytes instead of %d", len(dst), plain)
	}
	return dst, nil
}

func (d *Decoder) decodeZstd(data, dst []byte) ([]byte, error) {
	if d.zstd == nil {
		dec, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxMemory(MaxPlain),
			zstd.WithDecodeAllCapLimit(false))
		if err != nil {
			return nil, err
		}
		d.zstd = dec
	}
	return d.zstd.DecodeAll(data, dst[:0])
}
