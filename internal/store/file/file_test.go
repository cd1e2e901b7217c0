package file_test

import (
	"testing"

	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/file"
	"github.com/salvor-dr/salvor/internal/store/storetest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, root string, o file.Options) *file.Store {
	t.Helper()
	s, err := file.Open(root, o)
	must(t, err)
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, t.TempDir(), file.Options{}) })
}
