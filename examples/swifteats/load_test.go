package swifteats_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/examples/swifteats"
)

// script is an Execer that notes what it is asked, and fails when it is told to.
type script struct {
	asked []string
	fail  func(n int) error // for the nth statement, from 1
}

func (s *script) Exec(_ context.Context, sql string, args ...any) error {
	name, _, _ := strings.Cut(strings.TrimPrefix(sql, "select public."), "(")
	s.asked = append(s.asked, fmt.Sprint(append([]any{name}, args...)...))
	if s.fail != nil {
		return s.fail(len(s.asked))
	}
	return nil
}

func TestRunIsReproducible(t *testing.T) {
	t.Parallel()
	day := func(seed uint64) []string {
		db := &script{}
		if _, err := swifteats.Run(t.Context(), db, swifteats.Options{Rate: 1e6, Orders: 40, Seed: seed}); err != nil {
			t.Fatal(err)
		}
		return db.asked
	}
	one := day(1)
	if diff := cmp.Diff(one, day(1)); diff != "" {
		t.Errorf("the same seed did something else:\n%s", diff)
	}
	if cmp.Equal(one, day(2)) {
		t.Error("two seeds did the same")
	}
	if cmp.Equal(day(0), day(0)) {
		t.Error("two random seeds did the same")
	}
}

func TestRunKeepsItsRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		stats, err := swifteats.Run(ctx, &script{}, swifteats.Options{Rate: 4})
		if err != nil || stats.Placed != 40 || stats.Paid != 40 {
			t.Errorf("10s at 4 orders a second: %v, %v; want 40 placed and paid", stats, err)
		}
	})
}

func TestRunReportsFailures(t *testing.T) {
	t.Parallel()
	down := errors.New("the database is down")
	for n, want := range map[int]struct {
		acknowledged int
		doing        string
	}{
		1: {0, "placing"}, 2: {1, "paying"}, 3: {1, "placing"}, 4: {2, "paying"},
	} {
		acknowledged := 0
		db := &script{fail: func(i int) error {
			if i == n {
				return down
			}
			return nil
		}}
		stats, err := swifteats.Run(t.Context(), db, swifteats.Options{Rate: 1e6, Acknowledged: func(swifteats.Order) { acknowledged++ }})
		if !errors.Is(err, down) || !strings.Contains(err.Error(), want.doing) {
			t.Errorf("statement %d failed: error %v, want one about %s", n, err, want.doing)
		}
		if acknowledged != want.acknowledged || stats.Placed != want.acknowledged {
			t.Errorf("statement %d failed: %d acknowledged, %d counted, want %d", n, acknowledged, stats.Placed, want.acknowledged)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	db := &script{fail: func(n int) error {
		if n < 5 {
			return nil
		}
		cancel()
		return fmt.Errorf("asking: %w", ctx.Err())
	}}
	if stats, err := swifteats.Run(ctx, db, swifteats.Options{Rate: 1e6}); err != nil || stats.Placed != 2 {
		t.Errorf("cancelled: %v, %v; want 2 placed and no error", stats, err)
	}
}

func TestRunRefusesBadOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []swifteats.Options{{}, {Rate: -1}, {Rate: 1, Orders: -1}} {
		if _, err := swifteats.Run(t.Context(), &script{}, o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	if err := swifteats.Fill(t.Context(), &script{}, 0, 1); err == nil {
		t.Error("Fill made no orders at all")
	}
}
