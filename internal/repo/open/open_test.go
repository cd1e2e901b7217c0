package open

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/keys"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

var now = time.Date(2026, 11, 24, 6, 51, 0, 0, time.UTC)

func secret(t testing.TB) keys.Secret {
	t.Helper()
	s, _, err := keys.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, st store.Store, key, content string) {
	t.Helper()
	if _, err := store.Put(t.Context(), st, key, []byte(content), store.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestInitAndOpen(t *testing.T) {
	s := secret(t)
	for name, secrets := range map[string][]keys.Secret{"encrypted": {s, secret(t)}, "plain": nil} {
		t.Run(name, func(t *testing.T) {
			st := mem.New(mem.Options{})
			made, err := Init(t.Context(), st, secrets, now)
			if err != nil {
				t.Fatal(err)
			}
			if err := made.Objects.Put(t.Context(), "a/b", seal.Head, []byte("content")); err != nil {
				t.Fatal(err)
			}
			var key *keys.Secret
			if secrets != nil {
				key = &s
			}
			opened, err := Open(t.Context(), st, key)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(made.About, opened.About); d != "" || made.RepositoryID == (repo.ID{}) {
				t.Error(d)
			}
			if got, err := opened.Objects.Get(t.Context(), "a/b", seal.Head); err != nil || string(got) != "content" {
				t.Errorf("%q, %v", got, err)
			}
			for _, again := range [][]keys.Secret{{s}, nil} {
				if _, err := Init(t.Context(), st, again, now); !errors.Is(err, store.ErrExists) {
					t.Errorf("a second Init with %d secrets: %v", len(again), err)
				}
			}
		})
	}
}

// What is configured and what is in the store must agree, both ways: else who can
// write to the store could turn encryption off.
func TestEncryptionMismatch(t *testing.T) {
	s := secret(t)
	encrypted, plain := mem.New(mem.Options{}), mem.New(mem.Options{})
	if _, err := Init(t.Context(), encrypted, []keys.Secret{s}, now); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(t.Context(), plain, nil, now); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), encrypted, nil); !errors.Is(err, repo.ErrWrongKey) {
		t.Errorf("encrypted, without a key: %v", err)
	}
	if _, err := Open(t.Context(), plain, &s); !errors.Is(err, repo.ErrWrongKey) {
		t.Errorf("plain, with a key: %v", err)
	}
	other := secret(t)
	if _, err := Open(t.Context(), encrypted, &other); !errors.Is(err, repo.ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}

	_, data, err := Read(t.Context(), encrypted)
	if err != nil {
		t.Fatal(err)
	}
	put(t, encrypted, AboutName, summed(strings.Replace(string(data), EncryptionAES, EncryptionNone, 1)))
	if _, err := Open(t.Context(), encrypted, &s); !errors.Is(err, repo.ErrWrongKey) {
		t.Errorf("encryption turned off in salvor.json: %v", err)
	}
	put(t, encrypted, AboutName, summed(strings.Replace(string(data), "created_at", "created_on", 1)))
	if _, err := Open(t.Context(), encrypted, &s); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("salvor.json changed: %v", err)
	}
	put(t, encrypted, AboutName, summed(strings.Replace(string(data), EncryptionAES, "rot13", 1)))
	if _, err := Open(t.Context(), encrypted, &s); !errors.Is(err, repo.ErrUnknownFormat) {
		t.Errorf("an unknown cipher: %v", err)
	}
}

// summed gives a text of salvor.json that was changed the sum that it should have.
func summed(text string) string {
	body := text[:len(text)-len(sumLine(nil))]
	return body + string(sumLine([]byte(body)))
}

func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		want    error
	}{
		"nothing":       {"", repo.ErrNoRepository},
		"not JSON":      {"<html>", repo.ErrDamaged},
		"a newer one":   {`{"format_version": 2, "repository_id": "00000000000000000000000000000001"}`, repo.ErrUnknownFormat},
		"something":     {`{"name": "x"}`, repo.ErrUnknownFormat},
		"null":          {`null`, repo.ErrUnknownFormat},
		"a wrong id":    {`{"format_version": 1, "repository_id": "1"}`, repo.ErrDamaged},
		"far too large": {strings.Repeat(" ", 65<<10), store.ErrTooLarge},
	} {
		st := mem.New(mem.Options{})
		if c.content != "" {
			put(t, st, AboutName, c.content)
		}
		if _, _, err := Read(t.Context(), st); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if _, err := Open(t.Context(), st, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: Open: %v, want %v", name, err, c.want)
		}
	}
}

// Any byte of salvor.json that changes is seen, also where no MAC covers it, and so is
// any cut. A later release of the same format may add fields.
func TestAboutDamaged(t *testing.T) {
	st := mem.New(mem.Options{})
	if _, err := Init(t.Context(), st, nil, now); err != nil {
		t.Fatal(err)
	}
	want, data, err := Read(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	seen := func(what string, bad []byte) {
		t.Helper()
		if a, err := parseAbout(bad); !errors.Is(err, repo.ErrDamaged) && !errors.Is(err, repo.ErrUnknownFormat) || !strings.Contains(err.Error(), AboutName) {
			t.Errorf("%s: %+v, %v", what, a, err)
		}
	}
	for i := range data {
		for bit := range 8 {
			bad := bytes.Clone(data)
			bad[i] ^= 1 << bit
			seen(fmt.Sprintf("bit %d of byte %d", bit, i), bad)
		}
		seen(fmt.Sprintf("cut to %d", i), data[:i])
	}
	seen("longer", append(bytes.Clone(data), '\n'))
	got, err := parseAbout([]byte(summed(strings.Replace(string(data), "{\n", "{\n  \"colour\": \"red\",\n", 1))))
	if err != nil || got != want {
		t.Errorf("with a new field: %+v, %v", got, err)
	}
}

// An Init that was killed between its two writes is finished by the next.
func TestInterruptedInit(t *testing.T) {
	killed := errors.New("killed")
	dies := true
	st := mem.New(mem.Options{Hook: func(_ context.Context, c *mem.Call) error {
		if dies && strings.HasPrefix(c.Key, "keys/") && c.Op != mem.OpList {
			return killed
		}
		return nil
	}})
	s := secret(t)
	if _, err := Init(t.Context(), st, []keys.Secret{s}, now); !errors.Is(err, killed) {
		t.Fatalf("the first: %v", err)
	}
	dies = false
	if _, err := Open(t.Context(), st, &s); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("opening a half-made repository: %v", err)
	}
	if _, err := Init(t.Context(), st, nil, now); !errors.Is(err, store.ErrExists) {
		t.Errorf("going on without encryption: %v", err)
	}
	put(t, st, "locks/init", "{}")
	made, err := Init(t.Context(), st, []keys.Secret{s}, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := Open(t.Context(), st, &s)
	if err != nil || opened.About != made.About || !made.CreatedAt.Equal(now) {
		t.Errorf("%+v, %v", opened, err)
	}
}

// A repository whose keys were lost must not get new ones: the old may come back.
func TestLostKeys(t *testing.T) {
	s := secret(t)
	st := mem.New(mem.Options{})
	made, err := Init(t.Context(), st, []keys.Secret{s}, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Objects.Put(t.Context(), "clusters/a/b", seal.Head, nil); err != nil {
		t.Fatal(err)
	}
	if err := st.Delete(t.Context(), "keys/00000001", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(t.Context(), st, []keys.Secret{s}, now); !errors.Is(err, store.ErrExists) {
		t.Errorf("Init gave it new keys: %v", err)
	}
}

// Of many that try at once one makes the repository, and its key opens it.
func TestInitRace(t *testing.T) {
	st := mem.New(mem.Options{})
	secrets := make([]keys.Secret, 8)
	errs := make([]error, len(secrets))
	var wg sync.WaitGroup
	for i := range secrets {
		secrets[i] = secret(t)
		wg.Go(func() { _, errs[i] = Init(t.Context(), st, secrets[i:i+1], now) })
	}
	wg.Wait()
	made := 0
	for i, err := range errs {
		_, open := Open(t.Context(), st, &secrets[i])
		switch {
		case err == nil && open == nil:
			made++
		case !errors.Is(err, store.ErrExists) || !errors.Is(open, repo.ErrWrongKey):
			t.Errorf("Init: %v, Open: %v", err, open)
		}
	}
	if made != 1 {
		t.Errorf("%d made it", made)
	}
}

func FuzzAbout(f *testing.F) {
	st := mem.New(mem.Options{})
	if _, err := Init(f.Context(), st, nil, now); err != nil {
		f.Fatal(err)
	}
	_, data, err := Read(f.Context(), st)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("null"))
	s := secret(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		st := mem.New(mem.Options{})
		put(t, st, AboutName, string(b))
		about, _, err := Read(t.Context(), st)
		if err == nil {
			if _, err := json.Marshal(about); err != nil && about.CreatedAt.Year() < 10_000 {
				t.Error(err)
			}
		}
		for _, key := range []*keys.Secret{nil, &s} {
			if r, err := Open(t.Context(), st, key); err == nil && (key != nil || r.Encryption != EncryptionNone) {
				t.Errorf("%+v was opened", r.About)
			}
		}
	})
}
