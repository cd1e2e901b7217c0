package keys

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

var (
	now       = time.Date(2026, 11, 24, 6, 51, 0, 0, time.UTC)
	aboutText = []byte(`{"format_version": 1}`)
	repoID    = repo.ID{42}
)

func identity(t testing.TB) Secret {
	t.Helper()
	s, _, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func passphrase(t testing.TB, text string) Secret {
	t.Helper()
	s, err := ParseSecret([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// made gives a store with keys for the secrets, and the ring that Init returned.
func made(t testing.TB, secrets ...Secret) (*mem.Store, *Ring) {
	t.Helper()
	st := mem.New(mem.Options{})
	ring, err := Init(t.Context(), st, repoID, aboutText, secrets, now)
	if err != nil {
		t.Fatal(err)
	}
	return st, ring
}

func raw(t testing.TB, st store.Store) []byte {
	t.Helper()
	b, err := store.Get(t.Context(), st, name(1), maxObject)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t testing.TB, st store.Store, key string, data []byte) {
	t.Helper()
	if _, err := store.Put(t.Context(), st, key, data, store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	machine, person := identity(t), passphrase(t, "correct horse battery\n")
	st, want := made(t, machine, person)
	for name, s := range map[string]Secret{"identity": machine, "passphrase": person} {
		got, err := Open(t.Context(), st, repoID, aboutText, s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		id, key := got.Current()
		wantID, wantKey := want.Current()
		if id != wantID || key != wantKey || key == [32]byte{} {
			t.Errorf("%s: another master key", name)
		}
		if k, ok := got.Lookup(id); !ok || k != key {
			t.Errorf("%s: Lookup does not find the current key", name)
		}
		if _, ok := got.Lookup(repo.ID{}); ok {
			t.Errorf("%s: Lookup finds what is not there", name)
		}
	}
	for name, s := range map[string]Secret{"identity": identity(t), "passphrase": passphrase(t, "correct horse batterY")} {
		if _, err := Open(t.Context(), st, repoID, aboutText, s); !errors.Is(err, repo.ErrWrongKey) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if b := raw(t, st); bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString([]byte("correct"))[:8])) || bytes.Contains(b, []byte("AGE-SECRET")) {
		t.Error("a secret shows in the keys object")
	}
	if machine.Slow() || !person.Slow() {
		t.Error("the passphrase is the slow one")
	}
}

func TestInitOnce(t *testing.T) {
	t.Parallel()
	s := identity(t)
	st, _ := made(t, s)
	if _, err := Init(t.Context(), st, repoID, aboutText, []Secret{s}, now); !errors.Is(err, store.ErrExists) {
		t.Errorf("twice: %v", err)
	}
}

func TestParseSecret(t *testing.T) {
	t.Parallel()
	_, text, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content  string
		ok, slow bool
	}{
		"identity":             {text, true, false},
		"as age-keygen writes": {"# created: today\n# public key: age1x\n" + text + "\n", true, false},
		"passphrase":           {"correct horse\n", true, true},
		"spaces around":        {"  correct horse  \n", true, true},
		"short":                {"horse", false, false},
		"empty":                {" \n", false, false},
		"damaged identity":     {text[:len(text)-1] + "!", false, false},
	} {
		s, err := ParseSecret([]byte(c.content))
		if (err == nil) != c.ok || c.ok && s.Slow() != c.slow {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && len(c.content) > 20 && strings.Contains(err.Error(), text[20:40]) {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
	a, b := passphrase(t, "correct horse"), passphrase(t, "  correct horse\n\n")
	if a.passphrase != b.passphrase {
		t.Error("white space around a passphrase counts")
	}
}

// Any change of the keys object or of salvor.json is seen, and is no panic.
func TestTampering(t *testing.T) {
	t.Parallel()
	s := identity(t)
	st, _ := made(t, s)
	whole := raw(t, st)
	seen := func(what string) {
		t.Helper()
		_, err := Open(t.Context(), st, repoID, aboutText, s)
		if !errors.Is(err, repo.ErrDamaged) && !errors.Is(err, repo.ErrWrongKey) && !errors.Is(err, repo.ErrUnknownFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range whole {
		for _, flip := range []byte{1, 0x20, 0x80} { // 0x20 makes a digit a capital
			bad := bytes.Clone(whole)
			bad[i] ^= flip
			put(t, st, name(1), bad)
			seen(fmt.Sprintf("byte %d, %q to %q", i, whole[i], bad[i]))
		}
	}
	for _, n := range []int{0, 1, len(whole) / 2, bytes.IndexByte(whole, '\n'), bytes.IndexByte(whole, '\n') + 1, len(whole) - 2, len(whole) - 1} {
		put(t, st, name(1), whole[:n])
		seen(fmt.Sprintf("cut to %d", n))
	}
	put(t, st, name(1), append(bytes.Clone(whole), "more\n"...))
	seen("longer")

	put(t, st, name(1), whole)
	if _, err := Open(t.Context(), st, repoID, append([]byte(" "), aboutText...), s); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("another salvor.json: %v", err)
	}
	if _, err := Open(t.Context(), st, repo.ID{43}, aboutText, s); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("keys of another repository: %v", err)
	}
	put(t, st, name(2), whole)
	seen("an old keys object under a new number")
	if err := errors.Join(st.Delete(t.Context(), name(1), ""), st.Delete(t.Context(), name(2), "")); err != nil {
		t.Fatal(err)
	}
	seen("no keys object")
}

// edit changes the first line of a keys object as a document, and leaves the MAC.
func edit(t testing.TB, st store.Store, change func(d *document)) {
	t.Helper()
	d, err := parseDocument(raw(t, st))
	if err != nil {
		t.Fatal(err)
	}
	change(d)
	line, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	put(t, st, name(1), fmt.Appendf(line, "\n%x\n", d.mac))
}

// Who can write to the store knows the recipient, and so can make a slot for it
// with keys of his own. It must not open: he could read everything from then on.
func TestForeignKeys(t *testing.T) {
	t.Parallel()
	mine, his := identity(t), identity(t)
	st, _ := made(t, mine)
	forged := mem.New(mem.Options{})
	if _, err := Init(t.Context(), forged, repoID, aboutText, []Secret{his}, now); err != nil {
		t.Fatal(err)
	}
	d, err := parseDocument(raw(t, forged))
	if err != nil {
		t.Fatal(err)
	}
	bundle, ok := his.unwrap(d.Slots[0])
	if !ok {
		t.Fatal("he cannot open his own slot")
	}
	var buf bytes.Buffer
	w, err := age.Encrypt(&buf, mine.identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bundle); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	var b struct{ Masters []wrapped }
	if err := json.Unmarshal(bundle, &b); err != nil {
		t.Fatal(err)
	}
	d.Slots[0].Wrapped = buf.Bytes()
	d.Slots[0].Recipient = mine.identity.Recipient().String()
	line, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	mac, err := macOf([32]byte(b.Masters[0].Key), aboutText, line)
	if err != nil {
		t.Fatal(err)
	}
	put(t, st, name(1), fmt.Appendf(line, "\n%x\n", mac))
	if _, err := Open(t.Context(), st, repoID, aboutText, mine); !errors.Is(err, repo.ErrWrongKey) {
		t.Errorf("keys of somebody else opened: %v", err)
	}
}

// cheapSlot wraps "bundle" for a passphrase at a cost that a test can bear often.
func cheapSlot(t *testing.T, s Secret) slot {
	l := slot{ID: repo.NewID(), Kind: "passphrase", KDF: &argon{Name: "argon2id", Salt: make([]byte, 16), Time: 1, MemoryKiB: 8, Lanes: 1},
		Nonce: make([]byte, 12)}
	aead, err := l.KDF.cipher(s.passphrase)
	if err != nil {
		t.Fatal(err)
	}
	l.Wrapped = aead.Seal(nil, l.Nonce, []byte("bundle"), l.ID[:])
	return l
}

// What a keys object asks of the machine is bounded.
func TestAbsurdCost(t *testing.T) {
	t.Parallel()
	s := passphrase(t, "correct horse battery")
	st, _ := made(t, s)
	whole := raw(t, st)
	for what, change := range map[string]func(*argon){
		"no passes":     func(a *argon) { a.Time = 0 },
		"many passes":   func(a *argon) { a.Time = 1 << 30 },
		"much memory":   func(a *argon) { a.MemoryKiB = 1 << 31 },
		"no memory":     func(a *argon) { a.MemoryKiB = 0 },
		"little memory": func(a *argon) { a.MemoryKiB = 8*argonLanes - 1 },
		"no lanes":      func(a *argon) { a.Lanes = 0 },
		"another name":  func(a *argon) { a.Name = "scrypt" },
	} {
		put(t, st, name(1), whole)
		edit(t, st, func(d *document) { change(d.Slots[0].KDF) })
		if _, err := Open(t.Context(), st, repoID, aboutText, s); !errors.Is(err, repo.ErrWrongKey) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, change := range map[string]func(*slot){
		"no key derivation": func(l *slot) { l.KDF = nil },
		"no nonce":          func(l *slot) { l.Nonce = nil },
		"a long nonce":      func(l *slot) { l.Nonce = make([]byte, 13) },
		"nothing wrapped":   func(l *slot) { l.Wrapped = nil },
		"another slot":      func(l *slot) { l.ID[0] ^= 1 },
		"another kind":      func(l *slot) { l.Kind = "age" },
	} {
		l := cheapSlot(t, s)
		if b, ok := s.unwrap(l); !ok || string(b) != "bundle" {
			t.Fatal("the slot does not open as it is")
		}
		change(&l)
		if _, ok := s.unwrap(l); ok {
			t.Errorf("%s: the slot opens", what)
		}
	}
	put(t, st, name(1), whole)
	edit(t, st, func(d *document) {
		for len(d.Slots) <= maxSlots {
			d.Slots = append(d.Slots, d.Slots[0])
		}
	})
	if _, err := Open(t.Context(), st, repoID, aboutText, s); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("too many slots: %v", err)
	}
	put(t, st, name(1), bytes.Repeat([]byte{' '}, maxObject+1))
	if _, err := Open(t.Context(), st, repoID, aboutText, s); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("an object too large: %v", err)
	}
}

// The newest keys object counts, and names that are none don't disturb.
func TestNewest(t *testing.T) {
	t.Parallel()
	s := identity(t)
	st, _ := made(t, s)
	for _, key := range []string{"keys/1", "keys/00000002.tmp", "keys/x", "keys/00000003/y"} {
		put(t, st, key, []byte("not ours"))
	}
	if _, err := Open(t.Context(), st, repoID, aboutText, s); err != nil {
		t.Error(err)
	}
	edit(t, st, func(d *document) { d.FormatVersion = 2 })
	if _, err := Open(t.Context(), st, repoID, aboutText, s); !errors.Is(err, repo.ErrUnknownFormat) {
		t.Errorf("a newer format: %v", err)
	}
}

// Errors of the store come through, and are neither damage nor a wrong key.
func TestStoreFaults(t *testing.T) {
	t.Parallel()
	s := identity(t)
	made(t, s)
	for _, op := range []mem.Op{mem.OpList, mem.OpOpen, mem.OpRead, mem.OpCommit} {
		broken := false
		st := mem.New(mem.Options{Hook: func(_ context.Context, c *mem.Call) error {
			if broken && c.Op == op {
				return store.ErrUnavailable
			}
			return nil
		}})
		if op != mem.OpCommit {
			if _, err := Init(t.Context(), st, repoID, aboutText, []Secret{s}, now); err != nil {
				t.Fatal(err)
			}
		}
		broken = true
		_, err := Open(t.Context(), st, repoID, aboutText, s)
		if op == mem.OpCommit {
			_, err = Init(t.Context(), st, repoID, aboutText, []Secret{s}, now)
		}
		if !errors.Is(err, store.ErrUnavailable) || errors.Is(err, repo.ErrWrongKey) || errors.Is(err, repo.ErrDamaged) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func FuzzParseDocument(f *testing.F) {
	s := identity(f)
	st, _ := made(f, s)
	f.Add(raw(f, st))
	f.Add([]byte("{}\n00\n"))
	f.Add([]byte("null\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDocument(b)
		if err != nil {
			return
		}
		for _, l := range d.Slots {
			if plain, ok := s.unwrap(l); ok {
				_, _ = d.open("keys/00000001", repoID, aboutText, plain)
			}
		}
		_, _ = d.open("keys/00000001", repoID, aboutText, b)
	})
}
