package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

func (w *world) repair(r Report, sources ...Source) ([]Repaired, error) {
	return Repair(w.t.Context(), Options{Objects: w.objects, Place: place, Level: catalog.VerifyData, Workers: 2, Clock: clock.System()}, r, sources)
}

// neededWAL are the objects that a verification finds missing.
func (w *world) neededWAL() []string {
	return slices.DeleteFunc(w.keys(), func(key string) bool { return !strings.Contains(key, "/wal/") || !removable(key) })
}

// WAL that is missing or damaged in one repository comes from another, sealed anew; then
// nothing is wrong any more, and no other object has changed. What no other has whole
// stays as it is.
func TestRepair(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t, secretsOf(t), nil), newWorld(t, nil, nil)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for n, key := range w.neededWAL() {
		for _, data := range [][]byte{nil, flipped(w.sound[key], r.IntN(len(w.sound[key]))), w.sound[key][:r.IntN(len(w.sound[key]))]}[n%3:][:1] {
			w.set(map[string][]byte{key: data})
			report := must[Report](t)(w.verify(catalog.VerifyData))
			if report.OK() {
				t.Fatalf("%s: nothing found", key)
			}
			done := must[[]Repaired](t)(w.repair(report, Source{"far", other.objects}))
			if d := cmp.Diff([]Repaired{{key, "far"}}, done); d != "" {
				t.Errorf("%s: %s", key, d)
			}
			if again := must[Report](t)(w.verify(catalog.VerifyData)); !again.OK() {
				t.Errorf("%s: after the repair: %+v", key, again.all())
			}
			wal, err := Run(t.Context(), Options{Objects: w.objects, Place: place, Level: catalog.VerifyData, WALOnly: true, Workers: 2, Clock: clock.System()})
			if joined := report.Again(wal); err != nil || !joined.OK() {
				t.Errorf("%s: looked at again: %v, %+v", key, err, joined.all())
			}
			for k, now := range w.snapshot() {
				if k != key && !bytes.Equal(now, w.sound[k]) {
					t.Errorf("%s: it changed %s", key, k)
				}
			}
			w.heal(map[string][]byte{key: nil})
		}
		if n == 0 { // of a source that is damaged too
			w.set(map[string][]byte{key: w.sound[key][:300]})
			other.set(map[string][]byte{key: flipped(other.sound[key], 200)})
			report := must[Report](t)(w.verify(catalog.VerifyData))
			if done := must[[]Repaired](t)(w.repair(report, Source{"far", other.objects})); len(done) > 0 || !bytes.Equal(w.snapshot()[key], w.sound[key][:300]) {
				t.Errorf("from a damaged one it repaired %v", done)
			}
			w.heal(map[string][]byte{key: nil})
			other.heal(map[string][]byte{key: nil})
		}
	}
}

// Packs and what else is a backup's own are not repaired, and what is sound by now is left
// alone.
func TestRepairNothing(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t, nil, nil), newWorld(t, nil, nil)
	key, _ := w.packOf(first, "PG_VERSION", 0)
	wal := w.neededWAL()[0]
	w.set(map[string][]byte{key: flipped(w.sound[key], 130), wal: nil})
	report := must[Report](t)(w.verify(catalog.VerifyData))
	w.heal(map[string][]byte{wal: nil})
	if done := must[[]Repaired](t)(w.repair(report, Source{"far", other.objects})); len(done) > 0 {
		t.Errorf("it repaired %v", done)
	}
	if !bytes.Equal(w.snapshot()[wal], w.sound[wal]) {
		t.Error("what was sound was replaced")
	}
}

// Cut off before any operation of the store, a repair leaves what was damaged, or what is
// whole, and never neither; the next one finishes.
func TestRepairCutOff(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t, nil, nil), newWorld(t, nil, nil)
	key := w.neededWAL()[1]
	cut := errors.New("cut off")
	for at := 0; ; at++ {
		w.set(map[string][]byte{key: w.sound[key][:200]})
		report := must[Report](t)(w.verify(catalog.VerifyData))
		n := 0
		w.hook = func(*mem.Call) error {
			if n++; n > at {
				return cut
			}
			return nil
		}
		done, err := w.repair(report, Source{"far", other.objects})
		w.hook = nil
		now, gerr := store.Get(context.Background(), w.store, key, 1<<30)
		if gerr != nil || len(now) == 0 {
			t.Fatalf("cut off at %d: the object is gone: %v", at, gerr)
		}
		if err == nil {
			if len(done) != 1 {
				t.Errorf("it repaired %v", done)
			}
			t.Logf("%d operations", at)
			return
		}
		if whole := must[Report](t)(w.verify(catalog.VerifyData)).OK(); whole == bytes.Equal(now, w.sound[key][:200]) {
			t.Errorf("cut off at %d: whole is %v", at, whole)
		}
		w.hook = nil
		if !errors.Is(err, cut) {
			t.Fatal(fmt.Errorf("cut off at %d: %w", at, err))
		}
		w.heal(map[string][]byte{key: nil})
	}
}
