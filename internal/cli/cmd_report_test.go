package cli

import (
	"os"
	"strings"
	"testing"
)

// readReport is what is looked at of a report.
type readReport struct {
	TrustedKeys []string `json:"trusted_key_ids"`
	Proofs      []map[string]any
	Summary     struct {
		Backups       int
		ByLevel       map[string]int `json:"backups_by_verified_level"`
		Never         int            `json:"backups_never_verified"`
		Failed        int            `json:"backups_failed"`
		Proofs        int
		NotOK         int     `json:"proofs_not_ok"`
		NotVouchedFor int     `json:"proofs_without_valid_signature"`
		Measured      int     `json:"restores_measured"`
		RTOMedian     float64 `json:"rto_median_seconds"`
		RTOMax        float64 `json:"rto_max_seconds"`
		RTOObjective  float64 `json:"rto_objective_seconds"`
		RTOMet        *bool   `json:"rto_objective_met"`
	}
}

func TestRecoveryReport(t *testing.T) {
	t.Parallel()
	p := newProofSite(t)
	text, err := os.ReadFile(p.file)
	p.must(err)
	p.must(os.WriteFile(p.file, append(text, "objectives: {database: {rto: 1m}}\n"...), 0o600))
	ids := p.threeProofs()

	r := p.run("report", "recovery", "-o", "json")
	v := decoded[readReport](t, r.stdout)
	s := v.Summary
	if r.exit != 0 || len(v.Proofs) != 3 || s.Proofs != 3 || s.NotOK != 1 || s.NotVouchedFor != 0 || s.Backups != 2 || s.Failed != 1 || s.Never != 0 || s.ByLevel["data"] != 1 ||
		s.Measured != 1 || s.RTOMedian != 73.5 || s.RTOMax != 73.5 || s.RTOObjective != 60 || s.RTOMet == nil || *s.RTOMet || len(v.TrustedKeys) != 1 {
		t.Errorf("%+v", r)
	}
	if again := p.run("report", "recovery", "--format", "json"); len(decoded[readReport](t, again.stdout).Proofs) != 3 {
		t.Errorf("%+v", again)
	}

	for format, want := range map[string][]string{
		"md": {"# Recovery report: main\n", "| Backups now | 2: 0 verified at level restore, 1 at data, 0 at objects, 0 never |\n", "| Objective for restores | 1m00s, MISSED by the longest |\n",
			"### 2026-11-24T06:02:00Z, verify objects: NOT OK\n", "- PROBLEM: missing: packs/1: it is \\<gone\\>\n", "- recovered to 0/2000028 (target: latest), 16.0 MiB of WAL in 15.5s\n", "record `" + ids[0] + "`, signature: valid "},
		"html": {"<!DOCTYPE html>", "<h1>Recovery report: main</h1>", "<li>PROBLEM: missing: packs/1: it is &lt;gone&gt;</li>", `<section class="bad">`, "record " + ids[0] + ", signature: valid ", "</html>\n"},
	} {
		r := p.run("report", "recovery", "--format", format)
		for _, part := range want {
			if r.exit != 0 || !strings.Contains(r.stdout, part) {
				t.Errorf("%s: no %q in %+v", format, part, r)
			}
		}
		if strings.Contains(r.stdout, "<gone>") || strings.Contains(r.stdout, "http") {
			t.Errorf("%s: it has markup of others, or needs other files:\n%s", format, r.stdout)
		}
	}

	for args, want := range map[string]int{
		"--from 2026-11-24": 3, "--to 2026-11-24": 3, "--from 2026-11-25": 0, "--to 2026-11-23": 0,
		"--from 2026-11-24T06:01:00Z --to 2026-11-24T06:02:00Z": 1,
	} {
		r := p.run(append([]string{"report", "recovery", "-o", "json"}, strings.Fields(args)...)...)
		if v := decoded[readReport](t, r.stdout); r.exit != 0 || v.Summary.Proofs != want {
			t.Errorf("%s: %d proofs, %+v", args, v.Summary.Proofs, r)
		}
	}
	for _, args := range []string{"--from yesterday", "--to 2026-11-24T06:01:00", "--from 2026-11-24 --to 2026-11-01", "--format pdf"} {
		p.run(append([]string{"report", "recovery", "-o", "json"}, strings.Fields(args)...)...).failedWith(t, exitUsage, "usage")
	}

	// One that cannot be read is told of, and the others are reported.
	p.must(os.WriteFile(p.object(ids[1]), []byte("x"), 0o600))
	if r := p.run("report", "recovery"); r.exit != exitProblem || !strings.Contains(r.stdout, "## What cannot be read") || !strings.Contains(r.stdout, ids[0]) {
		t.Errorf("%+v", r)
	}
}
