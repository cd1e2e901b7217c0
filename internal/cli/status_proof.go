package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/restore"
)

// provenAgeMax is when the last restore that was proven is old: releases, hosts and the
// database have changed since.
const provenAgeMax = 7 * 24 * time.Hour

func (v *statusView) warn(format string, args ...any) {
	v.Warnings = append(v.Warnings, fmt.Sprintf(format, args...))
}

// addProven adds what the proofs of a repository tell.
func (v *statusView) addProven(p proven, w walView, host string, database *componentView) {
	for _, h := range w.life.Backups {
		if failed := p.backups[h.ID].Failed; failed.ID != "" {
			v.problem("repository %s: backup %s: verification at level %s found problems: salvor proof show %s", w.Repository, h.ID, failed.Level, failed.ID)
		}
	}
	if at := p.restored.StartedAt; at.After(time.Time(v.LastProofAt)) {
		v.LastProofAt, v.LastProofID = stamp(at), p.restored.ID
	}
	if at := p.verified.StartedAt; at.After(time.Time(v.LastVerifiedAt)) {
		v.LastVerifiedAt = stamp(at)
	}
	for _, m := range p.measured {
		if seconds := m.RestoreSeconds(); m.OK && seconds > 0 && m.StartedAt.After(time.Time(database.MeasuredAt)) {
			database.RTOMeasured, database.MeasuredAt = new(roundUp(seconds)), stamp(m.StartedAt)
		}
	}
	if newest := w.window.Newest; w.window.OK && database.Estimate == nil { // of the first repository, as restore chooses
		work := restore.Work{Size: newest.Size}
		if w.window.EndLSN > newest.StartLSN {
			work.Replay = uint64(w.window.EndLSN - newest.StartLSN)
		}
		database.Estimate = p.estimate(host, work)
	}
}

// unproven warns of backups that nobody has restored for long. It is no problem by
// itself: what is there may well be sound, and a first backup can not be proven yet.
func (v *statusView) unproven(now time.Time) {
	const how = "salvor verify --level restore, or salvor restore --to DIR --start"
	switch age := now.Sub(time.Time(v.LastProofAt)); {
	case v.LastBackupID == "": // a greater worry
	case v.LastProofAt.IsZero():
		v.warn("no backup was ever restored, so nothing proves that one can be: %s", how)
	case age > provenAgeMax:
		v.warn("the last restore that proved anything is %s old: %s", formatDuration(age), how)
	}
}

// objectives compares what was measured with what recovery must achieve.
func (v *statusView) objectives(o config.Objective, database *componentView) {
	text := func(seconds float64) string { return formatDuration(secondsOf(seconds)) }
	if rto := time.Duration(o.RTO).Seconds(); rto > 0 {
		database.RTOObjective = &rto
		switch e := database.Estimate; {
		case e != nil && e.Total != nil && *e.Total > rto:
			v.problem("a restore would take about %s, and the objective is %s", text(*e.Total), text(rto))
		case e != nil && e.High != nil && *e.High > rto:
			v.warn("a restore may take %s, and the objective is %s", text(*e.High), text(rto))
		case e == nil || e.Total == nil:
			v.warn("whether a restore would meet its objective of %s is not known: none was measured", text(rto))
		}
	}
	if rpo := time.Duration(o.RPO).Seconds(); rpo > 0 {
		database.RPOObjective = &rpo
		if lost := database.RPOSeconds; lost != nil && *lost > rpo {
			v.problem("%s would be lost now, and the objective is %s", text(*lost), text(rpo))
		}
	}
}

// provenDetails say what was proven, and what that means for now.
func (v statusView) provenDetails() (d details) {
	objective := func(seconds *float64) string {
		if seconds == nil {
			return ""
		}
		return ", objective " + formatDuration(secondsOf(*seconds))
	}
	if !v.LastProofAt.IsZero() {
		d = append(d, detail{"last proven", formatTime(time.Time(v.LastProofAt)) + "  " + v.LastProofID})
	}
	for _, c := range v.Components {
		if c.RPOSeconds != nil {
			d = append(d, detail{"would be lost now", formatDuration(secondsOf(*c.RPOSeconds)) + objective(c.RPOObjective)})
		}
		if c.Estimate != nil {
			line := c.Estimate.details()[0].value
			line, _, _ = strings.Cut(line, "; `")
			d = append(d, detail{"a restore would take", line + objective(c.RTOObjective)})
		}
		if c.RTOMeasured != nil {
			d = append(d, detail{"last measured", fmt.Sprintf("%s, %s", formatDuration(secondsOf(*c.RTOMeasured)), formatTime(time.Time(c.MeasuredAt)))})
		}
	}
	return d
}
