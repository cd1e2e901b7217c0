package cli

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/expire"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/retention"
	"github.com/salvor-dr/salvor/internal/store"
)

// kept is a store of which a copy is on this host.
type kept struct{ store.Store }

func (kept) Forget(string) bool { return true }

// What stays is read before anything goes, and a leap in time is asked about.
func TestExpireAllows(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC)
	head := &catalog.Head{ID: "20261124T050000Z-000001", Cluster: "main", SystemID: 7, Incarnation: "0123456789abcdef"}
	lost := retention.Decisions{Backups: []retention.Decision{{Backup: retention.Backup{Head: head}, KeptBy: []retention.Rule{retention.Last}}}}
	leap := expire.Leap{From: at, To: at.AddDate(1, 0, 0)}
	for what, c := range map[string]struct {
		v    expiredView
		yes  bool
		lost bool
		asks bool
	}{
		"nothing goes":                     {v: expiredView{decisions: lost}},
		"a backup, and what stays is lost": {v: expiredView{decisions: lost, RemovedBackups: 1}, lost: true},
		"WAL, and what stays is lost":      {v: expiredView{decisions: lost, WAL: []purgedView{{Segments: 1}}}, lost: true},
		"that is no matter of --yes":       {v: expiredView{decisions: lost, WAL: []purgedView{{Segments: 1}}}, yes: true, lost: true},
		"WAL":                              {v: expiredView{WAL: []purgedView{{Segments: 1}}}},
		"WAL after a leap":                 {v: expiredView{WAL: []purgedView{{Segments: 1}}, leap: leap}, asks: true},
		"a leap that is meant":             {v: expiredView{WAL: []purgedView{{Segments: 1}}, leap: leap}, yes: true},
		"most backups":                     {v: expiredView{RemovedBackups: manyBackups, Backups: make([]decidedView, manyBackups+1)}, asks: true},
		"half of them":                     {v: expiredView{RemovedBackups: manyBackups, Backups: make([]decidedView, 2*manyBackups)}},
	} {
		s, _, r, _ := measuring("warn", nil)
		r.objects = seal.New(kept{r.objects.Store()}, nil)
		s.yes, s.stdin = c.yes, strings.NewReader("")
		err := s.allows(t.Context(), &config.Config{Cluster: "main"}, r, &c.v)
		var f *failed
		asks := errors.As(err, &f) && f.code == "confirmation_required"
		if (err != nil) != (c.lost || c.asks) || errors.Is(err, catalog.ErrNoBackup) != c.lost || asks != c.asks {
			t.Errorf("%s: %v", what, err)
		}
	}
}
