package damage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/keys"
	"github.com/salvor-dr/salvor/internal/repo/open"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

func newStore(hook mem.Hook) *mem.Store { return mem.New(mem.Options{Hook: hook}) }

func secretsOf(t testing.TB) map[string][]keys.Secret {
	t.Helper()
	var two []keys.Secret
	for range 2 {
		s, _, err := keys.NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		two = append(two, s)
	}
	return map[string][]keys.Secret{"encrypted": two, "plain": nil}
}

// subject is a repository to be damaged: its objects, and what the steps answer while
// it is sound.
type subject struct {
	secret  *keys.Secret
	objects map[string][]byte
	all     []step
	answers []string
	reads   []map[string]bool // the objects that each step opens or looks at
}

func newSubject(t testing.TB, secrets []keys.Secret) *subject {
	t.Helper()
	return examine(t, build(t, newStore(nil), secrets, nil))
}

// examine does all steps with the sound repository, and keeps what they answer.
func examine(t testing.TB, r *repository) *subject {
	t.Helper()
	s := &subject{secret: r.secret, objects: r.snapshot(), all: steps(r)}
	// What was begun ahead may still be read after a step has its answer.
	var mu sync.Mutex
	touched := map[string]bool{}
	traced := &repository{t: t, store: newStore(func(_ context.Context, c *mem.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if c.Op == mem.OpOpen || c.Op == mem.OpStat {
			touched[c.Key] = true
		}
		return nil
	})}
	for key, data := range s.objects {
		traced.put(key, data)
	}
	dir := quickDir(t)
	for _, st := range s.all {
		answer, err := st.run(t.Context(), opening(t.Context(), traced.store, s.secret), dir)
		if err != nil {
			t.Fatalf("%s of the sound repository: %v", st.name, err)
		}
		mu.Lock()
		s.answers, s.reads = append(s.answers, answer), append(s.reads, touched)
		touched = map[string]bool{}
		mu.Unlock()
	}
	return s
}

// injection is a damaged repository: what differs from the sound one.
type injection struct {
	what    string
	objects map[string][]byte // nil: removed
	// upTo says which steps are done. Only for slower are all, else those that read one
	// of the objects.
	upTo  speed
	names func(key string) []string // by which an error may name the object; nil: its key
	// lessFits says that an answer may be that of a repository that never had the object.
	lessFits bool
	harmless bool // nothing need be found, if all answers are right
}

// bench injects damage into a copy of the repository.
type bench struct {
	*subject
	t     *testing.T
	store *repository
	open  opened // without reading anything
	dir   string
	count int
}

func (s *subject) bench(t *testing.T) *bench {
	b := &bench{subject: s, t: t, store: &repository{t: t, store: newStore(nil)}, dir: quickDir(t)}
	for key, data := range s.objects {
		b.store.put(key, data)
	}
	r, err := open.Open(t.Context(), b.store.store, s.secret)
	if err != nil {
		t.Fatal(err)
	}
	b.open = func() (*open.Repository, error) { return r, nil }
	return b
}

// quickDir is a directory in memory, where there is one: restores wait for the disk.
func quickDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "salvor-damage-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// inject does the steps with the damaged repository, and heals it.
func (b *bench) inject(i injection) {
	b.t.Helper()
	for key, data := range i.objects {
		if data == nil {
			b.store.remove(key)
		} else {
			b.store.put(key, data)
		}
	}
	found := false
	open := b.open
	if concernsOpening(i) {
		open = opening(b.t.Context(), b.store.store, b.secret) // each time, as each command does
	}
	for n, st := range b.all {
		if i.upTo < slower && (st.speed > i.upTo || !b.concerns(n, i.objects)) {
			continue
		}
		if i.upTo == quick && found && concernsOpening(i) {
			break // the others would not get further
		}
		b.count++
		answer, err := st.run(b.t.Context(), open, b.dir)
		switch {
		case err == nil && answer == b.answers[n]:
		case err == nil && i.lessFits, i.lessFits && errors.As(err, new(*catalog.NotCovered)):
		case err == nil:
			b.t.Errorf("%s: %s gives other data:\n%s", i.what, st.name, answer)
		case b.named(i, err):
			found = true
		default:
			b.t.Errorf("%s: %s: the error does not name the object: %v", i.what, st.name, err)
		}
	}
	if !found && !i.harmless {
		b.t.Errorf("%s: nothing found it", i.what)
	}
	for key := range i.objects {
		b.store.put(key, b.objects[key])
	}
}

func concernsOpening(i injection) bool {
	for key := range i.objects {
		if key == open.AboutName || strings.HasPrefix(key, "keys/") {
			return true
		}
	}
	return false
}

func (b *bench) concerns(n int, objects map[string][]byte) bool {
	for key := range objects {
		if b.reads[n][key] {
			return true
		}
	}
	return false
}

// named says whether an error is one that tells damage apart, and names a damaged
// object.
func (b *bench) named(i injection, err error) bool {
	if strings.HasPrefix(err.Error(), "WRONG") || strings.HasPrefix(err.Error(), "PANIC") {
		return false
	}
	if i.names == nil && !errors.Is(err, repo.ErrDamaged) && !errors.Is(err, repo.ErrWrongKey) && !errors.Is(err, repo.ErrUnknownFormat) {
		return false
	}
	for key := range i.objects {
		names := []string{key}
		if i.names != nil {
			names = i.names(key)
		}
		for _, name := range names {
			if strings.Contains(err.Error(), name) {
				return true
			}
		}
	}
	return false
}

// each calls do for every object of both kinds of repository.
func each(t *testing.T, do func(b *bench, key string)) {
	for name, secrets := range secretsOf(t) {
		s := newSubject(t, secrets)
		for _, key := range slices.Sorted(maps.Keys(s.objects)) {
			t.Run(name+"/"+strings.ReplaceAll(strings.TrimPrefix(key, "clusters/orders/"), "/", "_"), func(t *testing.T) {
				t.Parallel()
				b := s.bench(t)
				do(b, key)
				t.Logf("%d bytes, %d steps", len(s.objects[key]), b.count)
			})
		}
	}
}

// stride leaves bytes out of the short run, others for each object.
func stride(key string) (first, step int) {
	if testing.Short() {
		return len(key) % 61, 61
	}
	return 0, 1
}

// sometimes lets slow steps be done after some of the damages of an object.
func sometimes(at int) speed {
	if at%29 == 0 {
		return slow
	}
	return quick
}

// Every byte of every object: one bit, and of some bytes all bits.
func TestEveryByte(t *testing.T) {
	each(t, func(b *bench, key string) {
		first, step := stride(key)
		for at := first; at < len(b.objects[key]); at += step {
			for _, flip := range []byte{1 << (at % 8), 0xFF} {
				if flip == 0xFF && at%5 > 0 {
					continue
				}
				bad := bytes.Clone(b.objects[key])
				bad[at] ^= flip
				b.inject(injection{what: fmt.Sprintf("byte %d of %s, %02x to %02x", at, key, b.objects[key][at], bad[at]),
					objects: map[string][]byte{key: bad}, upTo: sometimes(at)})
			}
		}
	})
}

// Every object, cut at every length and made longer.
func TestEveryLength(t *testing.T) {
	each(t, func(b *bench, key string) {
		whole := b.objects[key]
		first, step := stride(key)
		for n := first; n < len(whole); n += step {
			b.inject(injection{what: fmt.Sprintf("%s cut to %d of %d", key, n, len(whole)), objects: map[string][]byte{key: whole[:n]}, upTo: sometimes(n)})
		}
		for _, more := range [][]byte{{0}, []byte("\n"), make([]byte, 16), whole} {
			b.inject(injection{what: fmt.Sprintf("%s with %d bytes more", key, len(more)), objects: map[string][]byte{key: slices.Concat(whole, more)}, upTo: slow})
		}
	})
}

// Some damages of every object, and all that can be done with a repository.
func TestEverything(t *testing.T) {
	each(t, func(b *bench, key string) {
		whole := b.objects[key]
		places := []int{70, 20, len(whole) / 2, len(whole) - 40}
		if testing.Short() {
			places = places[:1]
		}
		for _, at := range places {
			bad := bytes.Clone(whole)
			bad[at] ^= 0x10
			b.inject(injection{what: fmt.Sprintf("byte %d of %s", at, key), objects: map[string][]byte{key: bad}, upTo: slower})
		}
		for _, at := range []int{0, len(whole) - 1} {
			b.inject(injection{what: fmt.Sprintf("%s cut to %d", key, at), objects: map[string][]byte{key: whole[:at]}, upTo: slower})
		}
		b.inject(injection{what: key + " removed", objects: map[string][]byte{key: nil}, upTo: slower, names: namesOfAbsent,
			lessFits: canBeMissing(key), harmless: strings.Contains(key, "/running/") || strings.Contains(key, "/proofs/")})
	})
}

// canBeMissing says whether nobody can know that the object was there: a backup
// exists by its head, WAL ends where the archive ends, and not every restore leaves a
// proof.
func canBeMissing(key string) bool {
	return path.Base(key) == "head" || strings.Contains(key, "/running/") || strings.Contains(key, "/proofs/") ||
		strings.HasSuffix(key, "/000000020000000000000006") || strings.HasSuffix(key, ".partial")
}

// namesOfAbsent are names by which an object that is not there can be called.
func namesOfAbsent(key string) []string {
	switch dir, base := path.Split(key); {
	case key == open.AboutName:
		return []string{repo.ErrNoRepository.Error()}
	case dir == "keys/":
		return []string{dir}
	case base == "head":
		return []string{path.Base(path.Clean(dir))} // the backup
	case strings.Contains(dir, "/wal/"):
		return []string{strings.TrimSuffix(base, ".partial")}
	}
	return []string{key}
}

// Objects in the places of others.
func TestExchanged(t *testing.T) {
	for name, secrets := range secretsOf(t) {
		s, twin := newSubject(t, secrets), newSubject(t, secrets)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := s.bench(t)
			all := slices.Sorted(maps.Keys(s.objects))
			for i, one := range all {
				for _, other := range all[i+1:] {
					b.inject(injection{what: one + " and " + other + " exchanged", objects: map[string][]byte{one: s.objects[other], other: s.objects[one]}})
					if kindOf(one) != kindOf(other) {
						continue
					}
					b.inject(injection{what: one + " also as " + other, objects: map[string][]byte{other: s.objects[one]}})
					b.inject(injection{what: other + " also as " + one, objects: map[string][]byte{one: s.objects[other]}})
				}
				// Of another repository of the same cluster, with the same key.
				if foreign, ok := twin.objects[one]; ok {
					b.foreign(one, foreign)
				}
			}
		})
	}
}

// foreign puts an object of the same name from another repository in place. Where
// nothing is encrypted, its content is all there is to tell it by: a head is believed,
// and what it names is then another's.
func (b *bench) foreign(key string, data []byte) {
	i := injection{what: key + " of another repository", objects: map[string][]byte{key: data}, upTo: slower}
	if b.secret == nil {
		i.harmless = true
		i.names = func(key string) []string { return []string{path.Dir(key)} }
		// An identity and a time of its own, and a head that names objects of its own.
		i.lessFits = key == open.AboutName || path.Base(key) == "head"
	} else if key == open.AboutName {
		i.names = func(string) []string { return []string{"salvor.json"} }
	}
	b.inject(i)
}

// What was spoiled before it was sealed is right by every seal. A restore finds it by the
// file's digest, and the pack and block by the hashes in the pack's footer.
func TestSpoiledBeforeSealed(t *testing.T) {
	for what, c := range map[string]struct {
		spoil func(path string, plain []byte) []byte
		id    string
		names []string
	}{
		"a page": {func(path string, plain []byte) []byte {
			if path != "base/1/1259" || plain[2*pageSize-1] != 5 {
				return plain
			}
			bad := bytes.Clone(plain)
			bad[2*pageSize-1] ^= 1
			return bad
		}, first, []string{"/packs/", "block 3 of base/1/1259"}},
		"a small file": {func(path string, plain []byte) []byte {
			if path != "base/1/small" {
				return plain
			}
			return bytes.ToUpper(plain)
		}, second, []string{"/packs/", "block 0 of base/1/small"}},
		"pages in each other's place": {func(path string, plain []byte) []byte {
			if path != "base/1/2619" || len(plain) != 2*pageSize {
				return plain
			}
			return slices.Concat(plain[pageSize:], plain[:pageSize])
		}, first, []string{"/packs/", "block 0 of base/1/2619"}},
	} {
		r := build(t, newStore(nil), nil, c.spoil)
		_, err := restored(t.Context(), r.objects, original, c.id, t.TempDir())
		if !errors.Is(err, repo.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
			continue
		}
		for _, name := range c.names {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%s: it does not name %s: %v", what, name, err)
			}
		}
	}
}
