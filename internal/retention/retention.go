package retention

import (
	"cmp"
	"slices"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
)

// Policy says what is kept.
type Policy struct {
	Window  time.Duration  // back from now, within which any moment can be recovered
	Hourly  int            // hours that have a backup of which one is kept, and so on
	Daily   int            //
	Weekly  int            // ISO weeks, which begin on Monday
	Monthly int            //
	Yearly  int            //
	Minimum int            // good backups of each place that are kept, however old
	Zone    *time.Location // whose calendar counts; nil is UTC
}

// Verdict is what the last verification of a backup found.
type Verdict int

// The verdicts.
const (
	Unverified Verdict = iota
	Sound
	Damaged
)

// Backup is a backup with what is known of it.
type Backup struct {
	*catalog.Head
	Verdict Verdict
	Level   catalog.VerifyLevel // of the verification, if sound
	Held    bool
	InUse   bool // a restore reads it
	Parent  bool // of a backup under way
}

// Place is a place of the cluster with its WAL.
type Place struct {
	Own catalog.Archive // its own WAL
	// Life is its WAL with that of the lives it continues, and Before are their places.
	Life   catalog.Archive
	Before []catalog.Place
	// Unreadable says that a backup of it cannot be read, so that it is not known which WAL
	// that needs.
	Unreadable bool
	// Running are when backups began that are under way.
	Running []time.Time
}

// History is what there is.
type History struct {
	Backups []Backup // in any order
	Places  []Place
}

// Rule is why a backup is kept.
type Rule string

// The rules.
const (
	ByWindow   Rule = "window"
	ByHour     Rule = "hourly"
	ByDay      Rule = "daily"
	ByWeek     Rule = "weekly"
	ByMonth    Rule = "monthly"
	ByYear     Rule = "yearly"
	ByMinimum  Rule = "minimum"
	Last       Rule = "last"
	LastSound  Rule = "verified"
	ByHold     Rule = "held"
	InUse      Rule = "in-use"
	ParentUsed Rule = "parent-in-use"
	InFuture   Rule = "future"
)

// Decision is what becomes of a backup.
type Decision struct {
	Backup
	KeptBy []Rule // none: it is removed
}

// Kept says whether the backup is kept.
func (d Decision) Kept() bool { return len(d.KeptBy) > 0 }

// Decisions are what becomes of everything.
type Decisions struct {
	Since   time.Time  // the window begins here
	Backups []Decision // oldest first
	WAL     []Line     // of every place's own timelines, by place and timeline
}

// Decide says what is kept and what goes. See the package's documentation for the rules.
func Decide(p Policy, h History, now time.Time) Decisions {
	d := decider{policy: p, history: h, kept: map[int][]Rule{}, floors: map[lineKey]uint64{}}
	d.backups = slices.Clone(h.Backups)
	slices.SortStableFunc(d.backups, func(a, b Backup) int {
		return cmp.Or(a.StoppedAt.Compare(b.StoppedAt), cmp.Compare(a.ID, b.ID))
	})
	d.since = d.beginning(now)
	d.judge()
	d.past = len(d.backups)
	for d.past > 0 && d.backups[d.past-1].StoppedAt.After(now) {
		d.past--
		d.keep(d.past, InFuture)
	}
	d.window()
	d.calendar()
	d.lasting()
	d.used()
	out := Decisions{Since: d.since}
	for i, b := range d.backups {
		out.Backups = append(out.Backups, Decision{b, d.kept[i]})
	}
	out.WAL = d.lines()
	return out
}

// decider is one decision at work. Backups are named by their index, which rises with
// the time of their end.
type decider struct {
	policy  Policy
	history History
	backups []Backup
	quality []int
	past    int // backups before this one ended before now
	since   time.Time
	kept    map[int][]Rule
	floors  map[lineKey]uint64 // the first segment from which on a timeline's WAL is kept
}

func (d *decider) keep(i int, r Rule) {
	if !slices.Contains(d.kept[i], r) {
		d.kept[i] = append(d.kept[i], r)
	}
}

// skew is how far the clocks of servers, stores and this host may differ, where more is kept
// for it.
const skew = time.Hour

// beginning gives the moment at which the window begins.
func (d *decider) beginning(now time.Time) time.Time {
	var newest time.Time
	for _, b := range d.backups {
		newest = later(newest, b.StoppedAt)
	}
	for _, p := range d.history.Places {
		for _, l := range p.Own.Lines {
			newest = later(newest, l.Newest)
		}
	}
	if !newest.IsZero() && newest.Before(now) {
		now = newest
	}
	since := now.Add(-d.policy.Window)
	for _, p := range d.history.Places {
		for _, began := range p.Running {
			if began = began.Add(-skew); began.Before(since) {
				since = began
			}
		}
	}
	return since
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Qualities of a backup. Verified ones have more than good, by the level.
const (
	broken  = iota // found damaged, or its WAL is not there
	spotted        // with damaged pages
	good
)

func (d *decider) judge() {
	d.quality = make([]int, len(d.backups))
	for i, b := range d.backups {
		switch {
		case b.Verdict == Damaged || !d.consistent(b):
			d.quality[i] = broken
		case len(b.Head.Damaged) > 0:
			d.quality[i] = spotted
		case b.Verdict == Sound:
			d.quality[i] = good + b.Level.Rank()
		default:
			d.quality[i] = good
		}
	}
}

// consistent says whether the WAL is there that the backup needs by itself.
func (d *decider) consistent(b Backup) bool {
	if b.WALIncluded {
		return true
	}
	for _, p := range d.history.Places {
		if p.Own.Place == b.Place() {
			return p.Life.Reaches(historyOf(p.Life, b.Timeline), b.StartLSN, b.StopLSN)
		}
	}
	return false
}

// better says whether backup i is to be chosen before j.
func (d *decider) better(i, j int) bool {
	return d.quality[i] > d.quality[j] || d.quality[i] == d.quality[j] && i > j
}

// lasting keeps what is the last of its kind in its place.
func (d *decider) lasting() {
	type last struct {
		best, any, sound int // -1 until there is one
		good             int // how many
	}
	places := map[catalog.Place]*last{}
	for i := d.past - 1; i >= 0; i-- {
		l := places[d.backups[i].Place()]
		if l == nil {
			l = &last{best: i, any: i, sound: -1}
			places[d.backups[i].Place()] = l
		}
		if class := min(d.quality[i], good); class > min(d.quality[l.best], good) {
			l.best = i
		}
		if l.sound < 0 && d.quality[i] >= good+catalog.VerifyData.Rank() {
			l.sound = i
		}
		if d.quality[i] >= good && l.good < d.policy.Minimum {
			l.good++
			d.keep(i, ByMinimum)
		}
	}
	for _, l := range places {
		d.keep(l.best, Last)
		d.keep(l.any, Last)
		if l.sound >= 0 {
			d.keep(l.sound, LastSound)
		}
	}
}

// used keeps what somebody wants to stay.
func (d *decider) used() {
	for i, b := range d.backups {
		if b.Held {
			d.keep(i, ByHold)
		}
		if b.Parent {
			d.keep(i, ParentUsed)
		}
		if b.InUse {
			d.keep(i, InUse)
			for _, p := range d.history.Places {
				for _, l := range p.Life.Lines {
					if leads(p, b, l) {
						d.follow(p, b, l)
					}
				}
			}
		}
	}
}
