package catalog

import (
	"context"
	"encoding/json"

	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/seal"
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
		return v, repo.Damaged(name, "%v", err)
	}
	return v, nil
}
