package retention

import (
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
)

// calendar keeps, of each of the last so many hours, days and so on, the best backup of
// each place.
func (d *decider) calendar() {
	zone := d.policy.Zone
	if zone == nil {
		zone = time.UTC
	}
	for _, c := range []struct {
		rule  Rule
		count int
		of    func(time.Time) bucket
	}{
		{ByHour, d.policy.Hourly, hourOf}, {ByDay, d.policy.Daily, dayOf}, {ByWeek, d.policy.Weekly, weekOf},
		{ByMonth, d.policy.Monthly, monthOf}, {ByYear, d.policy.Yearly, yearOf},
	} {
		if c.count > 0 {
			d.last(c.rule, c.count, func(t time.Time) bucket { return c.of(t.In(zone)) })
		}
	}
}

// bucket is an hour, a day and so on of the calendar: equal for two times of the same one.
type bucket [3]int

// hourOf tells the two hours apart that have one name when clocks are set back.
func hourOf(t time.Time) bucket {
	_, offset := t.Zone()
	return bucket{t.Year()*1000 + t.YearDay(), t.Hour(), offset}
}

func dayOf(t time.Time) bucket { return bucket{t.Year(), t.YearDay()} }

func weekOf(t time.Time) bucket {
	year, week := t.ISOWeek()
	return bucket{year, week}
}

func monthOf(t time.Time) bucket { return bucket{t.Year(), int(t.Month())} }

func yearOf(t time.Time) bucket { return bucket{t.Year()} }

// last keeps the best of each place in the last so many buckets that have a good backup,
// and in the last so many at all.
func (d *decider) last(rule Rule, count int, of func(time.Time) bucket) {
	all, sound := 0, 0
	for end := d.past; end > 0 && (sound < count || all < count); {
		// The backups of one bucket are neighbours.
		in := of(d.backups[end-1].StoppedAt)
		begin := end - 1
		best := map[catalog.Place]int{}
		for i := end - 1; i >= 0 && of(d.backups[i].StoppedAt) == in; i-- {
			begin = i
			if j, ok := best[d.backups[i].Place()]; !ok || d.better(i, j) {
				best[d.backups[i].Place()] = i
			}
		}
		isSound := false
		for _, i := range best {
			isSound = isSound || d.quality[i] >= good
		}
		for _, i := range best {
			if all < count || isSound {
				d.keep(i, rule)
			}
		}
		all++
		if isSound {
			sound++
		}
		end = begin
	}
}
