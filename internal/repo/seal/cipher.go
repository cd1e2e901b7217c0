package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"
)

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("making a cipher: %w", err)
	}
	return cipher.NewGCM(block)
}

// tagger stands in for the cipher where there is no encryption: the same
// layout, with a tag that proves that bytes are unchanged and in their place.
type tagger struct{ key [32]byte }

// newTagger derives the tag key from the authenticated part of the header and
// the object's name, so a renamed object is seen as well.
func newTagger(header []byte, name string) *tagger {
	return &tagger{blake3.Sum256(append(header[:len(header):len(header)], name...))}
}

func (t *tagger) NonceSize() int { return 12 }
func (t *tagger) Overhead() int  { return tagSize }

func (t *tagger) tag(nonce, data, extra []byte) [tagSize]byte {
	h, err := blake3.NewKeyed(t.key[:])
	if err != nil {
		panic(err) // only for a key of another length
	}
	h.Write(nonce)
	h.Write(extra)
	h.Write(data)
	return [tagSize]byte(h.Sum(nil))
}

// Seal appends plain and its tag to dst.
func (t *tagger) Seal(dst, nonce, plain, extra []byte) []byte {
	tag := t.tag(nonce, plain, extra)
	return append(append(dst, plain...), tag[:]...)
}

var errTag = errors.New("its tag is wrong")

// Open appends to dst what Seal was given.
func (t *tagger) Open(dst, nonce, sealed, extra []byte) ([]byte, error) {
	if len(sealed) < tagSize {
		return nil, errTag
	}
	plain := sealed[:len(sealed)-tagSize]
	tag := t.tag(nonce, plain, extra)
	if subtle.ConstantTimeCompare(tag[:], sealed[len(plain):]) != 1 {
		return nil, errTag
	}
	return append(dst, plain...), nil
}
