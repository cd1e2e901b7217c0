package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/salvor-dr/salvor/internal/store"
)

// Probe proves what S3-compatible places differ in: conditions on PUT, on the
// completion of an upload and on DELETE, ranges, and lists. A place that fails is
// not safe: locks would not exclude, and two writers could replace each other's
// objects.
func (s *Store) Probe(ctx context.Context) error {
	key := "probe-" + strings.ToLower(rand.Text()[:16])
	if err := store.Probe(ctx, s, key); err != nil {
		return err
	}
	// The same again, with each object as an upload in parts.
	if err := store.Probe(ctx, s.inParts(), key+"-parts"); err != nil {
		return fmt.Errorf("with uploads in parts: %w", err)
	}
	if err := s.probeDelete(ctx, key+"-delete"); err != nil {
		return fmt.Errorf("probing %s: %w", s, err)
	}
	return nil
}

// inParts is this store, but that every object is an upload in parts.
func (s *Store) inParts() *Store {
	p := &Store{o: s.o, prefix: s.prefix, name: s.name, client: s.client, http: s.http, forget: s.forget, multipart: true}
	p.blocks.New = func() any { return new(block) }
	return p
}

// probeDelete asks for what Delete itself never would.
func (s *Store) probeDelete(ctx context.Context, key string) error {
	made, err := store.Put(ctx, s, key, []byte("x"), store.CreateOptions{IfAbsent: true})
	if err != nil {
		return err
	}
	err = s.try(ctx, func(ctx context.Context) error { return s.deleteIf(ctx, key, made.Version+"0") })
	switch {
	case err == nil:
		err = fmt.Errorf("%w: it ignores the condition (If-Match) of a DELETE", store.ErrUnsafe)
	case errors.Is(err, store.ErrChanged):
		err = nil
	}
	return errors.Join(err, s.Delete(context.WithoutCancel(ctx), key, ""))
}
