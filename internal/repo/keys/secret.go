package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"filippo.io/age"
	"golang.org/x/crypto/argon2"

	"github.com/salvor-dr/salvor/internal/repo"
)

const (
	identityPrefix = "AGE-SECRET-KEY-1"

	// RFC 9106's second recommended choice: 64 MiB, three passes, four lanes.
	argonTime      = 3
	argonMemoryKiB = 64 << 10
	argonLanes     = 4

	// Bounds for what a keys object may ask of the machine that opens it.
	maxArgonTime      = 16
	maxArgonMemoryKiB = 256 << 10

	minPassphrase = 12
	maxBundle     = 64 << 10
)

// Secret opens a slot: a passphrase or an age identity.
type Secret struct {
	identity   *age.X25519Identity
	passphrase string
}

// ParseSecret reads the content of a key file: an age X25519 identity if a line
// begins with AGE-SECRET-KEY-1 (lines that begin with # don't count, as age-keygen
// writes them), else a passphrase, without the line end.
func ParseSecret(content []byte) (Secret, error) {
	text := strings.TrimSpace(string(content))
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, identityPrefix) {
			continue
		}
		id, err := age.ParseX25519Identity(line)
		if err != nil {
			return Secret{}, errors.New("the key begins as an age identity, but is none") // err would show it
		}
		return Secret{identity: id}, nil
	}
	switch {
	case text == "":
		return Secret{}, errors.New("the key is empty")
	case len(text) < minPassphrase:
		return Secret{}, fmt.Errorf("a passphrase needs %d characters or more", minPassphrase)
	}
	return Secret{passphrase: text}, nil
}

// NewIdentity draws an age identity and gives it with its text, which is the
// content for a key file.
func NewIdentity() (Secret, string, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return Secret{}, "", fmt.Errorf("drawing a key: %w", err)
	}
	return Secret{identity: id}, id.String(), nil
}

// Slow says that opening a repository with this secret takes long on purpose.
func (s Secret) Slow() bool { return s.identity == nil }

// slot is a bundle of master keys, wrapped for one secret.
type slot struct {
	ID        repo.ID   `json:"id"`
	Kind      string    `json:"kind"` // "passphrase" or "age"
	CreatedAt time.Time `json:"created_at"`
	Recipient string    `json:"recipient,omitempty"` // age
	MAC       []byte    `json:"mac,omitempty"`       // age, see Secret.mac
	KDF       *argon    `json:"kdf,omitempty"`       // passphrase
	Nonce     []byte    `json:"nonce,omitempty"`     // passphrase
	Wrapped   []byte    `json:"wrapped"`
}

type argon struct {
	Name      string `json:"name"`
	Salt      []byte `json:"salt"`
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memory_kib"`
	Lanes     uint8  `json:"lanes"`
}

// wrap makes the slot that secret opens.
func (s Secret) wrap(bundle []byte, now time.Time) (slot, error) {
	out := slot{ID: repo.NewID(), CreatedAt: now.UTC()}
	if s.identity == nil {
		return out, out.wrapPassphrase(s.passphrase, bundle)
	}
	out.Kind, out.Recipient = "age", s.identity.Recipient().String()
	var buf bytes.Buffer
	w, err := age.Encrypt(&buf, s.identity.Recipient())
	if err == nil {
		if _, err = w.Write(bundle); err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		return slot{}, fmt.Errorf("wrapping the master keys: %w", err)
	}
	out.Wrapped = buf.Bytes()
	out.MAC, err = s.mac(out)
	return out, err
}

// mac is HMAC-SHA-256 over a slot's identity and what it wraps, with a key derived
// from the age identity. Anybody can encrypt to a recipient, which stands in the
// keys object: without this, who can write to the store could put keys of his own
// there, and read all that is backed up from then on.
func (s Secret) mac(l slot) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, []byte(s.identity.String()), nil, "salvor 1 age slot mac", 32)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	h := hmac.New(sha256.New, key)
	h.Write(l.ID[:])
	h.Write(l.Wrapped)
	return h.Sum(nil), nil
}

func (l *slot) wrapPassphrase(passphrase string, bundle []byte) error {
	l.Kind = "passphrase"
	l.KDF = &argon{Name: "argon2id", Salt: make([]byte, 16), Time: argonTime, MemoryKiB: argonMemoryKiB, Lanes: argonLanes}
	rand.Read(l.KDF.Salt)
	l.Nonce = make([]byte, 12)
	rand.Read(l.Nonce)
	aead, err := l.KDF.cipher(passphrase)
	if err != nil {
		return err
	}
	l.Wrapped = aead.Seal(nil, l.Nonce, bundle, l.ID[:])
	return nil
}

// unwrap gives the bundle, and false if the secret does not open the slot.
func (s Secret) unwrap(l slot) ([]byte, bool) {
	switch {
	case l.Kind == "age" && s.identity != nil:
		if mac, err := s.mac(l); err != nil || !hmac.Equal(mac, l.MAC) {
			return nil, false
		}
		r, err := age.Decrypt(bytes.NewReader(l.Wrapped), s.identity)
		if err != nil {
			return nil, false
		}
		bundle, err := io.ReadAll(io.LimitReader(r, maxBundle))
		return bundle, err == nil
	case l.Kind == "passphrase" && s.identity == nil && l.KDF != nil && len(l.Nonce) == 12:
		aead, err := l.KDF.cipher(s.passphrase)
		if err != nil {
			return nil, false
		}
		bundle, err := aead.Open(nil, l.Nonce, l.Wrapped, l.ID[:])
		return bundle, err == nil
	}
	return nil, false
}

func (a argon) cipher(passphrase string) (cipher.AEAD, error) {
	if a.Name != "argon2id" || a.Time == 0 || a.Time > maxArgonTime || a.Lanes == 0 ||
		a.MemoryKiB < 8*uint32(a.Lanes) || a.MemoryKiB > maxArgonMemoryKiB {
		return nil, fmt.Errorf("key derivation %q with %d passes over %d KiB is not accepted", a.Name, a.Time, a.MemoryKiB)
	}
	key := argon2.IDKey([]byte(passphrase), a.Salt, a.Time, a.MemoryKiB, a.Lanes, 32)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
