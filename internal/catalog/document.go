package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// putDocument writes a small object of JSON. It fails with store.ErrExists if the name
// is taken.
func putDocument(ctx context.Context, objects *seal.Objects, name string, kind seal.Kind, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return objects.Put(ctx, name, kind, data)
}

// getDocument reads what putDocument wrote. It fails with store.ErrNotFound if there is
// none.
func getDocument[T any](ctx context.Context, objects *seal.Objects, name string, kind seal.Kind) (v T, err error) {
	data, err := objects.Get(ctx, name, kind)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return *new(T), repo.Damaged(name, "%v", err)
	}
	return v, nil
}

// marks reads all documents under a prefix. named puts the rest of its name, which is
// not in the document, into one, and says whether it is a name that one may have: others
// are left alone. One that is damaged is given with its name only; one that goes
// meanwhile is left out.
func marks[T any](ctx context.Context, objects *seal.Objects, prefix string, kind seal.Kind, named func(v *T, name string) bool) ([]T, error) {
	var all []T
	for o, err := range objects.Store().List(ctx, prefix, store.ListOptions{}) {
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", prefix, err)
		}
		name := strings.TrimPrefix(o.Key, prefix)
		if !named(new(T), name) {
			continue
		}
		v, err := getDocument[T](ctx, objects, o.Key, kind)
		switch {
		case errors.Is(err, store.ErrNotFound):
			continue
		case err != nil && !errors.Is(err, repo.ErrDamaged):
			return nil, err
		}
		named(&v, name)
		all = append(all, v)
	}
	return all, nil
}
