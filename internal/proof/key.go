package proof

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// Types of PEM blocks.
const (
	privateType = "PRIVATE KEY"
	publicType  = "PUBLIC KEY"
)

// Signer is a private key.
type Signer struct {
	key    ed25519.PrivateKey
	public PublicKey
}

// PublicKey checks what its private key has signed.
type PublicKey struct {
	key ed25519.PublicKey
	der []byte
}

// NewSigner draws a key.
func NewSigner() (*Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("drawing a signing key: %w", err)
	}
	return signerOf(key)
}

func signerOf(key ed25519.PrivateKey) (*Signer, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("an Ed25519 key has a public key of another kind")
	}
	p, err := publicOf(public)
	return &Signer{key, p}, err
}

func publicOf(key ed25519.PublicKey) (PublicKey, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return PublicKey{}, fmt.Errorf("encoding a public key: %w", err)
	}
	return PublicKey{key, der}, nil
}

// ParseSigner reads a private key: PEM with PKCS#8, as `openssl genpkey -algorithm
// ed25519` makes it. No error repeats what it was given.
func ParseSigner(text []byte) (*Signer, error) {
	b, _ := pem.Decode(text)
	switch {
	case b == nil:
		return nil, errors.New("no private key in PEM: want what `openssl genpkey -algorithm ed25519` makes")
	case b.Type == publicType:
		return nil, errors.New("it is a public key, and signing needs the private one")
	case b.Type != privateType:
		return nil, fmt.Errorf("it is PEM of %.40q: want %q, as `openssl genpkey -algorithm ed25519` makes it", b.Type, privateType)
	}
	v, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, errors.New("the private key is not PKCS#8, or is damaged")
	}
	key, ok := v.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it is a private key of another kind (%T): want Ed25519", v)
	}
	return signerOf(key)
}

// PEM is the file of the key, which ParseSigner reads.
func (s *Signer) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		return nil, fmt.Errorf("encoding a signing key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateType, Bytes: der}), nil
}

// Public is the key that checks what the signer signs.
func (s *Signer) Public() PublicKey { return s.public }

// ParsePublicKey reads a public key: PEM with SubjectPublicKeyInfo, as `openssl pkey
// -pubout` makes it.
func ParsePublicKey(text []byte) (PublicKey, error) {
	b, _ := pem.Decode(text)
	switch {
	case b == nil:
		return PublicKey{}, errors.New("no public key in PEM: want what `openssl pkey -pubout` makes")
	case b.Type == privateType:
		return PublicKey{}, errors.New("it is a private key, which belongs where proofs are made, and nowhere else: want the public one")
	case b.Type != publicType:
		return PublicKey{}, fmt.Errorf("it is PEM of %.40q: want %q, as `openssl pkey -pubout` makes it", b.Type, publicType)
	}
	v, err := x509.ParsePKIXPublicKey(b.Bytes)
	if err != nil {
		return PublicKey{}, fmt.Errorf("reading a public key: %w", err)
	}
	key, ok := v.(ed25519.PublicKey)
	if !ok {
		return PublicKey{}, fmt.Errorf("it is a public key of another kind (%T): want Ed25519", v)
	}
	return publicOf(key)
}

// PEM is the file of the key, which ParsePublicKey reads.
func (k PublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: publicType, Bytes: k.der})
}

// ID is the SHA-256 of the key's DER, in hexadecimal digits.
func (k PublicKey) ID() string {
	sum := sha256.Sum256(k.der)
	return hex.EncodeToString(sum[:])
}
