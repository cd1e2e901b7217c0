package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
)

// What status says of what was proven, and of the objectives.
func TestStatusProven(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	restored := catalog.Proof{ID: "20261124T060000Z-000001", Kind: catalog.RestoreProof, BackupID: "b", Host: "db1", StartedAt: at, OK: true,
		Size: 1 << 30, CopySeconds: 60, RecoveredTo: 0x2000000, Replayed: 1 << 20, ReplaySeconds: 10}
	passed := catalog.Proof{ID: "20261124T070000Z-000002", Kind: catalog.VerifyProof, BackupID: "b", StartedAt: at.Add(time.Hour), OK: true, Level: catalog.VerifyData}
	failed := passed
	failed.ID, failed.OK = "20261124T080000Z-000003", false
	of := func(rto, rpo time.Duration) config.Objective {
		return config.Objective{RTO: config.Duration(rto), RPO: config.Duration(rpo)}
	}
	for what, c := range map[string]struct {
		proofs    []catalog.Proof
		now       time.Time
		objective config.Objective
		problems  []string
		warnings  []string
		text      string
	}{
		"nothing": {now: at, warnings: []string{"no backup was ever restored"}, text: "would be lost now  30.0s\n"},
		"a restore": {proofs: []catalog.Proof{restored, passed}, now: at.Add(day),
			text: "last proven           2026-11-24T06:00:00Z  20261124T060000Z-000001\nwould be lost now     30.0s\n" +
				"a restore would take  about 2m20s: 2m00s to copy, 20.0s to replay (2m20s to 2m20s, by 1 restore measured on this host)\nlast measured         1m10s, 2026-11-24T06:00:00Z\n"},
		"long ago":          {proofs: []catalog.Proof{restored}, now: at.Add(8 * day), warnings: []string{"8d00h old"}, text: "last measured"},
		"a verification":    {proofs: []catalog.Proof{passed}, now: at, warnings: []string{"no backup was ever restored"}, text: "would be lost now"},
		"one that failed":   {proofs: []catalog.Proof{restored, failed}, now: at, problems: []string{"backup b: verification at level data found problems: salvor proof show " + failed.ID}, text: "last proven"},
		"another backup's":  {proofs: []catalog.Proof{restored, {ID: failed.ID, Kind: catalog.VerifyProof, BackupID: "gone", Level: catalog.VerifyData}}, now: at, text: "last proven"},
		"objectives met":    {proofs: []catalog.Proof{restored}, now: at, objective: of(time.Hour, time.Minute), text: "would be lost now     30.0s, objective 1m00s\n"},
		"objectives missed": {proofs: []catalog.Proof{restored}, now: at, objective: of(time.Minute, time.Second), problems: []string{"about 2m20s, and the objective is 1m00s", "30.0s would be lost now, and the objective is 1.0s"}, text: ", objective 1m00s\n"},
		"objectives maybe missed": {proofs: []catalog.Proof{restored, func() catalog.Proof { p := restored; p.CopySeconds = 10; return p }(), func() catalog.Proof { p := restored; p.CopySeconds = 20; return p }()},
			now: at, objective: of(2*time.Minute, 0), warnings: []string{"may take 2m20s, and the objective is 2m00s"}, text: ", objective 2m00s\n"},
		"objectives unknown": {now: at, objective: of(time.Hour, 0), warnings: []string{"no backup was ever restored", "not known"}, text: "30.0s\n"},
	} {
		p := proven{backups: catalog.Verifications{}}
		for _, v := range c.proofs {
			p.add(v)
		}
		head := catalog.Head{ID: "b", Size: 2 << 30, StartLSN: 0x1000000}
		w := walView{Repository: "near", life: catalog.Life{Backups: []catalog.Head{head}},
			window: catalog.Window{OK: true, Newest: head, EndLSN: head.StartLSN + 2<<20}}
		v := statusView{OK: true, LastBackupID: "b"}
		database := componentView{RPOSeconds: new(30.0)}
		v.addProven(p, w, "db1", &database)
		v.unproven(c.now)
		v.objectives(c.objective, &database)
		v.Components = []componentView{database}
		same := cmp.Comparer(func(want, got string) bool { return strings.Contains(got, want) || strings.Contains(want, got) })
		if d := cmp.Diff(c.problems, v.Problems, same); d != "" || v.OK != (len(c.problems) == 0) {
			t.Errorf("%s: problems\n%s", what, d)
		}
		if d := cmp.Diff(c.warnings, v.Warnings, same); d != "" {
			t.Errorf("%s: warnings\n%s", what, d)
		}
		var text strings.Builder
		if err := v.provenDetails().writeTo(&text); err != nil || !strings.Contains(text.String(), c.text) {
			t.Errorf("%s: %v\n%s\nwant\n%s", what, err, &text, c.text)
		}
	}
}

// Of many proofs, the newest measurements are kept, whatever verifications came between.
func TestProvenKeepsMeasurements(t *testing.T) {
	t.Parallel()
	v := proven{backups: catalog.Verifications{}}
	for n := range 3 * proofsRead {
		v.add(catalog.Proof{ID: "r", Kind: catalog.VerifyProof, CopySeconds: float64(n + 1)})
		for range proofsRead {
			v.add(catalog.Proof{ID: "v", Kind: catalog.VerifyProof, Level: catalog.VerifyObjects, OK: true})
		}
	}
	if len(v.measured) != proofsRead || v.measured[proofsRead-1].CopySeconds != 3*proofsRead || v.measured[0].CopySeconds != 2*proofsRead+1 {
		t.Errorf("%+v", v.measured)
	}
}
