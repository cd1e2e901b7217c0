package restore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg"
)

// choice is a backup of timeline 1 and a path along timeline 3.
func choice() catalog.Choice {
	return catalog.Choice{
		Backup:  catalog.Head{ID: "20261124T060000Z-abcdef", Timeline: 1, Version: 150020},
		Path:    catalog.Path{History: pg.History{Timeline: 3}},
		StopLSN: 0x5000148,
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 24, 7, 51, 0, 123456789, time.FixedZone("", 3600))
	const (
		copied = `
			primary_conninfo = ''
			primary_slot_name = ''
			archive_mode = 'off'
			synchronous_standby_names = ''`
		promote = `
			recovery_target_action = 'promote'` + copied
	)
	for name, try := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"latest": {func(*Options) {}, `
			recovery_target_timeline = '3'` + copied},
		"immediate": {func(o *Options) { o.Target.Kind = catalog.ToImmediate }, `
			recovery_target = 'immediate'
			recovery_target_timeline = 'current'` + promote},
		"time": {func(o *Options) { o.Target = catalog.Target{Kind: catalog.ToTime, Time: at} }, `
			recovery_target_time = '2026-11-24 06:51:00.123456+00:00'
			recovery_target_inclusive = 'true'
			recovery_target_timeline = '3'` + promote},
		// The same commits lie before the next microsecond.
		"time, exclusive": {func(o *Options) { o.Target = catalog.Target{Kind: catalog.ToTime, Time: at, Exclusive: true} }, `
			recovery_target_time = '2026-11-24 06:51:00.123457+00:00'
			recovery_target_inclusive = 'false'
			recovery_target_timeline = '3'` + promote},
		"lsn": {func(o *Options) { o.Target = catalog.Target{Kind: catalog.ToLSN, LSN: 0x1_00000028} }, `
			recovery_target_lsn = '1/28'
			recovery_target_inclusive = 'true'
			recovery_target_timeline = '3'` + promote},
		"xid, exclusive, pause": {func(o *Options) {
			o.Target = catalog.Target{Kind: catalog.ToXID, XID: 4294967295, Exclusive: true}
			o.Action = Pause
		}, `
			recovery_target_xid = '4294967295'
			recovery_target_inclusive = 'false'
			recovery_target_timeline = '3'
			recovery_target_action = 'pause'` + copied},
		"restore point": {func(o *Options) { o.Target = catalog.Target{Kind: catalog.ToRestorePoint, Name: `it's \n`} }, `
			recovery_target_name = 'it''s \\n'
			recovery_target_timeline = '3'` + promote},
		"restore point, made before": {func(o *Options) {
			o.Target, o.Choice.ByLSN = catalog.Target{Kind: catalog.ToRestorePoint, Name: "again"}, true
		}, `
			recovery_target_lsn = '0/5000148'
			recovery_target_inclusive = 'true'
			recovery_target_timeline = '3'` + promote},
		"the backup's own timeline": {func(o *Options) { o.Choice.Path.History.Timeline = 1 }, `
			recovery_target_timeline = 'current'` + copied},
		"before a hole": {func(o *Options) { o.Target.Kind, o.Choice.Path.Hole = catalog.ToImmediate, true }, `
			recovery_target = 'immediate'
			recovery_target_timeline = 'current'
			recovery_target_action = 'promote'
			recovery_prefetch = 'off'` + copied},
		"before a hole, before 15": {func(o *Options) {
			o.Target.Kind, o.Choice.Path.Hole, o.Choice.Backup.Version = catalog.ToImmediate, true, 140010
		}, `
			recovery_target = 'immediate'
			recovery_target_timeline = 'current'` + promote},
		"takeover": {func(o *Options) { o.Takeover = true }, `
			recovery_target_timeline = '3'
			primary_conninfo = ''
			primary_slot_name = ''`},
		"standby": {func(o *Options) { o.Standby = true }, `
			recovery_target_timeline = 'latest'`},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Choice: choice(), Action: Promote, RestoreCommand: "/usr/bin/salvor wal fetch %f %p"}
			try.change(&o)
			conf, err := rewrite(nil, Settings(o), o.Choice.Backup.ID, o.Target)
			if err != nil {
				t.Fatal(err)
			}
			_, body, _ := strings.Cut(string(conf), "\n")
			body = strings.TrimSuffix(body, blockEnd+"\n")
			want := strings.ReplaceAll("restore_command = '/usr/bin/salvor wal fetch %f %p'\n"+cleared(try.want, o.Standby)+try.want[1:]+"\n", "\t", "")
			if d := cmp.Diff(want, body); d != "" {
				t.Error(d)
			}
		})
	}
}

// cleared gives the lines that take back what the source's configuration may say.
func cleared(want string, standby bool) string {
	var lines string
	for _, name := range []string{"recovery_target", "recovery_target_time", "recovery_target_lsn", "recovery_target_xid", "recovery_target_name"} {
		if !strings.Contains(want, "\t"+name+" = ") {
			lines += name + " = ''\n"
		}
	}
	if !standby {
		lines += "recovery_min_apply_delay = '0'\narchive_cleanup_command = ''\nrecovery_end_command = ''\n"
	}
	return lines
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	o := Options{Choice: choice(), Action: Promote, RestoreCommand: "fetch"}
	block, err := rewrite(nil, Settings(o), "20261124T060000Z-abcdef", o.Target)
	if err != nil {
		t.Fatal(err)
	}
	const keep = "# Do not edit this file manually!\nwork_mem = '64MB'\n#recovery_target = 'x'\n"
	for name, old := range map[string]string{
		"nothing":      keep,
		"old settings": keep + "recovery_target_time = '2020-01-01'\nRECOVERY_TARGET_XID '7'\n\trecovery_target_lsn='0/1' # x\nrestore_command=''\nprimary_conninfo = 'host=a'\nrecovery_min_apply_delay = '1h'\narchive_mode = on\nsynchronous_standby_names = '*'\nstandby_mode",
		"an old block": keep + "# salvor restore: begin of backup x to y\nanything = 'at all'\n# salvor restore: end\n",
		"our block":    keep + string(block),
		"no line end":  strings.TrimSuffix(keep, "\n"),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := rewrite([]byte(old), Settings(o), "20261124T060000Z-abcdef", o.Target)
			if err != nil {
				t.Fatal(err)
			}
			want := keep + string(block)
			if name == "old settings" {
				want = keep + "standby_mode\n" + string(block)
			}
			if d := cmp.Diff(want, string(got)); d != "" {
				t.Error(d)
			}
		})
	}
	// A name with a line end stays in the remark's line.
	got, err := rewrite(nil, nil, "id", catalog.Target{Kind: catalog.ToRestorePoint, Name: "a\nport = 1"})
	if err != nil || strings.Contains(string(got), "\nport") {
		t.Errorf("%v:\n%s", err, got)
	}
}

func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	good := func() Options {
		o := Options{Choice: choice(), To: "/new", Action: Promote, Workers: 1, Clock: clock.System()}
		o.Choice.Backup.Tablespaces = []catalog.Tablespace{{OID: 16384, Name: "fast", Location: "/fast"}}
		return o
	}
	o := good()
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"relative":            func(o *Options) { o.To = "new" },
		"no worker":           func(o *Options) { o.Workers = 0 },
		"unknown action":      func(o *Options) { o.Action = "dance" },
		"standby with target": func(o *Options) { o.Standby, o.Target.Kind = true, catalog.ToTime },
		"standby takeover":    func(o *Options) { o.Standby, o.Takeover = true, true },
		"pause at the end":    func(o *Options) { o.Action = Pause },
		"relative tablespace": func(o *Options) { o.Tablespaces = map[pg.OID]string{16384: "x"} },
	} {
		o := good()
		change(&o)
		if err := o.validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// What is in a directory is never touched, but for what an unfinished restore left.
func TestPrepare(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	to, space := filepath.Join(root, "data"), filepath.Join(root, "space")
	newRun := func() *run {
		c := choice()
		c.Backup.Tablespaces = []catalog.Tablespace{{OID: 16384, Location: space}, {OID: 16385, Location: "pg_tblspc/16385"}}
		c.Backup.Owner = catalog.Owner{User: "0"}
		o := Options{Choice: c, To: to, Action: Promote, Workers: 1, Clock: clock.System()}
		if err := o.validate(); err != nil {
			t.Fatal(err)
		}
		return &run{Options: o, head: c.Backup}
	}
	var refusal *Refusal
	refused := func(words string) {
		t.Helper()
		if _, err := newRun().prepare(); !errors.As(err, &refusal) || !strings.Contains(err.Error(), words) {
			t.Errorf("want a refusal with %q: %v", words, err)
		}
	}
	killed := func() { // after it has prepared the directory
		t.Helper()
		if err := prepared(newRun()); err != nil {
			t.Fatal(err)
		}
	}
	write := func(path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(space, "letter"))
	refused("letter")
	if err := os.Remove(filepath.Join(space, "letter")); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(to, "PG_VERSION"))
	refused("PG_VERSION")
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	release, err := newRun().prepare()
	if err != nil {
		t.Fatal(err)
	}
	refused("another restore")
	release()
	if !Unfinished(to) {
		t.Error("there is no note of the restore under way")
	}
	// It is killed; the next begins anew, and clears the tablespace that is its own.
	write(filepath.Join(to, "base", "1", "1259"))
	write(filepath.Join(space, "PG_15_202209061", "5"))
	killed()
	for dir, want := range map[string]int{to: 1, space: 0} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != want {
			t.Errorf("%s has %d entries, want %d: %v", dir, len(entries), want, err)
		}
	}
	// Killed while it wrote its note: nothing else was there yet.
	if err := os.WriteFile(filepath.Join(to, NoteName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	killed()
	// Killed when only the note was left to go: it is a database by then, and begun
	// anew if no server has used it.
	write(filepath.Join(to, "global", "pg_control"))
	write(filepath.Join(to, "backup_label"))
	killed()
	if _, err := os.Stat(filepath.Join(to, "global")); err == nil {
		t.Error("the unfinished restore was not cleared")
	}
	write(filepath.Join(to, "global", "pg_control"))
	refused("complete")
	if err := os.RemoveAll(filepath.Join(to, "global")); err != nil {
		t.Fatal(err)
	}
	// A tablespace directory that the note does not name is not ours to clear.
	if err := (note{BackupID: "x"}).write(to, owner{}); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(space, "letter"))
	refused("letter")
	if _, err := os.Stat(filepath.Join(space, "letter")); err != nil {
		t.Error(err)
	}
}
