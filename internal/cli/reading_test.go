package cli

import (
	"context"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// A restore that cannot be announced goes on, and says so; who may only read the
// repository meant that, and is not warned.
func TestReadingUnannounced(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		level  string
		reason error
		says   bool
	}{
		{"warn", store.ErrUnavailable, true},
		{"warn", store.ErrPermission, false},
		{"info", store.ErrPermission, true},
	} {
		s, log, r, o := measuring(c.level, func(_ context.Context, call *mem.Call) error {
			if call.Op == mem.OpCreate || call.Op == mem.OpCommit {
				return c.reason
			}
			return nil
		})
		o.Choice.Backup.Cluster, o.Choice.Backup.SystemID, o.Choice.Backup.Incarnation = "main", 7, "0123456789abcdef"
		done, err := s.reading(t.Context(), &config.Config{}, r, o.Choice, catalog.Target{})
		if err != nil {
			t.Fatal(err)
		}
		done(t.Context(), true)
		if strings.Contains(log.String(), c.reason.Error()) != c.says || (log.Len() > 0) != c.says {
			t.Errorf("%s, %v: it says %q", c.level, c.reason, log)
		}
	}
}
