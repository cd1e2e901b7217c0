package store_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// careless is a store that accepts conditions and ignores one, or breaks another
// promise.
type careless struct {
	*mem.Store
	fault string
}

func (c careless) Create(ctx context.Context, key string, o store.CreateOptions) (store.Writer, error) {
	switch {
	case c.fault == "overwrites" && o.IfAbsent:
		o.IfAbsent = false
	case c.fault == "replaces" && o.IfMatch != "":
		if _, err := c.Stat(ctx, key); err == nil {
			o.IfMatch = ""
		}
	case c.fault == "creates" && o.IfMatch != "":
		if _, err := c.Stat(ctx, key); err != nil {
			o.IfMatch = ""
		}
	}
	return c.Store.Create(ctx, key, o)
}

func (c careless) Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if c.fault == "no ranges" {
		offset, length = 0, -1
	}
	return c.Store.Open(ctx, key, offset, length)
}

func (c careless) List(ctx context.Context, prefix string, o store.ListOptions) iter.Seq2[store.Object, error] {
	if c.fault == "no folders" {
		o.Delimited = false
	}
	return c.Store.List(ctx, prefix, o)
}

func (c careless) Delete(ctx context.Context, key string, match store.Version) error {
	if c.fault == "deletes" {
		match = ""
	}
	return c.Store.Delete(ctx, key, match)
}

func TestProbe(t *testing.T) {
	t.Parallel()
	for fault, says := range map[string]string{
		"":           "",
		"overwrites": "only if absent",
		"replaces":   "not the one that was given",
		"creates":    "where there is none",
		"no ranges":  `reads "0123456789" where "3456"`,
		"no folders": "its list shows",
		"deletes":    "deletes an object whose version",
	} {
		s := careless{mem.New(mem.Options{}), fault}
		err := store.Probe(t.Context(), s, "probe")
		if says == "" && err != nil || says != "" && (!errors.Is(err, store.ErrUnsafe) || !strings.Contains(err.Error(), says)) {
			t.Errorf("fault %q: error is %v, want %q", fault, err, says)
		}
		for entry, err := range s.Store.List(t.Context(), "", store.ListOptions{}) {
			t.Errorf("fault %q: the probe left %s, %v", fault, entry.Key, err)
		}
	}
	broken := errors.New("broken")
	s := mem.New(mem.Options{Hook: func(context.Context, *mem.Call) error { return broken }})
	if err := store.Probe(t.Context(), s, "probe"); !errors.Is(err, broken) || errors.Is(err, store.ErrUnsafe) {
		t.Errorf("a store that fails: %v", err)
	}
}

// shell wraps a store and hides what it can do.
type shell struct{ store.Store }

func (s shell) Unwrap() store.Store { return s.Store }

type cleaner struct{ store.Store }

func (cleaner) Probe(context.Context) error { return nil }

func TestAbility(t *testing.T) {
	t.Parallel()
	plain := mem.New(mem.Options{})
	if _, ok := store.Ability[store.Prober](shell{plain}); ok {
		t.Error("an ability was found that is not there")
	}
	if _, ok := store.Ability[store.Prober](shell{shell{cleaner{plain}}}); !ok {
		t.Error("the ability of a wrapped store was not found")
	}
}
