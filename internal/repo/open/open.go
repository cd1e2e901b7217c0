package open

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/keys"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// Repository is an opened repository.
type Repository struct {
	About
	Objects *seal.Objects
}

// Init makes a repository in st, encrypted with a slot for each secret, or, with
// no secret, not encrypted. It fails with store.ErrExists if there is one.
//
// salvor.json is the claim, and with encryption the first keys object: of two that
// try at once one gets it. An Init that was killed before it wrote the keys is
// finished by the next, if nothing else has been stored: a repository whose keys
// were lost is no half-made one.
func Init(ctx context.Context, st store.Store, secrets []keys.Secret, now time.Time) (*Repository, error) {
	about, data, err := claim(ctx, st, len(secrets) > 0, now)
	if err != nil {
		return nil, err
	}
	var ring seal.Keyring
	if len(secrets) > 0 {
		if ring, err = keys.Init(ctx, st, about.RepositoryID, data, secrets, now); err != nil {
			return nil, err
		}
	}
	return &Repository{About: about, Objects: seal.New(st, ring)}, nil
}

// claim writes salvor.json, or takes over one that was left without keys.
func claim(ctx context.Context, st store.Store, encrypted bool, now time.Time) (About, []byte, error) {
	about := About{FormatVersion: repo.FormatVersion, RepositoryID: repo.NewID(), CreatedAt: now.UTC(), Encryption: EncryptionNone}
	if encrypted {
		about.Encryption = EncryptionAES
	}
	data, err := about.encode()
	if err != nil {
		return About{}, nil, err
	}
	_, err = store.Put(ctx, st, AboutName, data, store.CreateOptions{IfAbsent: true})
	if err == nil {
		return about, data, nil
	}
	if !errors.Is(err, store.ErrExists) {
		return About{}, nil, fmt.Errorf("writing %s: %w", AboutName, err)
	}
	if about, data, err = Read(ctx, st); err != nil {
		return About{}, nil, err
	}
	used, err := inUse(ctx, st)
	if err != nil {
		return About{}, nil, err
	}
	if used || about.Encryption != EncryptionAES || !encrypted {
		return About{}, nil, fmt.Errorf("%s holds a repository: %w", st, store.ErrExists)
	}
	return about, data, nil
}

// inUse says whether the store holds anything beside salvor.json and leases.
func inUse(ctx context.Context, st store.Store) (bool, error) {
	for o, err := range st.List(ctx, "", store.ListOptions{Delimited: true}) {
		if err != nil {
			return false, fmt.Errorf("listing %s: %w", st, err)
		}
		if o.Key != AboutName && o.Key != "locks/" {
			return true, nil
		}
	}
	return false, nil
}

// Open opens the repository in st. secret is nil for one that is expected not to
// be encrypted: the expectation is the caller's, so that nobody can turn
// encryption off by changing the store.
func Open(ctx context.Context, st store.Store, secret *keys.Secret) (*Repository, error) {
	about, data, err := Read(ctx, st)
	if err != nil {
		return nil, err
	}
	var ring seal.Keyring
	switch {
	case about.Encryption == EncryptionNone && secret == nil:
	case about.Encryption == EncryptionAES && secret != nil:
		if ring, err = keys.Open(ctx, st, about.RepositoryID, data, *secret); err != nil {
			return nil, err
		}
	case secret == nil:
		return nil, fmt.Errorf("%s is encrypted (%s), and no key is configured: %w", st, about.Encryption, repo.ErrWrongKey)
	case about.Encryption == EncryptionNone:
		return nil, fmt.Errorf("%s is not encrypted, and a key is configured for it: %w", st, repo.ErrWrongKey)
	default:
		return nil, fmt.Errorf("%s is encrypted with %q: %w", st, about.Encryption, repo.ErrUnknownFormat)
	}
	return &Repository{About: about, Objects: seal.New(st, ring)}, nil
}
