package proof

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// PayloadType says that an envelope holds a statement.
const PayloadType = "application/vnd.in-toto+json"

const (
	// EnvelopeMax is the longest envelope that is read, in bytes. A proof with as many
	// problems as one may have, each with long names, has less than half of it.
	EnvelopeMax = 4 << 20
	// signaturesMax bounds the work of checking one.
	signaturesMax = 16
)

// Envelope is a statement and its signatures.
type Envelope struct {
	Payload    []byte // the statement's bytes, which are what is signed
	Signatures []Signature
}

// Signature is of an envelope's payload.
type Signature struct {
	KeyID string // PublicKey.ID; a hint, which nothing relies on
	Bytes []byte
}

// encoded is an envelope as its file has it.
type encoded struct {
	PayloadType string             `json:"payloadType"`
	Payload     binary             `json:"payload"`
	Signatures  []encodedSignature `json:"signatures"`
}

type encodedSignature struct {
	KeyID string `json:"keyid"`
	Sig   binary `json:"sig"`
}

// binary is bytes in base64. Both alphabets of RFC 4648 are read, as DSSE wants it.
type binary []byte

// MarshalText implements encoding.TextMarshaler.
func (b binary) MarshalText() ([]byte, error) { return base64.StdEncoding.AppendEncode(nil, b), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *binary) UnmarshalText(text []byte) error {
	out, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		out, err = base64.URLEncoding.AppendDecode(nil, text)
	}
	*b = out
	return err
}

// Seal makes an envelope of a statement, signed by each of the signers: by none, it is
// not signed.
func Seal(s Statement, signers ...*Signer) ([]byte, error) {
	s.Type = StatementType
	payload, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding a statement: %w", err)
	}
	e := encoded{PayloadType: PayloadType, Payload: payload, Signatures: []encodedSignature{}}
	for _, k := range signers {
		e.Signatures = append(e.Signatures, encodedSignature{k.public.ID(), ed25519.Sign(k.key, PAE(PayloadType, payload))})
	}
	return json.Marshal(e)
}

// PAE is what a signature of DSSE is of: the type and the payload, each with its length
// before it.
func PAE(payloadType string, payload []byte) []byte {
	b := append([]byte("DSSEv1 "), strconv.Itoa(len(payloadType))...)
	b = append(append(b, ' '), payloadType...)
	b = strconv.AppendInt(append(b, ' '), int64(len(payload)), 10)
	return append(append(b, ' '), payload...)
}

// Parse reads an envelope of a statement. What it says has not been checked then.
func Parse(b []byte) (Envelope, error) {
	if len(b) > EnvelopeMax {
		return Envelope{}, fmt.Errorf("it has %d bytes, and an envelope has at most %d", len(b), EnvelopeMax)
	}
	var e encoded
	if err := json.Unmarshal(b, &e); err != nil {
		return Envelope{}, fmt.Errorf("reading an envelope: %w", err)
	}
	switch {
	case e.PayloadType != PayloadType:
		return Envelope{}, fmt.Errorf("it is no envelope of a statement: its payloadType is %.80q, and not %q", e.PayloadType, PayloadType)
	case len(e.Signatures) > signaturesMax:
		return Envelope{}, fmt.Errorf("it has %d signatures, and at most %d are checked", len(e.Signatures), signaturesMax)
	}
	out := Envelope{Payload: e.Payload}
	for _, s := range e.Signatures {
		out.Signatures = append(out.Signatures, Signature{s.KeyID, s.Sig})
	}
	return out, nil
}

// Statement reads what the envelope holds.
func (e Envelope) Statement() (Statement, error) { return parseStatement(e.Payload) }

// KeyIDs names the keys that the envelope says it is signed with.
func (e Envelope) KeyIDs() []string {
	var ids []string
	for _, s := range e.Signatures {
		ids = append(ids, s.KeyID)
	}
	return ids
}

// ErrUnsigned says that an envelope has no signature at all.
var ErrUnsigned = errors.New("it is not signed")

// ErrOtherKey says that an envelope is signed, and by none of the keys that it was
// checked with, as it says itself.
var ErrOtherKey = errors.New("it is signed with another key")

// ErrForged says that a signature which names one of the keys is not of this payload.
var ErrForged = errors.New("its signature is not of what it says: it was changed, or is forged")

// Check gives the first of the keys that has signed the envelope. It fails with
// ErrUnsigned, ErrOtherKey or ErrForged.
func (e Envelope) Check(keys ...PublicKey) (PublicKey, error) {
	if len(e.Signatures) == 0 {
		return PublicKey{}, ErrUnsigned
	}
	message := PAE(PayloadType, e.Payload)
	named := false
	for _, k := range keys {
		id := k.ID()
		for _, s := range e.Signatures {
			if len(s.Bytes) == ed25519.SignatureSize && ed25519.Verify(k.key, message, s.Bytes) {
				return k, nil
			}
			named = named || strings.EqualFold(s.KeyID, id) || s.KeyID == ""
		}
	}
	if named {
		return PublicKey{}, ErrForged
	}
	return PublicKey{}, fmt.Errorf("%w: %.64q", ErrOtherKey, e.Signatures[0].KeyID)
}

// Digest is the SHA-256 of bytes, in hexadecimal digits: of an envelope, that by which
// the next one names it.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
