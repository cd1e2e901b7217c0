package cli

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/logging"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/restore"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

const planned = `backup         20261124T060000Z-000001 in near
to             /new
target         latest
timeline       1
would write    4.0 GiB
WAL to replay  0/3000028 to 0/5028F58: 32.2 MiB, in 3 segments
last commit    2026-11-24T06:51:00Z
would take     `

// What a plan says of the time, with and without restores that were measured.
func TestPlannedTime(t *testing.T) {
	t.Parallel()
	const document = `{"backup_id":"20261124T060000Z-000001","repository":"near","to":"/new","target":"latest","timeline":1,"restored_bytes":4294967296,` +
		`"wal_from_lsn":"0/3000028","wal_to_lsn":"0/5028F58","wal_segments":3,"wal_bytes":50331648,"replay_bytes":33722160,"last_commit_at":"2026-11-24T06:51:00.000000Z"`
	whole := restore.Estimate{Copy: restore.Span{Likely: 58, Low: 40, High: 100.0001}, Replay: restore.Span{Likely: 15.5, Low: 7, High: 20}, Measurements: 2, Here: true}
	one := whole
	one.Measurements, one.Here = 1, false
	copied := restore.Estimate{Copy: whole.Copy, Measurements: 3, Here: true}
	for what, c := range map[string]struct {
		v          *estimateView
		text, json string
	}{
		"no history": {nil, "not known: no restore has been measured yet; `salvor restore … --start` measures one", `}`},
		"two restores": {viewOfEstimate(whole), "about 1m14s: 58.0s to copy, 15.5s to replay (47.0s to 2m00s, by 2 restores measured on this host)",
			`,"estimate":{"copy_seconds":58,"replay_seconds":15.5,"total_seconds":73.5,"low_seconds":47,"high_seconds":120.001,"measurements":2,"this_host":true}}`},
		"one elsewhere": {viewOfEstimate(one), "about 1m14s: 58.0s to copy, 15.5s to replay (47.0s to 2m00s, by 1 restore measured elsewhere)",
			`,"estimate":{"copy_seconds":58,"replay_seconds":15.5,"total_seconds":73.5,"low_seconds":47,"high_seconds":120.001,"measurements":1,"this_host":false}}`},
		"never started": {viewOfEstimate(copied), "about 58.0s to copy (by 3 restores measured on this host), and then to replay: no replay has been measured yet; `salvor restore … --start` measures one",
			`,"estimate":{"copy_seconds":58,"measurements":3,"this_host":true}}`},
	} {
		v := restorePlan{BackupID: "20261124T060000Z-000001", Repository: "near", To: "/new", Target: "latest", Timeline: 1, Restored: 4 << 30,
			FromLSN: 0x3000028, ToLSN: 0x5028F58, Segments: 3, WALBytes: 48 << 20, Replay: 0x5028F58 - 0x3000028,
			LastCommitAt: stamp(time.Date(2026, 11, 24, 6, 51, 0, 0, time.UTC)), Estimate: c.v}
		var text strings.Builder
		if err := v.details().writeTo(&text); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(planned+c.text+"\n", text.String()); d != "" {
			t.Errorf("%s:\n%s", what, d)
		}
		got, err := encode(v)
		if d := cmp.Diff(document+c.json, string(got)); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", what, err, d)
		}
	}
}

// measuring is a session with a repository in memory, and a restore that was done.
func measuring(level string, hook mem.Hook) (s *session, log *strings.Builder, r *repository, o restore.Options) {
	log = &strings.Builder{}
	s = newSession(Process{Stdout: io.Discard, Stderr: log, Version: "1.2.3"})
	l, _ := logging.ParseLevel(level)
	s.log = logging.New(log, l, logging.Text)
	s.clock = clock.Fixed(time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC))
	m := mem.New(mem.Options{Hook: hook})
	r = &repository{"near", m, seal.New(m, nil)}
	o.Choice.Origin = catalog.Origin{Cluster: "main", SystemID: 7, Incarnation: "0123456789abcdef"}
	o.Choice.Backup = catalog.Head{ID: "20261124T050000Z-000001", StartLSN: 0x1000028}
	return s, log, r, o
}

func TestProofKept(t *testing.T) {
	t.Parallel()
	s, log, r, o := measuring("debug", nil)
	c := &config.Config{Cluster: "main", Node: config.Node{Name: "db1"}}
	past := s.proven(t.Context(), c, r)
	if v := past.estimate("db1", restore.Work{Size: 1, Replay: 1}); v != nil {
		t.Errorf("without history: %+v", v)
	}
	began := s.clock.Now()
	for _, standby := range []bool{false, true} {
		p := s.newProof(c, r.name, catalog.RestoreProof, o.Choice.Backup.ID)
		s.clock = clock.Fixed(s.clock.Now().Add(8 * time.Second))
		s.copied(&p, restore.Result{Restored: 100, Fetched: 40, Written: 90})
		o.Standby = standby
		s.replayed(&p, o, restore.Started{LSN: 0x1000028 + 50}, s.clock.Now().Add(-2*time.Second))
		p.OK = true
		if id := s.keepProof(t.Context(), c, r, o.Choice.Origin.Place(), p); !catalog.ValidBackupID(id) {
			t.Errorf("kept as %q", id)
		}
	}
	got, _, err := catalog.ReadProofs(t.Context(), r.objects, "main", 9)
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v\n%s", got, err, log)
	}
	p := got[1]
	if p.CPUs < 1 || !catalog.ValidBackupID(p.ID) {
		t.Errorf("%+v", p)
	}
	want := catalog.Proof{FormatVersion: 1, ID: p.ID, Kind: catalog.RestoreProof, Program: "1.2.3", Host: "db1", CPUs: p.CPUs, StartedAt: began,
		Repository: "near", BackupID: o.Choice.Backup.ID, OK: true, Seconds: 8, Size: 100, Fetched: 40, Written: 90, CopySeconds: 8,
		Target: "latest", StartLSN: 0x1000028, RecoveredTo: 0x1000028 + 50, Replayed: 50, ReplaySeconds: 2}
	if d := cmp.Diff(want, p); d != "" {
		t.Error(d)
	}
	if p := got[0]; p.Target != "" || p.RecoveredTo != pg.LSN(0) || p.ReplaySeconds != 0 {
		t.Errorf("a standby never reaches an end: %+v", p)
	}
	past = s.proven(t.Context(), c, r)
	v := past.estimate("db1", restore.Work{Size: 200, Replay: 100})
	if v == nil || v.Copy != 16 || *v.Replay != 4 || v.Measurements != 1 || !v.Here {
		t.Errorf("%+v", v)
	}
	if log.Len() > 0 {
		t.Errorf("it says %s", log)
	}
}

// Who may only read restores all the same, and hears of it only if asked to debug.
func TestProofNotKept(t *testing.T) {
	t.Parallel()
	for level, says := range map[string]bool{"debug": true, "info": false} {
		s, log, r, o := measuring(level, func(_ context.Context, c *mem.Call) error {
			if c.Op == mem.OpCreate || c.Op == mem.OpCommit {
				return store.ErrPermission
			}
			return nil
		})
		c := &config.Config{}
		if id := s.keepProof(t.Context(), c, r, o.Choice.Origin.Place(), s.newProof(c, r.name, catalog.RestoreProof, o.Choice.Backup.ID)); id != "" {
			t.Errorf("kept as %s", id)
		}
		if strings.Contains(log.String(), store.ErrPermission.Error()) != says || (log.Len() > 0) != says {
			t.Errorf("%s: it says %q", level, log)
		}
	}
}

// A plan does without what cannot be read, and says so.
func TestEstimateWithoutRepository(t *testing.T) {
	t.Parallel()
	s, log, r, _ := measuring("info", func(_ context.Context, c *mem.Call) error {
		if c.Op == mem.OpList {
			return errors.New("a cable was pulled")
		}
		return nil
	})
	past := s.proven(t.Context(), &config.Config{Cluster: "main"}, r)
	if v := past.estimate("db1", restore.Work{}); v != nil || !strings.Contains(log.String(), "a cable was pulled") {
		t.Errorf("%+v, %s", v, log)
	}
}

// What is proven of a backup stands in its list entry, and in what is shown of it.
func TestListedProven(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC)
	good := catalog.Verified{ID: "20261124T060000Z-000001", At: at, Level: catalog.VerifyData, OK: true}
	bad := catalog.Verified{ID: "20261124T070000Z-000002", At: at.Add(time.Hour), Level: catalog.VerifyRestore}
	for what, c := range map[string]struct {
		v                   catalog.Verification
		json, remarks, text string
	}{
		"nothing": {catalog.Verification{}, `"verified_at":null,"verified_level":null,"restore_seconds":null,"failed_at":null,"failed_level":null`, "", "verified  never\n"},
		"all": {catalog.Verification{Last: good, Best: good, Failed: bad, Restore: catalog.Restored{ID: good.ID, At: at, Seconds: 74}},
			`"verified_at":"2026-11-24T06:00:00.000000Z","verified_level":"data","restore_seconds":74,"failed_at":"2026-11-24T07:00:00.000000Z","failed_level":"restore"`, "VERIFICATION FAILED",
			"verified  level data, 2026-11-24T06:00:00Z\nFAILED    level restore, 2026-11-24T07:00:00Z: salvor proof show 20261124T070000Z-000002\nrestored  2026-11-24T06:00:00Z, in 1m14s\n"},
	} {
		got, err := encode(viewOfListed(catalog.Head{}, &stored{repo: "near", proven: c.v}))
		if err != nil || !strings.Contains(string(got), c.json) {
			t.Errorf("%s: %v\n%s\nwant\n%s", what, err, got, c.json)
		}
		if got := remarks(stored{head: &catalog.Head{}, proven: c.v}); got != c.remarks {
			t.Errorf("%s: %q", what, got)
		}
		var text strings.Builder
		if err := provenDetails(c.v).writeTo(&text); err != nil || text.String() != c.text {
			t.Errorf("%s: %v\n%s", what, err, text.String())
		}
	}
}
