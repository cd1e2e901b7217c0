package verify

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/repo/keys"
)

func secretsOf(t testing.TB) []keys.Secret {
	t.Helper()
	s, _, err := keys.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return []keys.Secret{s}
}

// all is every problem of a report, with the backups that have it.
func (r Report) all() map[catalog.Problem][]string {
	m := map[catalog.Problem][]string{}
	for _, b := range r.Backups {
		for _, p := range b.Problems {
			m[p] = append(m[p], b.ID)
		}
	}
	for _, p := range r.Problems {
		m[p] = append(m[p], "")
	}
	return m
}

// named says whether a problem names one of the objects.
func (r Report) named(keys ...string) bool {
	for p := range r.all() {
		if slices.Contains(keys, p.Object) {
			return true
		}
	}
	return false
}

// A sound repository has no problems, at any level, of all backups and of each.
func TestSound(t *testing.T) {
	t.Parallel()
	for name, secrets := range map[string][]keys.Secret{"encrypted": secretsOf(t), "plain": nil} {
		w := newWorld(t, secrets, nil)
		for _, level := range []catalog.VerifyLevel{catalog.VerifyObjects, catalog.VerifyData} {
			for _, ids := range [][]string{nil, {first}, {second}, {third}, {first, third}} {
				r, err := w.verify(level, ids...)
				if err != nil || !r.OK() || r.Level != level || len(r.Backups) != max(len(ids), 1) && ids != nil || ids == nil && len(r.Backups) != 3 {
					t.Errorf("%s, %s of %v: %v, %+v", name, level, ids, err, r)
				}
			}
		}
	}
}

func TestNoBackup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	if _, err := w.verify(catalog.VerifyObjects, first, "20261124T090000Z-000009"); !errors.Is(err, catalog.ErrNoBackup) {
		t.Errorf("of one that is not there: %v", err)
	}
}

// injection is a damage, of objects by key; nil removes one.
type injection struct {
	what    string
	objects map[string][]byte
}

// removable says whether anybody can know that an object was there: a backup is there by
// its head, and WAL ends where the archive does.
func removable(key string) bool {
	return path.Base(key) != "head" && !strings.HasSuffix(key, "000000020000000000000007") && !strings.HasSuffix(key, ".partial") && !strings.HasSuffix(key, ".backup")
}

// inject draws a damage.
func (w *world) inject(r *rand.Rand) injection {
	all := w.keys()
	key := all[r.IntN(len(all))]
	whole := w.sound[key]
	bad := bytes.Clone(whole)
	at := r.IntN(len(whole))
	one := func(what string, data []byte) injection {
		return injection{what + " " + key, map[string][]byte{key: data}}
	}
	switch r.IntN(9) {
	case 0, 1, 2:
		bad[at] ^= 1 << r.IntN(8)
		return one(fmt.Sprintf("a bit of byte %d of", at), bad)
	case 3:
		n := min(1+r.IntN(4096), len(bad)-at)
		clear(bad[at : at+n])
		if bytes.Equal(bad, whole) {
			bad[at] = 0xFF
		}
		return one(fmt.Sprintf("%d bytes from %d on made zero in", n, at), bad)
	case 4:
		return one(fmt.Sprintf("cut to %d:", at), bad[:at])
	case 5:
		return one("made longer:", append(bad, bad[at:]...))
	case 6:
		if removable(key) {
			return one("removed:", nil)
		}
		return one("emptied:", []byte{})
	case 7:
		other := all[r.IntN(len(all))]
		if other == key {
			return w.inject(r)
		}
		return injection{fmt.Sprintf("%s and %s exchanged", key, other), map[string][]byte{key: w.sound[other], other: whole}}
	default:
		other := all[r.IntN(len(all))]
		if other == key {
			return w.inject(r)
		}
		return one(other+" in the place of", w.sound[other])
	}
}

// Whatever is damaged of what backups need is found at level data, and named, and nothing
// panics. SALVOR_TEST_SEED repeats a run, SALVOR_TEST_DAMAGES says how long it is.
func TestInjections(t *testing.T) {
	t.Parallel()
	seed, count := uint64(time.Now().UnixNano()), 500
	if testing.Short() {
		count = 50 // with the race detector each takes five times as long
	}
	if v := os.Getenv("SALVOR_TEST_SEED"); v != "" {
		seed = must[uint64](t)(strconv.ParseUint(v, 10, 64))
	}
	if v := os.Getenv("SALVOR_TEST_DAMAGES"); v != "" {
		count = must[int](t)(strconv.Atoi(v))
	}
	t.Logf("SALVOR_TEST_SEED=%d", seed)
	for name, secrets := range map[string][]keys.Secret{"encrypted": secretsOf(t), "plain": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, secrets, nil)
			r := rand.New(rand.NewPCG(seed, uint64(len(name))))
			cheap := 0
			for n := range count {
				i := w.inject(r)
				w.set(i.objects)
				touched := make([]string, 0, 2)
				for key := range i.objects {
					touched = append(touched, key)
				}
				report, err := w.verify(catalog.VerifyData)
				switch {
				case err != nil:
					t.Errorf("%d, %s: %v", n, i.what, err)
				case report.OK():
					t.Errorf("%d, %s: not found", n, i.what)
				case !report.named(touched...):
					t.Errorf("%d, %s: not named: %+v", n, i.what, report.all())
				}
				if n%4 > 0 {
					w.heal(i.objects)
					continue
				}
				if quick, err := w.verify(catalog.VerifyObjects); err != nil {
					t.Errorf("%d, %s, level objects: %v", n, i.what, err)
				} else if !quick.OK() {
					cheap++
				}
				w.heal(i.objects)
			}
			if report, err := w.verify(catalog.VerifyData); err != nil || !report.OK() {
				t.Errorf("after all: %v, %+v", err, report)
			}
			t.Logf("%d damages; of %d, %d are seen at level objects", count, (count+3)/4, cheap)
		})
	}
}
