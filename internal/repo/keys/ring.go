package keys

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
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

// document is a keys object: JSON, not sealed.
type document struct {
	FormatVersion int       `json:"format_version"`
	Counter       uint64    `json:"counter"` // its number
	RepositoryID  repo.ID   `json:"repository_id"`
	CreatedAt     time.Time `json:"created_at"`
	Slots         []slot    `json:"slots"`
	MAC           []byte    `json:"mac,omitempty"`
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
	if doc.MAC, err = doc.mac(key, about); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, err
	}
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
	mac, err := d.mac(key, about)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(mac, d.MAC) || b.RepositoryID != id || d.RepositoryID != id || b.Counter != d.Counter {
		return nil, repo.Damaged(object, "it does not belong to this salvor.json, or one of them was changed")
	}
	return ring, nil
}

// Exist says whether a keys object has been written.
func Exist(ctx context.Context, st store.Store) (bool, error) {
	for _, err := range st.List(ctx, prefix, store.ListOptions{}) {
		if err != nil {
			return false, fmt.Errorf("listing %s: %w", prefix, err)
		}
		return true, nil
	}
	return false, nil
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
	var doc document
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, "", repo.Damaged(name(top), "it is not the JSON that was written")
	}
	if doc.FormatVersion != repo.FormatVersion {
		return nil, "", fmt.Errorf("%s has format version %d, this release reads %d: %w",
			name(top), doc.FormatVersion, repo.FormatVersion, repo.ErrUnknownFormat)
	}
	if doc.Counter != top {
		return nil, "", repo.Damaged(name(top), "it carries the number %d", doc.Counter)
	}
	return &doc, name(top), nil
}

func name(n uint64) string { return fmt.Sprintf("%s%08d", prefix, n) }

// mac is HMAC-SHA-256 over the length of salvor.json (8 bytes, big-endian),
// salvor.json, and the document as compact JSON without its MAC.
func (d document) mac(master [32]byte, about []byte) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, master[:], nil, "salvor 1 keys mac", 32)
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	d.MAC = nil
	body, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, key)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(about))))
	h.Write(about)
	h.Write(body)
	return h.Sum(nil), nil
}
