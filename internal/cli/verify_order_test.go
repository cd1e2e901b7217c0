package cli

import (
	"slices"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
)

// Never verified comes first, then the oldest proof, and of equals the newest backup.
func TestProveMost(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }
	at := func(level catalog.VerifyLevel, n int, ok bool) catalog.Verification {
		one := catalog.Verified{ID: "proof", At: day(n), Level: level, OK: ok}
		if !ok {
			return catalog.Verification{Last: one, Failed: one}
		}
		return catalog.Verification{Last: one, Best: one}
	}
	known := map[string]catalog.Verification{
		"1": at(catalog.VerifyRestore, 20, true),
		"3": at(catalog.VerifyRestore, 10, true),
		"4": at(catalog.VerifyData, 21, true),
		"5": at(catalog.VerifyRestore, 15, false),
		"6": at(catalog.VerifyRestore, 10, true),
	}
	for _, tc := range []struct {
		level catalog.VerifyLevel
		want  []string
	}{
		{catalog.VerifyRestore, []string{"7 never verified", "4 verified at level data only", "2 never verified",
			"6 last verified at 2026-11-10T00:00:00Z", "3 last verified at 2026-11-10T00:00:00Z",
			"5 found damaged at 2026-11-15T00:00:00Z", "1 last verified at 2026-11-20T00:00:00Z"}},
		{catalog.VerifyObjects, []string{"7 never verified", "2 never verified", "6 last verified at 2026-11-10T00:00:00Z",
			"3 last verified at 2026-11-10T00:00:00Z", "5 found damaged at 2026-11-15T00:00:00Z",
			"1 last verified at 2026-11-20T00:00:00Z", "4 last verified at 2026-11-21T00:00:00Z"}},
	} {
		var all []candidate
		for _, id := range []string{"1", "2", "3", "4", "5", "6", "7"} {
			all = append(all, candidate{id: id})
		}
		proveMost(all, tc.level, func(c candidate) catalog.Verification { return known[c.id] })
		var got []string
		for _, c := range all {
			got = append(got, c.id+" "+c.why)
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("level %s: %q, want %q", tc.level, got, tc.want)
		}
	}
}
