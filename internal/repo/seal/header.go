package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/zeebo/blake3"

	"github.com/salvor-dr/salvor/internal/repo"
)

// Kind says what an object is. It is authenticated, so that one cannot pass
// for another.
type Kind uint8

// The kinds of object.
const (
	Pack       Kind = 1  // many chunks
	WALSegment Kind = 2  // a WAL segment, whole or partial
	WALSmall   Kind = 3  // a timeline history or backup history file
	Head       Kind = 4  // a backup's head
	Files      Kind = 5  // a backup's file table
	Packs      Kind = 6  // the list of packs that a backup names
	Running    Kind = 7  // a backup under way
	Origin     Kind = 8  // a cluster's place in the repository
	Tombstone  Kind = 9  // what a removal removes
	Proof      Kind = 10 // what a restore was measured to take
	Hold       Kind = 11 // why a backup is not to be removed
	Reading    Kind = 12 // a restore under way, which reads a backup
	Purged     Kind = 13 // up to where WAL was removed
)

// HeaderSize is the length of an object's header, in bytes.
const HeaderSize = 112

const (
	sealNone   = 0
	sealAESGCM = 1
	tagSize    = 16
)

var magic = [8]byte{0x89, 'S', 'A', 'L', 'V', 'O', 'R', '\n'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Keyring holds a repository's master keys. A nil Keyring is that of a
// repository without encryption.
type Keyring interface {
	// Current gives the key for new objects.
	Current() (id repo.ID, key [32]byte)
	// Lookup gives a key by its identity, and false if the ring lacks it.
	Lookup(id repo.ID) (key [32]byte, ok bool)
}

// header is an object's first HeaderSize bytes.
//
//	0   8  magic
//	8   2  format version, little-endian, as every number here
//	10  1  kind
//	11  1  0: not encrypted, 1: AES-256-GCM
//	12  4  HeaderSize
//	16 16  identity of the object
//	32 16  identity of the master key, zero without encryption
//	48 12  nonce of the wrapped key
//	60 48  the object's key, sealed
//	108 4  CRC-32C of what stands before
type header [HeaderSize]byte

const (
	authenticated = 48 // the bytes of the header that the wrapped key's seal covers
	wrappedAt     = 60
	checksumAt    = 108
)

// newHeader makes the header of a new object, and the cipher of its frames.
func newHeader(id repo.ID, name string, kind Kind, ring Keyring) (header, cipher.AEAD, error) {
	var h header
	copy(h[:], magic[:])
	binary.LittleEndian.PutUint16(h[8:], repo.FormatVersion)
	h[10] = byte(kind)
	binary.LittleEndian.PutUint32(h[12:], HeaderSize)
	copy(h[16:32], id[:])
	var aead cipher.AEAD
	if ring == nil {
		aead = newTagger(h[:authenticated], name)
	} else {
		h[11] = sealAESGCM
		master, key := ring.Current()
		copy(h[32:48], master[:])
		rand.Read(h[48:wrappedAt])
		var own [32]byte
		rand.Read(own[:])
		wrap, err := wrapper(key, id)
		if err != nil {
			return h, nil, err
		}
		wrap.Seal(h[:wrappedAt], h[48:wrappedAt], own[:], wrapData(h, name))
		if aead, err = newGCM(own[:]); err != nil {
			return h, nil, err
		}
	}
	binary.LittleEndian.PutUint32(h[checksumAt:], crc32.Checksum(h[:checksumAt], castagnoli))
	return h, aead, nil
}

// open checks the header of the object with the given name and kind, and gives
// the cipher of its frames.
func (h *header) open(name string, kind Kind, ring Keyring) (cipher.AEAD, error) {
	switch {
	case [8]byte(h[:8]) != magic:
		return nil, repo.Damaged(name, "it does not begin as an object of Salvor")
	case binary.LittleEndian.Uint32(h[checksumAt:]) != crc32.Checksum(h[:checksumAt], castagnoli):
		return nil, repo.Damaged(name, "the checksum of its header is wrong")
	case binary.LittleEndian.Uint16(h[8:]) != repo.FormatVersion, binary.LittleEndian.Uint32(h[12:]) != HeaderSize:
		return nil, fmt.Errorf("object %s has format version %d, this release reads %d: %w",
			name, binary.LittleEndian.Uint16(h[8:]), repo.FormatVersion, repo.ErrUnknownFormat)
	case Kind(h[10]) != kind:
		return nil, repo.Damaged(name, "it is an object of kind %d, not %d", h[10], kind)
	}
	switch {
	case h[11] == sealNone && ring == nil:
		return newTagger(h[:authenticated], name), nil
	case h[11] == sealAESGCM && ring != nil:
		return h.unwrap(name, ring)
	case h[11] == sealNone:
		return nil, repo.Damaged(name, "it is not encrypted, and everything in this repository is")
	}
	return nil, repo.Damaged(name, "it is sealed in a way (%d) that this repository does not use", h[11])
}

func (h *header) unwrap(name string, ring Keyring) (cipher.AEAD, error) {
	master, ok := ring.Lookup(repo.ID(h[32:48]))
	if !ok {
		return nil, fmt.Errorf("object %s is sealed with master key %s, which this key does not open: %w",
			name, repo.ID(h[32:48]), repo.ErrWrongKey)
	}
	wrap, err := wrapper(master, h.id())
	if err != nil {
		return nil, err
	}
	own, err := wrap.Open(nil, h[48:wrappedAt], h[wrappedAt:checksumAt], wrapData(*h, name))
	if err != nil {
		return nil, repo.Damaged(name, "its own key does not open: the object was changed, renamed or swapped")
	}
	return newGCM(own)
}

func (h *header) id() repo.ID { return repo.ID(h[16:32]) }

// digest stands for the header, and by the random key in it for the object.
func (h *header) digest() [32]byte { return blake3.Sum256(h[:]) }

func wrapData(h header, name string) []byte { return append(h[:authenticated:authenticated], name...) }

// wrapper derives the cipher for one object's key by HKDF (RFC 5869), so that
// no key wraps twice.
func wrapper(master [32]byte, object repo.ID) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, master[:], nil, "salvor 1 object key "+object.String(), 32)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return newGCM(key)
}
