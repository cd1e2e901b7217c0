package keys

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
)

const (
	prefix = "keys/"
	// maxObject bounds a keys object, in bytes.
	maxObject = 1 << 20
	// maxSlots bounds how often one who can write to the store makes us derive.
	maxSlots = 64
)

// Ring holds a repository's master keys, opened. It is a seal.Keyring.
type Ring struct {
	current repo.ID
	masters map[repo.ID][32]byte
}

// Current gives the master key that seals new objects.
func (r *Ring) Current() (repo.ID, [32]byte) { return r.current, r.masters[r.current] }

// Lookup gives a master key by its identity.
func (r *Ring) Lookup(id repo.ID) ([32]byte, bool) {
	k, ok := r.masters[id]
	return k, ok
}

// document is the first line of a keys object: JSON, not sealed. The second line
// is its MAC in hexadecimal digits, over the very bytes of the first.
type document struct {
	FormatVersion int       `json:"format_version"`
	Counter       uint64    `json:"counter"` // its number
	RepositoryID  repo.ID   `json:"repository_id"`
	CreatedAt     time.Time `json:"created_at"`
	Slots         []slot    `json:"slots"`

	line, mac []byte // as read
}

// bundle is what a slot wraps.
type bundle struct {
	RepositoryID repo.ID   `json:"repository_id"`
	Counter      uint64    `json:"counter"`
	Current      repo.ID   `json:"current"`
	Masters      []wrapped `json:"masters"`
}

type wrapped struct {
	ID        repo.ID   `json:"id"`
	Key       []byte    `json:"key"`
	CreatedAt time.Time `json:"created_at"`
}

// Init draws a master key and writes keys/00000001, with a slot for each secret.
// about is the content of salvor.json, which the MAC covers.
func Init(ctx context.Context, st store.Store, id repo.ID, about []byte, secrets []Secret, now time.Time) (*Ring, error) {
	key := [32]byte{}
	rand.Read(key[:])
	master := repo.NewID()
	b, err := json.Marshal(bundle{RepositoryID: id, Counter: 1, Current: master,
		Masters: []wrapped{{ID: master, Key: key[:], CreatedAt: now.UTC()}}})
	if err != nil {
		return nil, err
	}
	doc := document{FormatVersion: repo.FormatVersion, Counter: 1, RepositoryID: id, CreatedAt: now.UTC()}
	for _, s := range secrets {
		l, err := s.wrap(b, now)
		if err != nil {
			return nil, err
		}
		doc.Slots = append(doc.Slots, l)
	}
	line, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	mac, err := macOf(key, about, line)
	if err != nil {
		return nil, err
	}
	data := fmt.Appendf(line, "\n%s", macLine(mac))
	if _, err := store.Put(ctx, st, name(1), data, store.CreateOptions{IfAbsent: true}); err != nil {
		return nil, fmt.Errorf("writing %s: %w", name(1), err)
	}
	return &Ring{current: master, masters: map[repo.ID][32]byte{master: key}}, nil
}

// Open opens the newest keys object with the secret. It fails with
// repo.ErrWrongKey if no slot fits, and with repo.ErrDamaged if salvor.json or
// the keys object is not what was written.
func Open(ctx context.Context, st store.Store, id repo.ID, about []byte, secret Secret) (*Ring, error) {
	doc, object, err := newest(ctx, st)
	if err != nil {
		return nil, err
	}
	for _, l := range doc.Slots {
		if plain, ok := secret.unwrap(l); ok {
			return doc.open(object, id, about, plain)
		}
	}
	return nil, fmt.Errorf("none of the %d slots in %s opens: %w", len(doc.Slots), object, repo.ErrWrongKey)
}

func (d *document) open(object string, id repo.ID, about, plain []byte) (*Ring, error) {
	var b bundle
	if err := json.Unmarshal(plain, &b); err != nil {
		return nil, repo.Damaged(object, "its bundle of keys is malformed")
	}
	ring := &Ring{current: b.Current, masters: map[repo.ID][32]byte{}}
	for _, m := range b.Masters {
		if len(m.Key) != 32 {
			return nil, repo.Damaged(object, "a master key has %d bytes", len(m.Key))
		}
		ring.masters[m.ID] = [32]byte(m.Key)
	}
	key, ok := ring.masters[ring.current]
	if !ok {
		return nil, repo.Damaged(object, "the current master key is missing")
	}
	mac, err := macOf(key, about, d.line)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(mac, d.mac) || b.RepositoryID != id || d.RepositoryID != id || b.Counter != d.Counter {
		return nil, repo.Damaged(object, "it does not belong to this salvor.json, or one of them was changed")
	}
	return ring, nil
}

// newest reads the keys object with the highest number.
func newest(ctx context.Context, st store.Store) (*document, string, error) {
	top := uint64(0)
	for o, err := range st.List(ctx, prefix, store.ListOptions{}) {
		if err != nil {
			return nil, "", fmt.Errorf("listing %s: %w", prefix, err)
		}
		if n, err := strconv.ParseUint(strings.TrimPrefix(o.Key, prefix), 10, 64); err == nil && name(n) == o.Key {
			top = max(top, n)
		}
	}
	if top == 0 {
		return nil, "", repo.Damaged(prefix, "the repository is encrypted, and holds no keys")
	}
	data, err := store.Get(ctx, st, name(top), maxObject)
	if err != nil {
		return nil, "", fmt.Errorf("reading %s: %w", name(top), err)
	}
	doc, err := parseDocument(data)
	if err != nil {
		return nil, "", repo.Damaged(name(top), "%v", err)
	}
	if doc.FormatVersion != repo.FormatVersion {
		return nil, "", fmt.Errorf("%s has format version %d, this release reads %d: %w",
			name(top), doc.FormatVersion, repo.FormatVersion, repo.ErrUnknownFormat)
	}
	if doc.Counter != top {
		return nil, "", repo.Damaged(name(top), "it carries the number %d", doc.Counter)
	}
	return doc, name(top), nil
}

func parseDocument(data []byte) (*document, error) {
	line, rest, _ := bytes.Cut(data, []byte("\n"))
	var doc document
	if err := json.Unmarshal(line, &doc); err != nil {
		return nil, errors.New("its first line is not the JSON that was written")
	}
	var err error
	if doc.mac, err = hex.DecodeString(string(bytes.TrimSuffix(rest, []byte("\n")))); err != nil || string(rest) != macLine(doc.mac) {
		return nil, errors.New("its second line is not a MAC")
	}
	if len(doc.Slots) > maxSlots {
		return nil, fmt.Errorf("it has %d slots, and at most %d are allowed", len(doc.Slots), maxSlots)
	}
	doc.line = line
	return &doc, nil
}

// macLine is the second line, the only form of it that a reader takes: a digit that
// became a capital is damage, too.
func macLine(mac []byte) string { return hex.EncodeToString(mac) + "\n" }

func name(n uint64) string { return fmt.Sprintf("%s%08d", prefix, n) }

// macOf is HMAC-SHA-256 over the length of salvor.json (8 bytes, big-endian),
// salvor.json, and the first line of the keys object.
func macOf(master [32]byte, about, line []byte) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, master[:], nil, "salvor 1 keys mac", 32)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	h := hmac.New(sha256.New, key)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(about))))
	h.Write(about)
	h.Write(line)
	return h.Sum(nil), nil
}
