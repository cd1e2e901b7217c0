package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/catalog"
)

// targetOf reads the options of a target as a command does.
func targetOf(vars []string, args ...string) (got catalog.Target, r result) {
	r = inProcess(func(s *session) []*cobra.Command {
		var f targetFlags
		cmd := &cobra.Command{Use: "to", Args: positional()}
		f.declare(cmd)
		cmd.RunE = s.run(func(context.Context, []string) (err error) {
			got, err = f.target()
			return err
		})
		return []*cobra.Command{cmd}
	}, vars, append([]string{"to"}, args...)...)
	return got, r
}

func TestTarget(t *testing.T) {
	t.Parallel()
	at := func(s string) catalog.Target {
		v, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return catalog.Target{Kind: catalog.ToTime, Time: v}
	}
	with := func(g catalog.Target, change func(*catalog.Target)) catalog.Target {
		change(&g)
		return g
	}
	const noon = "2026-11-24T12:00:00Z"
	for args, want := range map[string]catalog.Target{
		"":                                     {Kind: catalog.ToLatest},
		"--latest":                             {Kind: catalog.ToLatest},
		"--immediate":                          {Kind: catalog.ToImmediate},
		"--at|" + noon:                         at(noon),
		"--at|2026-11-24T12:00:00.123456789Z":  at("2026-11-24T12:00:00.123456789Z"),
		"--at|2026-11-24T13:00:00+01:00":       at(noon),
		"--at|2026-11-24 13:00:00+01:00":       at(noon),
		"--at|2026-11-24 13:00:00.5+01":        at("2026-11-24T12:00:00.5Z"), // as PostgreSQL prints it
		"--at|2026-11-24 07:30:00-04:30":       at(noon),
		"--at|2026-11-24T12:00Z":               at(noon),
		"--at|2026-11-24 13:00+01:00":          at(noon),
		"--at|" + noon + "|--exclusive":        with(at(noon), func(g *catalog.Target) { g.Exclusive = true }),
		"--at|" + noon + "|--timeline|7":       with(at(noon), func(g *catalog.Target) { g.Timeline = 7 }),
		"--at|" + noon + "|--timeline|0x1A":    with(at(noon), func(g *catalog.Target) { g.Timeline = 26 }),
		"--at|" + noon + "|--timeline|current": with(at(noon), func(g *catalog.Target) { g.Timeline = catalog.Current }),
		"--at|" + noon + "|--timeline|latest":  at(noon),
		"--at|" + noon + "|--backup|b1":        with(at(noon), func(g *catalog.Target) { g.BackupID = "b1" }),
		"--lsn|0/3000148":                      {Kind: catalog.ToLSN, LSN: 0x3000148},
		"--lsn|A/00000010":                     {Kind: catalog.ToLSN, LSN: 10<<32 | 0x10},
		"--lsn|0/3000148|--exclusive":          {Kind: catalog.ToLSN, LSN: 0x3000148, Exclusive: true},
		"--xid|746":                            {Kind: catalog.ToXID, XID: 746},
		"--xid|4294968042|--exclusive":         {Kind: catalog.ToXID, XID: 746, Exclusive: true}, // with an epoch
		"--restore-point|before the migration": {Kind: catalog.ToRestorePoint, Name: "before the migration"},
	} {
		got, r := targetOf(nil, words(args)...)
		if diff := cmp.Diff(want, got, cmp.Comparer(time.Time.Equal)); diff != "" || r.exit != 0 {
			t.Errorf("%s: %+v (-want +got):\n%s", args, r, diff)
		}
	}
	got, r := targetOf([]string{"SALVOR_LSN=0/10", "SALVOR_EXCLUSIVE=yes", "SALVOR_XID="})
	if want := (catalog.Target{Kind: catalog.ToLSN, LSN: 16, Exclusive: true}); got != want || r.exit != 0 {
		t.Errorf("from variables: %+v, %+v", got, r)
	}
}

// words are separated by bars here, since times and names have blanks.
func words(line string) []string {
	if line == "" {
		return nil
	}
	return strings.Split(line, "|")
}

func TestTargetsThatAreNone(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--at|yesterday":                      `--at: "yesterday" is not a time`,
		"--at|2026-11-24":                     "is not a time",
		"--at|2026-13-24T12:00:00Z":           "is not a time",
		"--at|2026-11-24T12:00:00":            "has no time zone",
		"--at|2026-11-24 12:00":               "has no time zone",
		"--at|":                               "--at is empty",
		"--lsn|":                              "--lsn is empty",
		"--backup||--latest":                  "--backup is empty",
		"--lsn|3000148":                       "--lsn:",
		"--lsn|0/X":                           "--lsn:",
		"--xid|0":                             "is not the number of a transaction",
		"--xid|2":                             "is not the number of a transaction", // PostgreSQL's own: bootstrap and frozen
		"--xid|-5":                            "is not the number of a transaction",
		"--xid|4294967296":                    "is not the number of a transaction",
		"--timeline|0":                        "is not a timeline",
		"--timeline|newest":                   "is not a timeline",
		"--exclusive":                         "--exclusive needs",
		"--exclusive|--immediate":             "--exclusive needs",
		"--exclusive|--restore-point|x":       "--exclusive needs",
		"--at|2026-11-24T12:00:00Z|--lsn|0/1": "none of the others can be",
		"--latest|--immediate":                "none of the others can be",
		"--xid|746|--restore-point|x":         "none of the others can be",
	} {
		got, r := targetOf(nil, words(args)...)
		if r.exit != exitUsage || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v, %+v; want a usage error with %q", args, got, r, want)
		}
	}
	if _, r := targetOf([]string{"SALVOR_AT=2026-11-24T12:00:00Z"}, "--lsn", "0/10"); r.exit != exitUsage {
		t.Errorf("a variable beside an option: %+v", r)
	}
}

// TestTimeWithoutZone wants both readings in the hint, and that they can be given.
func TestTimeWithoutZone(t *testing.T) {
	t.Parallel()
	_, r := targetOf(nil, "--at", "2026-07-24T12:00:00", "-o", "json")
	_, hint := r.failedWith(t, exitUsage, "usage")
	var readings []string
	for i, word := range strings.Fields(hint) {
		if word == "--at" {
			readings = append(readings, strings.Fields(hint)[i+1])
		}
	}
	local := time.Date(2026, 7, 24, 12, 0, 0, 0, time.Local).Format(time.RFC3339)
	if want := []string{"2026-07-24T12:00:00Z", local}; !cmp.Equal(readings, want) {
		t.Fatalf("the hint has %v, want %v: %s", readings, want, hint)
	}
	for _, reading := range readings {
		if _, r := targetOf(nil, "--at", reading); r.exit != 0 {
			t.Errorf("--at %s, which the hint says: %+v", reading, r)
		}
	}
}
