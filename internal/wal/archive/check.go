package archive

import (
	"bytes"
	"fmt"
	"math/rand/v2"

	"github.com/salvor-dr/salvor/internal/repo/chunk"
)

// checkOneIn is how many parts there are for each that is checked, beside the first:
// to decode them all would take about a tenth of a push, so as few as this take about
// a hundredth.
const checkOneIn = 8

// decodeCheck decodes parts of what was compressed, and compares: PostgreSQL
// removes a segment once it is archived, so a codec that is wrong must not be found
// out by the restore. The zero value is ready.
type decodeCheck struct {
	seen  bool
	dec   chunk.Decoder
	plain []byte
}

// sample checks the first part, and others at random.
func (c *decodeCheck) sample(codec chunk.Codec, data, plain []byte) error {
	if codec == chunk.None || c.seen && rand.IntN(checkOneIn) > 0 {
		return nil
	}
	c.seen = true
	return c.check(codec, data, plain)
}

func (c *decodeCheck) check(codec chunk.Codec, data, plain []byte) error {
	var err error
	if c.plain, err = c.dec.Decode(codec, data, c.plain, len(plain)); err != nil {
		return fmt.Errorf("%w: %w", ErrCodec, err)
	}
	if !bytes.Equal(c.plain, plain) {
		return ErrCodec
	}
	return nil
}
