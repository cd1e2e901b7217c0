package cli

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/config"
)

// What killed writers left is removed from every repository, through the store that is
// open where there is one; of one that is gone there is a warning.
func TestRemoveTemporary(t *testing.T) {
	t.Parallel()
	c := &config.Config{}
	var left []string
	for _, name := range []string{"open", "other", "gone"} {
		dir := filepath.Join(t.TempDir(), name)
		c.Repositories = append(c.Repositories, config.Repository{Name: name, URL: "file://" + dir})
		if name == "gone" {
			continue
		}
		for file, age := range map[string]time.Duration{"OLD": 2 * temporaryAge, "NEW": 0} {
			path := filepath.Join(dir, ".tmp", file)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
			then := time.Now().Add(-age)
			if err := os.Chtimes(path, then, then); err != nil {
				t.Fatal(err)
			}
			left = append(left, path)
		}
	}
	s, log := storeSession(slog.LevelInfo)
	st, err := s.openStore(t.Context(), c.Repositories[0], false)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	c.Repositories[0].URL = "file:///there/is/nothing" // to open it again would fail
	s.removeTemporary(t.Context(), c, &repository{name: "open", store: st})
	for _, path := range left {
		_, err := os.Stat(path)
		if gone := errors.Is(err, fs.ErrNotExist); gone != (filepath.Base(path) == "OLD") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if text := log.String(); strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "repository=gone") {
		t.Errorf("the log is\n%s", text)
	}
}
