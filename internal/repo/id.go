package repo

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// FormatVersion is the version of the format that this release writes.
const FormatVersion = 1

// ID is 128 random bits: the identity of a repository, an object or a key.
type ID [16]byte

// NewID draws an identifier from the system's random source.
func NewID() ID {
	var id ID
	rand.Read(id[:]) // never fails since Go 1.24: it crashes the program instead
	return id
}

// ParseID reads 32 lower-case hexadecimal digits.
func ParseID(s string) (ID, error) {
	var id ID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) || hex.EncodeToString(b) != s {
		return ID{}, fmt.Errorf("%q is not an identifier: want 32 lower-case hexadecimal digits", s)
	}
	copy(id[:], b)
	return id, nil
}

// String gives 32 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = v
	return nil
}

// Ref says where one chunk is stored: a frame of a pack. A reader needs one
// range of Stored bytes and nothing else.
type Ref struct {
	Pack    ID
	Ordinal uint32 // of the frame in its pack, from 0
	Offset  uint64 // of the frame in its pack, bytes
	Stored  uint32 // length of the frame with its header, bytes
	Plain   uint32 // length of the chunk, bytes
}

// End is the offset after the frame.
func (r Ref) End() uint64 { return r.Offset + uint64(r.Stored) }
