package verify

import (
	"testing"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg"
)

// A segment that one way needs up to a fork is judged to its end for another.
func TestJudgedToTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil, nil)
	s := pg.Segment{Timeline: 1, Number: 5}
	one := newWAL(place.SystemID, 1, 5)
	one.noop(100, 'a')
	fork := one.at()
	w.segment(s, "", one.segment(5)) // which has nothing after the fork
	step := catalog.Step{Place: place, Segment: s, End: fork}
	whole := step
	whole.End = s.End(segmentSize)
	for _, level := range []catalog.VerifyLevel{catalog.VerifyObjects, catalog.VerifyData} {
		v := &verification{Options: Options{Objects: w.objects, Place: place, Level: level, Workers: 2, Clock: clock.System()}}
		w.must(v.validate())
		v.archive.SegmentSize = segmentSize
		for name, steps := range map[string][]catalog.Step{"the fork": {step}, "the end, too": {step, whole}} {
			plan := &walPlan{}
			for _, one := range steps {
				plan.backups = append(plan.backups, &walBackup{steps: []catalog.Step{one}})
			}
			found := must[map[judged]catalog.Problem](t)(v.segments(t.Context(), plan))
			if len(found) != len(steps)-1 {
				t.Errorf("level %s, to %s: %v", level, name, found)
			}
		}
	}
}
