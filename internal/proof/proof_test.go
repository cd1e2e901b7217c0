package proof

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// signer reads a key that is of no use for anything else.
func signer(t testing.TB) *Signer {
	t.Helper()
	text, err := os.ReadFile("testdata/openssl.key")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSigner(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func statement() Statement {
	return Statement{Subject: []Subject{{Name: "20261124T060000Z-000001", Digest: map[string]string{"sha256": Digest([]byte("head"))}}},
		PredicateType: "https://example.com/proof/v1", Predicate: json.RawMessage(`{"ok":true}`)}
}

// Keys that openssl made are read, and written as it writes them.
func TestKeys(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/openssl.pub")
	if err != nil {
		t.Fatal(err)
	}
	public, err := ParsePublicKey(text)
	s := signer(t)
	if err != nil || !bytes.Equal(s.Public().PEM(), text) || s.Public().ID() != public.ID() {
		t.Errorf("%v\n%s", err, s.Public().PEM())
	}
	private, err := os.ReadFile("testdata/openssl.key")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.PEM(); err != nil || !bytes.Equal(got, private) {
		t.Errorf("%v: another file of the private key", err)
	}
	// openssl pkey -pubin -in openssl.pub -outform DER | sha256sum
	if want := "80ae4a"; !strings.HasPrefix(public.ID(), want) || len(public.ID()) != 64 {
		t.Errorf("the key is %s, want %s…", public.ID(), want)
	}
	drawn, err := NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	text, err = drawn.PEM()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParseSigner(bytes.TrimSuffix(text, []byte("\n"))); err != nil || again.Public().ID() != drawn.Public().ID() || again.Public().ID() == public.ID() {
		t.Errorf("a key that was drawn: %v", err)
	}
}

// Files of something else are refused, and no secret is repeated.
func TestKeysRefused(t *testing.T) {
	t.Parallel()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	otherPrivate, err1 := x509.MarshalPKCS8PrivateKey(other)
	otherPublic, err2 := x509.MarshalPKIXPublicKey(other.Public())
	private, err3 := signer(t).PEM()
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})
	}
	public := signer(t).Public().PEM()
	for _, c := range []struct {
		private bool
		text    []byte
		want    string
	}{
		{true, nil, "openssl genpkey"},
		{true, []byte("secret"), "openssl genpkey"},
		{true, public, "public key"},
		{true, block("OPENSSH PRIVATE KEY", []byte("secret")), "OPENSSH"},
		{true, block(privateType, []byte("secret")), "damaged"},
		{true, block(privateType, otherPrivate), "another kind"},
		{false, nil, "openssl pkey -pubout"},
		{false, private, "private key"},
		{false, block("CERTIFICATE", nil), "CERTIFICATE"},
		{false, block(publicType, []byte{1}), "reading a public key"},
		{false, block(publicType, otherPublic), "another kind"},
	} {
		_, err := ParsePublicKey(c.text)
		if c.private {
			_, err = ParseSigner(c.text)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %s", c.text, err, c.want)
		}
	}
}

// The examples of DSSE's own page (protocol.md, "Test Vectors").
func TestPAE(t *testing.T) {
	t.Parallel()
	if got := string(PAE("http://example.com/HelloWorld", []byte("hello world"))); got != "DSSEv1 29 http://example.com/HelloWorld 11 hello world" {
		t.Errorf("%q", got)
	}
	if got := string(PAE("", nil)); got != "DSSEv1 0  0 " {
		t.Errorf("%q", got)
	}
}

func TestSealed(t *testing.T) {
	t.Parallel()
	s := signer(t)
	b, err := Seal(statement(), s)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	want := statement()
	want.Type = StatementType
	got, err := e.Statement()
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	if d := cmp.Diff([]string{s.Public().ID()}, e.KeyIDs()); d != "" {
		t.Error(d)
	}
	other, err := NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	if k, err := e.Check(other.Public(), s.Public()); err != nil || k.ID() != s.Public().ID() {
		t.Errorf("with both keys: %v", err)
	}
	for what, keys := range map[string][]PublicKey{"another key": {other.Public()}, "no key": nil} {
		if _, err := e.Check(keys...); !errors.Is(err, ErrOtherKey) {
			t.Errorf("with %s: %v", what, err)
		}
	}

	// A signature counts whatever it is called, and a name of a key alone is worth nothing.
	e.Signatures[0].KeyID = "somebody"
	if _, err := e.Check(s.Public()); err != nil {
		t.Error(err)
	}
	e.Signatures = []Signature{{s.Public().ID(), nil}}
	if _, err := e.Check(s.Public()); !errors.Is(err, ErrForged) {
		t.Error(err)
	}
	b, err = Seal(statement())
	if err != nil || !bytes.Contains(b, []byte(`"signatures":[]`)) {
		t.Fatalf("%s, %v", b, err)
	}
	if e, err = Parse(b); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Check(s.Public()); !errors.Is(err, ErrUnsigned) {
		t.Error(err)
	}
}

// Whatever bit of payload or signature is another, the signature is not of it.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	s := signer(t)
	b, err := Seal(statement(), s)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]byte{e.Payload, e.Signatures[0].Bytes} {
		for i := range part {
			part[i] ^= 1 << (i % 8)
			if _, err := e.Check(s.Public()); !errors.Is(err, ErrForged) {
				t.Fatalf("byte %d: %v", i, err)
			}
			part[i] ^= 1 << (i % 8)
		}
	}
	if _, err := e.Check(s.Public()); err != nil {
		t.Fatal(err)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	payload := base64.StdEncoding.EncodeToString([]byte(`{"_type":"https://in-toto.io/Statement/v1"}`))
	const kind = `"payloadType":"application/vnd.in-toto+json"`
	for what, c := range map[string]struct{ text, want string }{
		"nothing":            {"", "reading an envelope"},
		"more behind it":     {"{" + kind + "} {}", "reading an envelope"},
		"of something else":  {`{"payloadType":"text/plain","payload":""}`, "payloadType"},
		"no base64":          {"{" + kind + `,"payload":"%"}`, "reading an envelope"},
		"too many":           {"{" + kind + `,"signatures":[` + strings.Repeat("{},", 16) + "{}]}", "17 signatures"},
		"too long":           {strings.Repeat(" ", EnvelopeMax+1), "at most"},
		"another statement":  {"{" + kind + `,"payload":"e30="}`, "of type"},
		"no statement":       {"{" + kind + `,"payload":"e30"}`, "reading an envelope"},
		"an empty statement": {"{" + kind + `,"payload":""}`, "reading a statement"},
		"both alphabets":     {"{" + kind + `,"payload":"` + payload + `","signatures":[{"sig":"-_-_"},{"sig":"+/+/"}]}`, ""},
	} {
		e, err := Parse([]byte(c.text))
		if err == nil {
			_, err = e.Statement()
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}

// What is signed here, openssl checks, and the other way round.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	dir := t.TempDir()
	b, err := Seal(statement(), signer(t))
	if err != nil {
		t.Fatal(err)
	}
	e, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	message, signature := filepath.Join(dir, "message"), filepath.Join(dir, "signature")
	if err := errors.Join(os.WriteFile(message, PAE(PayloadType, e.Payload), 0o600), os.WriteFile(signature, e.Signatures[0].Bytes, 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, "pkeyutl", "-verify", "-pubin", "-inkey", "testdata/openssl.pub", "-rawin", "-in", message, "-sigfile", signature).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), program, "pkeyutl", "-sign", "-inkey", "testdata/openssl.key", "-rawin", "-in", message).Output()
	if e.Signatures[0].Bytes = out; err != nil {
		t.Fatal(err)
	}
	if _, err := e.Check(signer(t).Public()); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	s := signer(f)
	for _, signers := range [][]*Signer{nil, {s}, {s, s}} {
		b, err := Seal(statement(), signers...)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Add([]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"sig":"-_=="},null]}`))
	signed, err := Seal(statement(), s)
	if err != nil {
		f.Fatal(err)
	}
	good, err := Parse(signed)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err != nil {
			return
		}
		if _, err := e.Check(s.Public()); err == nil && !bytes.Equal(e.Payload, good.Payload) {
			t.Fatalf("signed: %q", e.Payload)
		}
		got, err := e.Statement()
		if err != nil {
			return
		}
		again, err := Seal(got, s)
		if err != nil {
			t.Fatalf("%+v: %v", got, err)
		}
		e, err = Parse(again)
		if err == nil {
			_, err = e.Check(s.Public())
		}
		if len(again) <= EnvelopeMax && err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}
