package restore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg"
)

// creating is a restore after which recovery creates tablespace 16390 at a location.
func creating(t *testing.T, to, location string, change func(*Options)) *run {
	t.Helper()
	c := choice()
	c.Backup.StopLSN = 0x5000000
	c.Backup.Tablespaces = []catalog.Tablespace{{OID: 16384, Name: "old", Location: filepath.Join(filepath.Dir(to), "old")}}
	c.Backup.Owner = catalog.Owner{User: "0"}
	o := Options{Choice: c, To: to, Action: Promote, Workers: 1, Clock: clock.System()}
	change(&o)
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	return &run{Options: o, head: o.Choice.Backup, created: []catalog.NewTablespace{{OID: 16390, Location: location, LSN: 0x5000100}}}
}

// prepared prepares the directories of a restore, which then ends.
func prepared(r *run) error {
	release, err := r.prepare()
	if err == nil {
		release()
	}
	return err
}

func TestCreatedTablespace(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	to, location := filepath.Join(root, "data"), filepath.Join(root, "disk", "space")
	if err := os.MkdirAll(filepath.Join(location, "PG_15_202209061"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		change     func(*Options)
		early      bool // created before the backup is consistent
		beforeThat bool // can be recovered to
	}{
		"copy":     {func(*Options) {}, false, true},
		"early":    {func(*Options) {}, true, false},
		"takeover": {func(o *Options) { o.Takeover = true }, false, true},
		"standby":  {func(o *Options) { o.Standby = true }, false, false},
	} {
		r := creating(t, to, location, try.change)
		if try.early {
			r.created[0].LSN = 0x4000000
		}
		var refusal *Refusal
		if _, err := r.prepare(); !errors.As(err, &refusal) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, word := range []string{location, "PG_15_202209061", "16390", r.created[0].LSN.String()} {
			if !strings.Contains(refusal.Reason, word) {
				t.Errorf("%s: the refusal does not say %q: %s", name, word, refusal.Reason)
			}
		}
		if is := strings.Contains(refusal.Hint, "--lsn 0/5000100 --exclusive"); is != try.beforeThat {
			t.Errorf("%s: hint %q", name, refusal.Hint)
		}
		if _, err := os.Stat(to); err == nil {
			t.Fatalf("%s: %s was made all the same", name, to)
		}
	}

	// Empty or missing, it is made, and not one of the directories that are ours to clear.
	for _, remove := range []string{filepath.Join(location, "PG_15_202209061"), filepath.Dir(location)} {
		if err := os.RemoveAll(remove); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time over what the first left
			r := creating(t, to, location, func(*Options) {})
			if err := prepared(r); err != nil {
				t.Fatal(err)
			}
			if entries, err := os.ReadDir(location); err != nil || len(entries) != 0 {
				t.Errorf("%v, %v", entries, err)
			}
			for _, dir := range r.note.Tablespaces {
				if dir == location {
					t.Errorf("the note lists %s", dir)
				}
			}
		}
	}
	if err := os.WriteFile(filepath.Join(location, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := creating(t, to, location, func(*Options) {}).prepare(); !errors.As(err, new(*Refusal)) {
		t.Errorf("what came into it since the first try: %v", err)
	}
	if _, err := os.Stat(filepath.Join(location, "letter")); err != nil {
		t.Error(err)
	}
}

// A tablespace that the backup lists and the WAL creates again is there when a restore
// that was cut off is done again.
func TestCreatedTablespaceOfTheBackup(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	to, location := filepath.Join(root, "data"), filepath.Join(root, "space")
	both := func(o *Options) {
		o.Choice.Backup.Tablespaces = []catalog.Tablespace{{OID: 16390, Name: "late", Location: location}}
	}
	if err := prepared(creating(t, to, location, both)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(location, "PG_15_202209061"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := prepared(creating(t, to, location, both)); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(location); err != nil || len(entries) != 0 {
		t.Errorf("not cleared: %v, %v", entries, err)
	}
}

func TestMap(t *testing.T) {
	t.Parallel()
	for name, try := range map[string]struct {
		oid     pg.OID
		dir     string
		refused bool
		words   string
	}{
		"of the backup":         {16384, "/elsewhere", false, ""},
		"unknown":               {1, "/elsewhere", false, "has no tablespace 1"},
		"created":               {16390, "/elsewhere", true, "cannot be put in /elsewhere"},
		"created, where it was": {16390, "/space/", false, ""},
	} {
		r := creating(t, "/new", "/space", func(o *Options) { o.Tablespaces = map[pg.OID]string{try.oid: try.dir} })
		err := r.checkMap()
		if errors.As(err, new(*Refusal)) != try.refused || (err == nil) != (try.words == "") || err != nil && !strings.Contains(err.Error(), try.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
