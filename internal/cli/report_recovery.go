package cli

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
)

// recoveryReport is what restores and verifications of a time have shown.
type recoveryReport struct {
	Cluster     string          `json:"cluster"`
	GeneratedAt stamp           `json:"generated_at"`
	Program     string          `json:"salvor_version"`
	From        stamp           `json:"from,omitzero"`
	To          stamp           `json:"to,omitzero"`
	TrustedKeys []string        `json:"trusted_key_ids"`
	Summary     recoverySummary `json:"summary"`
	Proofs      []proofView     `json:"proofs"`
	Unreadable  []string        `json:"unreadable"`
	Proves      []string        `json:"proves"`
	NotProven   []string        `json:"does_not_prove"`
}

// recoverySummary counts. Backups are those that there are now, whenever they were proven.
type recoverySummary struct {
	Backups       int                         `json:"backups"`
	ByLevel       map[catalog.VerifyLevel]int `json:"backups_by_verified_level"`
	Never         int                         `json:"backups_never_verified"`
	Failed        int                         `json:"backups_failed"`
	Proofs        int                         `json:"proofs"`
	NotOK         int                         `json:"proofs_not_ok"`
	NotVouchedFor int                         `json:"proofs_without_valid_signature"`
	Oldest        stamp                       `json:"oldest_proof_at,omitzero"`
	Newest        stamp                       `json:"newest_proof_at,omitzero"`
	Measured      int                         `json:"restores_measured"`
	RTOMedian     *float64                    `json:"rto_median_seconds,omitempty"`
	RTOMax        *float64                    `json:"rto_max_seconds,omitempty"`
	RTOObjective  *float64                    `json:"rto_objective_seconds,omitempty"`
	RTOMet        *bool                       `json:"rto_objective_met,omitempty"`
}

func newRecoveryReport(cluster string, proofs []foundProof, backups []stored, rto time.Duration) recoveryReport {
	r := recoveryReport{Cluster: cluster, TrustedKeys: []string{}, Proofs: []proofView{}, Unreadable: []string{},
		Proves: []string{
			"Who has the signing key has said this of each backup, which is named by its digest, and not only by its name.",
			"Where a server was started: it ran on what came out of the repository, and had replayed the WAL up to the position named, in the time named.",
			"No record between two others was removed or changed, if `salvor proof verify --all` passes.",
		},
		NotProven: []string{
			"That the next restore works: storage, hosts and releases change. These are measurements of their day.",
			"That the data means what it should, beyond the checks that are listed.",
			"That who has the signing key told the truth, or that the clocks were right.",
			"That records newer than the newest one here were not removed.",
		}}
	sum := recoverySummary{Backups: len(backups), Proofs: len(proofs),
		ByLevel: map[catalog.VerifyLevel]int{catalog.VerifyObjects: 0, catalog.VerifyData: 0, catalog.VerifyRestore: 0}}
	for _, b := range backups {
		switch {
		case b.proven.Failed.ID != "":
			sum.Failed++
		case b.proven.Best.ID == "":
			sum.Never++
		default:
			sum.ByLevel[b.proven.Best.Level]++
		}
	}
	var times []float64
	for i := range proofs {
		p := &proofs[i]
		if v, ok := p.view().(proofView); ok {
			r.Proofs = append(r.Proofs, v)
		}
		if !p.OK {
			sum.NotOK++
		}
		if p.signature != signatureValid {
			sum.NotVouchedFor++
		}
		if seconds := p.RestoreSeconds(); p.OK && seconds > 0 {
			times = append(times, seconds)
		}
		if at := p.StartedAt; sum.Oldest.IsZero() || at.Before(time.Time(sum.Oldest)) {
			sum.Oldest = stamp(at)
		}
		if at := p.StartedAt; at.After(time.Time(sum.Newest)) {
			sum.Newest = stamp(at)
		}
	}
	sum.measure(times, rto.Seconds())
	r.Summary = sum
	return r
}

// measure sums up how long restores took, and compares it with the objective; 0 is none.
func (s *recoverySummary) measure(times []float64, objective float64) {
	slices.Sort(times)
	if s.Measured = len(times); s.Measured > 0 {
		s.RTOMedian, s.RTOMax = new(roundUp(times[len(times)/2])), new(roundUp(times[len(times)-1]))
	}
	if objective > 0 {
		s.RTOObjective = &objective
		if s.RTOMax != nil {
			s.RTOMet = new(*s.RTOMax <= objective)
		}
	}
}

// Rows of the summary, for people.
func (r recoveryReport) Rows() details {
	s := r.Summary
	span := func(seconds *float64) string { return formatDuration(secondsOf(*seconds)) }
	d := details{
		{"Cluster", r.Cluster}, {"Time", r.period()}, {"Made", formatTime(time.Time(r.GeneratedAt)) + ", by salvor " + r.Program},
		{"Backups now", fmt.Sprintf("%d: %d verified at level restore, %d at data, %d at objects, %d never", s.Backups,
			s.ByLevel[catalog.VerifyRestore], s.ByLevel[catalog.VerifyData], s.ByLevel[catalog.VerifyObjects], s.Never)},
		{"Backups that failed", fmt.Sprint(s.Failed)},
		{"Records", fmt.Sprintf("%d, %d of which found problems", s.Proofs, s.NotOK)},
		{"Without a valid signature", fmt.Sprint(s.NotVouchedFor)},
		{"Oldest, newest", strings.Trim(formatTime(time.Time(s.Oldest))+", "+formatTime(time.Time(s.Newest)), ", ")},
	}
	if s.RTOMedian == nil {
		d = append(d, detail{"Restores measured", "none"})
	} else {
		d = append(d, detail{"Restores measured", fmt.Sprintf("%d: median %s, longest %s", s.Measured, span(s.RTOMedian), span(s.RTOMax))})
	}
	if s.RTOObjective != nil {
		verdict := "not known"
		if s.RTOMet != nil {
			verdict = map[bool]string{true: "met by each", false: "MISSED by the longest"}[*s.RTOMet]
		}
		d = append(d, detail{"Objective for restores", span(s.RTOObjective) + ", " + verdict})
	}
	return d
}

func (r recoveryReport) period() string {
	from, to := formatTime(time.Time(r.From)), formatTime(time.Time(r.To))
	switch {
	case from == "" && to == "":
		return "all that there is"
	case from == "":
		return "until " + to
	case to == "":
		return "since " + from
	}
	return from + " to " + to
}

// Name of a summary's row, for the template.
func (d detail) Name() string { return d.name }

// Value of a summary's row, for the template.
func (d detail) Value() string { return d.value }

// Lines of a record, for people.
func (p proofView) Lines() (out []string) {
	out = append(out, fmt.Sprintf("of backup %s in %s, by salvor %s on %s with %d processors, in %s", p.BackupID, p.Repository, p.Program, p.Host, p.CPUs, formatDuration(secondsOf(p.Seconds))))
	if p.Size > 0 {
		out = append(out, fmt.Sprintf("restored %s in %s; %s fetched, %s written", formatBytes(int64(p.Size)), formatDuration(secondsOf(p.CopySeconds)), formatBytes(int64(p.Fetched)), formatBytes(int64(p.Written))))
	}
	if p.RecoveredTo != 0 {
		out = append(out, fmt.Sprintf("recovered to %s (target: %s), %s of WAL in %s", p.RecoveredTo, p.Target, formatBytes(int64(p.Replayed)), formatDuration(secondsOf(p.ReplaySeconds))))
	}
	for _, c := range p.Checks {
		out = append(out, c.String())
	}
	for _, problem := range p.Problems {
		out = append(out, "PROBLEM: "+problem.String())
	}
	return out
}

// Title of a record, for people.
func (p proofView) Title() string {
	result := "ok"
	if !p.OK {
		result = "NOT OK"
	}
	return fmt.Sprintf("%s, %s: %s", formatTime(p.StartedAt), strings.TrimSpace(string(p.Kind)+" "+string(p.Level)), result)
}

// Sealed says what is known of the signature.
func (p proofView) Sealed() string {
	return strings.TrimSpace(string(p.Signature) + " " + strings.Join(p.KeyIDs, " "))
}

// unmarked makes of a text one that has no markup in it.
func unmarked(s string) string {
	var b strings.Builder
	for _, r := range strings.Join(strings.Fields(s), " ") {
		if strings.ContainsRune("\\`*_[]<>|#", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (r recoveryReport) writeMarkdown(w io.Writer) error {
	return lines(func(w io.Writer) {
		fmt.Fprintf(w, "# Recovery report: %s\n\n| | |\n|---|---|\n", unmarked(r.Cluster))
		for _, row := range r.Rows() {
			fmt.Fprintf(w, "| %s | %s |\n", row.name, unmarked(row.value))
		}
		list := func(title string, texts []string) {
			fmt.Fprintf(w, "\n## %s\n\n", title)
			for _, t := range texts {
				fmt.Fprintf(w, "- %s\n", t)
			}
		}
		list("What this proves", r.Proves)
		list("What it does not prove", r.NotProven)
		fmt.Fprintf(w, "\n## Records\n")
		for _, p := range r.Proofs {
			fmt.Fprintf(w, "\n### %s\n\n", unmarked(p.Title()))
			for _, line := range p.Lines() {
				fmt.Fprintf(w, "- %s\n", unmarked(line))
			}
			fmt.Fprintf(w, "- record `%s`, signature: %s\n", p.ID, unmarked(p.Sealed()))
		}
		for i, u := range r.Unreadable {
			if i == 0 {
				fmt.Fprintf(w, "\n## What cannot be read\n\n")
			}
			fmt.Fprintf(w, "- %s\n", unmarked(u))
		}
	}).writeTo(w)
}

//go:embed report_recovery.html
var recoveryPage string

func (r recoveryReport) writeHTML(w io.Writer) error {
	t, err := template.New("recovery").Parse(recoveryPage)
	if err != nil {
		return err
	}
	return t.Execute(w, r)
}
