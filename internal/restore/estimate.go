package restore

import (
	"slices"

	"github.com/salvor-dr/salvor/internal/catalog"
)

// startUp is the most that a time is not scaled down below, in seconds: a restore of
// nearly nothing makes directories all the same, and a server that has nearly nothing to
// replay has to start.
const startUp = 5

// Work is what a restore has to do.
type Work struct {
	Size   uint64 // of the data directory, bytes
	Replay uint64 // WAL, bytes
	Delta  bool   // the directory holds something that is restored over
}

// Span is how long something takes, in seconds: likely, and at the least and at the most.
type Span struct{ Likely, Low, High float64 }

// Estimate is how long a restore takes if it goes as others did.
type Estimate struct {
	Copy         Span // until the directory is durable
	Replay       Span // until the server is at its target; zeros if no replay was measured
	Measurements int  // restores that it rests on
	Here         bool // all of them were done on the host
}

// Total is the time until the server is at its target.
func (e Estimate) Total() Span {
	return Span{e.Copy.Likely + e.Replay.Likely, e.Copy.Low + e.Replay.Low, e.Copy.High + e.Replay.High}
}

// EstimateTime says how long work takes on a host, by the restores that were measured,
// those of verifications included: those on the host, or if there are none, all. It gives
// false if none tells anything.
//
// Each measurement is scaled to the work, and the likely time is the median. It may be
// too long rather than too short: what it costs to begin is in each measurement, and is
// scaled up with it. Delta restores, whose time depends on what was right already, count
// only for a delta restore, and only if no whole one was measured.
func EstimateTime(w Work, host string, past []catalog.Proof) (Estimate, bool) {
	copies, here := onHost(past, host, func(p catalog.Proof) measured {
		if p.Delta {
			return measured{}
		}
		return measured{p.Size, p.CopySeconds}
	})
	if len(copies) == 0 && w.Delta {
		copies, here = onHost(past, host, func(p catalog.Proof) measured { return measured{p.Size, p.CopySeconds} })
	}
	if len(copies) == 0 {
		return Estimate{}, false
	}
	e := Estimate{Here: here}
	e.Copy, e.Measurements = scale(w.Size, copies)
	replays, here := onHost(past, host, func(p catalog.Proof) measured { return measured{p.Replayed, p.ReplaySeconds} })
	if len(replays) == 0 {
		return e, true
	}
	var n int
	e.Replay, n = scale(w.Replay, replays)
	e.Measurements, e.Here = min(e.Measurements, n), e.Here && here
	return e, true
}

// measured is a number of bytes, and the seconds they took. One of zero tells nothing.
type measured struct {
	bytes   uint64
	seconds float64
}

// onHost takes the measurements on the host, if there is one, else all.
func onHost(past []catalog.Proof, host string, of func(catalog.Proof) measured) (list []measured, here bool) {
	var all []measured
	for _, p := range past {
		m := of(p)
		if p.Kind != catalog.RestoreProof && p.Kind != catalog.VerifyProof || m.bytes == 0 || !(m.seconds > 0) {
			continue
		}
		all = append(all, m)
		if p.Host == host {
			list = append(list, m)
		}
	}
	if len(list) > 0 {
		return list, true
	}
	return all, false
}

// scale says how long the bytes take by the measurements, and by how many of them: those
// of much less are left out, as far as there are others, since most of their time was
// spent on beginning.
func scale(bytes uint64, list []measured) (Span, int) {
	floor, largest := float64(startUp), uint64(0)
	for _, m := range list {
		floor, largest = min(floor, m.seconds), max(largest, m.bytes)
	}
	var times []float64
	for _, m := range list {
		if m.bytes >= min(bytes/10, largest/2) {
			times = append(times, max(floor, m.seconds*float64(bytes)/float64(m.bytes)))
		}
	}
	slices.Sort(times)
	n := len(times)
	return Span{Likely: times[n/2], Low: times[0], High: times[n-1]}, n
}
