package cli

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg/server"
	"github.com/salvor-dr/salvor/internal/repo/keys"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// doctor runs the examination in this process and gives its checks by name, those of
// a repository as "name repository".
func (s *site) doctor(t *testing.T) (result, map[string]checkView) {
	t.Helper()
	r := s.here("doctor", "-o", "json")
	checks := map[string]checkView{}
	for _, c := range decoded[doctorView](t, r.stdout).Checks {
		name := c.Name
		if c.Repository != "" {
			name += " " + c.Repository
		}
		checks[name] = c
	}
	return r, checks
}

// results are the checks that ended in a way, by name.
func results(checks map[string]checkView, o outcome) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(checks)) {
		if checks[name].Result == o {
			names = append(names, name)
		}
	}
	return names
}

// TestDoctor examines a good set-up, and then one with each disease.
func TestDoctor(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.init(t)
	t.Run("healthy", func(t *testing.T) { s.healthy(t) })
	for _, d := range s.diseases() {
		t.Run(d.name, func(t *testing.T) {
			t.Cleanup(d.infect(t))
			r, checks := s.doctor(t)
			if diff := cmp.Diff(d.problems, results(checks, checkProblem)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			exit := 0
			if len(d.problems) > 0 {
				exit = exitProblem
			}
			if r.exit != exit {
				t.Errorf("exit %d, want %d: %s", r.exit, exit, r.stderr)
			}
			for name, o := range d.others {
				if checks[name].Result != o {
					t.Errorf("%s is %s, want %s: %s", name, checks[name].Result, o, checks[name].Detail)
				}
			}
			if c := checks[d.about]; !strings.Contains(c.Fix, d.fix) || !strings.Contains(c.Detail, d.detail) || c.Why == "" {
				t.Errorf("want the fix %q and the detail %q in\n%+v", d.fix, d.detail, c)
			}
		})
	}
	t.Run("recovery", func(t *testing.T) { s.recovery(t) })
}

// healthy examines a good set-up with the built program, as its user does.
func (s *site) healthy(t *testing.T) {
	r := s.built(t, "doctor", "-o", "json")
	v := decoded[doctorView](t, r.stdout)
	checks := map[string]checkView{}
	for _, c := range v.Checks {
		checks[c.Name] = c
		if c.Title == "" || c.Why == "" || c.Detail == "" || c.Result == checkWarning && c.Fix == "" {
			t.Errorf("it says too little: %+v", c)
		}
	}
	if r.exit != 0 || !v.OK || r.stderr != "" {
		t.Errorf("exit %d, ok %v: %s\n%s", r.exit, v.OK, r.stderr, r.stdout)
	}
	// Tests have one disk, one repository, and no backup yet.
	if diff := cmp.Diff([]string{"copies", "last_backup", "repository_apart"}, results(checks, checkWarning)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	trip := checks["wal_round_trip"]
	if trip.Result != checkOK || !strings.Contains(trip.Detail, "the same byte for byte") || trip.Seconds <= 0 {
		t.Errorf("the round trip: %+v", trip)
	}
	want := []string{"name", "title", "result", "detail", "why", "fix", "duration_seconds"}
	doc := decoded[struct {
		FormatVersion int `json:"format_version"`
		Checks        []map[string]any
	}](t, r.stdout)
	if got := slices.Sorted(maps.Keys(doc.Checks[0])); doc.FormatVersion != 1 || !cmp.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("format %d, a check has %v, want %v", doc.FormatVersion, got, want)
	}
	if left, err := filepath.Glob(filepath.Join(s.repo, "doctor*")); err != nil || len(left) > 0 {
		t.Errorf("it left %v in the repository, %v", left, err)
	}
	table := s.built(t, "doctor")
	for _, want := range []string{"ok       configuration", "warning  number of repositories", "\n         why: ", "\n         fix: ", "\n0 problems, 3 warnings, "} {
		if !strings.Contains(table.stdout, want) {
			t.Errorf("no %q in\n%s", want, table.stdout)
		}
	}
}

// disease is something wrong with a set-up, and what the doctor must say of it.
type disease struct {
	name     string
	problems []string // all of them
	others   map[string]outcome
	about    string // the check that names
	fix      string // this
	detail   string // and this
	infect   func(*testing.T) (heal func())
}

func (s *site) diseases() []disease {
	key := filepath.Join(s.dir, "salvor.key")
	noTrip := map[string]outcome{"wal_round_trip": checkSkipped}
	list := []disease{
		{
			"the key can be read by everybody", []string{"private_files"}, map[string]outcome{"wal_round_trip": checkOK},
			"private_files", "chmod o= " + key, "(mode 0644)",
			func(t *testing.T) func() { return changeMode(t, key, 0o644) },
		},
		{
			"another key", []string{"repository_opens local"}, noTrip,
			"repository_opens local", "check `key` of the repository", "the key does not open this repository",
			func(t *testing.T) func() {
				other := newKey(t)
				return changeFile(t, key, func(string) string { return other })
			},
		},
		{
			"the repository is gone", []string{"repository_opens local"}, noTrip,
			"repository_opens local", "`salvor init` creates what", "there is no such directory",
			func(t *testing.T) func() { return move(t, s.repo, s.repo+".away") },
		},
		s.readOnly(),
		{
			"archive_command of somebody else", []string{"archive_command"}, noTrip,
			"archive_command", "ALTER SYSTEM SET archive_command = '", "cp %p /dev/null",
			func(t *testing.T) func() { return s.setting("archive_command", "cp %p /dev/null", s.archive) },
		},
		{
			"archive_command with another configuration", []string{"archive_command"}, noTrip,
			"archive_command", "wal push %p';\nSELECT pg_reload_conf();", "uses the configuration /no/such.yaml",
			func(t *testing.T) func() {
				return s.setting("archive_command", s.program+" -c /no/such.yaml wal push %p", s.archive)
			},
		},
		{
			"archive_command that fails", []string{"wal_round_trip"}, map[string]outcome{"archive_command": checkWarning},
			"wal_round_trip", "wal push pg_wal/0000000", "archive_command fails",
			func(t *testing.T) func() {
				return s.setting("archive_command", "false && "+s.program+" -c "+s.config+" wal push %p", s.archive)
			},
		},
		{
			"archive_command in other words", nil, map[string]outcome{"archive_command": checkOK, "wal_round_trip": checkOK},
			"archive_command", "", "--config=",
			func(t *testing.T) func() {
				return s.setting("archive_command", "'"+s.program+"' --log-level warn --config="+s.config+" wal push '%p'", s.archive)
			},
		},
		{
			"settings that cost data", []string{"fsync"}, map[string]outcome{"full_page_writes": checkWarning, "archive_timeout": checkWarning},
			"archive_timeout", "ALTER SYSTEM SET archive_timeout = '60s';", "no bound",
			func(*testing.T) func() {
				s.Set("fsync", "off")
				s.Set("full_page_writes", "off")
				return s.setting("archive_timeout", "0", func() {
					s.Set("fsync", "on")
					s.Set("full_page_writes", "on")
					s.Set("archive_timeout", "60s")
				})
			},
		},
		{
			"a role that may nothing", []string{"privileges"}, map[string]outcome{"wal_round_trip": checkSkipped, "data_dir": checkOK},
			"privileges", "GRANT pg_monitor TO \"weak\";", "may not begin and end a backup, nor switch WAL",
			func(t *testing.T) func() {
				s.Exec("CREATE ROLE weak LOGIN")
				return changeFile(t, s.config, func(c string) string { return strings.Replace(c, "user: postgres", "user: weak", 1) })
			},
		},
		{
			"the data directory of nobody", []string{"data_dir"}, map[string]outcome{"wal_round_trip": checkSkipped},
			"data_dir", "check postgres.data_dir", "pg_control",
			func(t *testing.T) func() {
				return changeFile(t, s.config, func(c string) string { return strings.Replace(c, s.Dir, s.SocketDir, 1) })
			},
		},
		{
			"no configuration to speak of", []string{"configuration"}, map[string]outcome{"server": checkSkipped, "repository_opens": checkSkipped, "wal_round_trip": checkSkipped},
			"configuration", "config validate", `did you mean "cluster"?`,
			func(t *testing.T) func() {
				return changeFile(t, s.config, func(c string) string { return strings.Replace(c, "cluster:", "clustre:", 1) })
			},
		},
		{
			"archiving is off", []string{"archive_mode"}, map[string]outcome{"archive_command": checkSkipped, "wal_round_trip": checkSkipped},
			"archive_mode", "ALTER SYSTEM SET archive_mode = 'on';\nand restart the server", "off",
			func(*testing.T) func() { return s.restartWith("archive_mode", "off", "on") },
		},
		{
			"the server is down", []string{"server"}, map[string]outcome{"fsync": checkSkipped, "repository_works local": checkOK, "wal_round_trip": checkSkipped},
			"server", "is the server running", "connecting to PostgreSQL",
			func(*testing.T) func() {
				s.Stop(server.Fast)
				return s.Start
			},
		},
		{
			"two repositories, one of them in the clear", nil,
			map[string]outcome{"copies": checkOK, "wal_round_trip": checkOK, "encryption clear": checkWarning, "repository_works clear": checkOK, "registration clear": checkOK},
			"encryption clear", "with a key", "NOT ENCRYPTED",
			func(t *testing.T) func() { return s.clearRepository(t) },
		},
	}
	if os.Geteuid() == 0 {
		list = append(list, disease{
			"a key for root only", []string{"server_user"}, noTrip,
			"server_user", "chmod g+r " + key, "cannot read " + key,
			func(t *testing.T) func() {
				if err := os.Chown(key, 0, 0); err != nil {
					t.Fatal(err)
				}
				return func() {
					if err := os.Chown(key, s.UID, s.GID); err != nil {
						t.Fatal(err)
					}
				}
			},
		})
	}
	return list
}

// readOnly is a repository that PostgreSQL's user may not write to. Who is that user
// notices by writing; root, who may write everywhere, must ask.
func (s *site) readOnly() disease {
	d := disease{
		"the repository is read-only", []string{"repository_works local", "repository_writable local"}, nil,
		"repository_writable local", "chmod u+rwx " + s.repo, "cannot write to " + s.repo,
		func(t *testing.T) func() { return changeMode(t, s.repo, 0o500) },
	}
	if os.Geteuid() == 0 {
		d.problems = d.problems[1:]
	}
	return d
}

func changeMode(t *testing.T, path string, mode os.FileMode) (back func()) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Chmod(path, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}

// changeFile changes a file's content, and leaves owner and mode.
func changeFile(t *testing.T, path string, change func(string) string) (back func()) {
	t.Helper()
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if changed := change(string(old)); changed == string(old) {
		t.Fatalf("nothing to change in\n%s", old)
	} else if err := os.WriteFile(path, []byte(changed), 0); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.WriteFile(path, old, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func move(t *testing.T, from, to string) (back func()) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Rename(to, from); err != nil {
			t.Fatal(err)
		}
	}
}

// setting changes a setting until back is called.
func (s *site) setting(name, value string, back func()) func() {
	s.Set(name, value)
	return back
}

func (s *site) restartWith(name, value, usual string) (back func()) {
	s.Set(name, value)
	s.Restart()
	return func() {
		s.Set(name, usual)
		s.Restart()
	}
}

// clearRepository adds one that is not encrypted.
func (s *site) clearRepository(t *testing.T) (back func()) {
	t.Helper()
	more := fmt.Sprintf("  - {name: clear, url: 'file://%s/clear', encryption: none}\n", s.dir)
	back = changeFile(t, s.config, func(c string) string { return strings.Replace(c, "repositories:\n", "repositories:\n"+more, 1) })
	if r := s.here("init"); r.exit != 0 {
		back()
		t.Fatalf("%+v", r)
	}
	return back
}

// TestSlowKeys looks at the cost of a passphrase, which takes long on purpose.
func TestSlowKeys(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]outcome{"four words that rhyme": checkWarning, newKey(t): checkOK} {
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		v := &verdict{result: checkOK}
		probeKeySpeed(t.Context(), nil, &examined{Repository: config.Repository{Name: "local", Key: config.Secret{File: file}}, took: 250 * time.Millisecond}, v)
		if detail := strings.Join(v.details, ""); v.result != want || !strings.Contains(detail, "250ms") || want == checkWarning && !strings.Contains(detail, "at most 240 a minute") {
			t.Errorf("it is %s, want %s: %s", v.result, want, detail)
		}
	}
}

func newKey(t *testing.T) string {
	t.Helper()
	_, text, err := keys.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// recovery examines what can be recovered: with a backup, and with a hole in the WAL
// after it.
func (s *site) recovery(t *testing.T) {
	id := s.must(t, "backup")["id"].(string)
	s.Exec("CREATE TABLE dish (id int)")
	_, checks := s.doctor(t)
	for name, detail := range map[string]string{"last_backup": id, "recovery_window local": " to "} {
		if c := checks[name]; c.Result != checkOK || !strings.Contains(c.Detail, detail) {
			t.Errorf("with a backup: %+v, want %q", c, detail)
		}
	}
	segments, err := filepath.Glob(filepath.Join(s.repo, "clusters/main/*/wal/00000001", strings.Repeat("[0-9A-F]", 24)))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	s.doctor(t) // the last segment is followed by another
	if err := os.Remove(segments[len(segments)-1]); err != nil {
		t.Fatal(err)
	}
	r, checks := s.doctor(t)
	c := checks["recovery_window local"]
	if r.exit != exitProblem || c.Result != checkProblem || !strings.Contains(c.Detail, "WAL is lost after") || !strings.Contains(c.Fix, "backup --repo local") {
		t.Errorf("with a hole: exit %d, %+v", r.exit, c)
	}
	s.must(t, "backup")
	r, checks = s.doctor(t)
	if c := checks["recovery_window local"]; r.exit != 0 || c.Result != checkWarning || !strings.Contains(c.Detail, "1 older place") {
		t.Errorf("after the hole: exit %d, %+v", r.exit, c)
	}
}

func TestDoctorWithoutConfiguration(t *testing.T) {
	t.Parallel()
	r := inProcess(commands, nil, "-c", filepath.Join(t.TempDir(), "salvor.yaml"), "doctor", "-o", "json")
	r.failedWith(t, exitUsage, "config_not_found")
}

// TestChecksNeedEarlierOnes wants that each check's needs are there, and come first.
func TestChecksNeedEarlierOnes(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range doctorChecks() {
		for _, need := range c.needs {
			if !seen[need] {
				t.Errorf("%s needs %q, which is no check before it", c.name, need)
			}
		}
		if seen[c.name] || c.title == "" || c.why == "" || c.probe == nil {
			t.Errorf("%s is there twice, or lacks something", c.name)
		}
		seen[c.name] = true
	}
}

func TestParsePush(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"/bin/salvor -c /etc/x.yaml wal push %p":                  "/bin/salvor /etc/x.yaml true",
		"'/opt/my tools/salvor' -c '/etc/it''s.yaml' wal push %p": "/opt/my tools/salvor /etc/its.yaml true",
		`/bin/salvor -c /etc/it\'s.yaml wal push %p`:              "/bin/salvor /etc/it's.yaml true",
		"/bin/salvor wal push --config=/etc/100%%.yaml %p":        "/bin/salvor /etc/100%.yaml true",
		"/bin/salvor --log-level warn wal push -q %p":             "/bin/salvor /etc/salvor/salvor.yaml true",
		"/bin/salvor -c /etc/x.yaml wal push":                     "/bin/salvor /etc/x.yaml false",
		"/bin/salvor wal push %f":                                 "/bin/salvor /etc/salvor/salvor.yaml false",
		"nice /bin/salvor wal push %p":                            "nice /etc/salvor/salvor.yaml false",
		"":                                                        "  false",
		"/bin/salvor -c":                                          "/bin/salvor  false",
		"test ! -f /x && /bin/salvor wal push %p":                 "not plain",
		"/bin/salvor -c $HOME/x.yaml wal push %p":                 "not plain",
		"/bin/salvor 'wal push %p":                                "not plain",
		`/bin/salvor -c "/etc/x.yaml" wal push %p`:                "not plain",
		"/bin/salvor wal push %p > /dev/null":                     "not plain",
	} {
		got := "not plain"
		if words, plain := shellWords(command); plain {
			program, file, ok := parsePush(words)
			got = fmt.Sprintf("%s %s %v", program, file, ok)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	// What init prints is read back.
	for _, file := range []string{"/etc/salvor/salvor.yaml", "/srv/my files/it's 100%.yaml"} {
		words, plain := shellWords(shellWord("/bin/salvor") + " -c " + shellWord(file) + " wal push %p")
		if _, got, ok := parsePush(words); !plain || !ok || got != file {
			t.Errorf("%s is read back as %q, %v, %v", file, got, plain, ok)
		}
	}
}

// bad is a store that breaks a promise.
type bad struct {
	store.Store
	breaks string
}

func (b bad) Create(ctx context.Context, key string, o store.CreateOptions) (store.Writer, error) {
	switch {
	case b.breaks == "IfAbsent":
		o.IfAbsent = false
	case b.breaks == "IfMatch":
		o.IfMatch = ""
	}
	return b.Store.Create(ctx, key, o)
}

func (b bad) List(ctx context.Context, prefix string, o store.ListOptions) iter.Seq2[store.Object, error] {
	if b.breaks == "List" {
		prefix += "-other"
	}
	return b.Store.List(ctx, prefix, o)
}

func (b bad) Delete(ctx context.Context, key string, match store.Version) error {
	if b.breaks == "Delete" {
		return nil
	}
	return b.Store.Delete(ctx, key, match)
}

func TestExercise(t *testing.T) {
	t.Parallel()
	for breaks, want := range map[string]string{
		"nothing":  "",
		"IfAbsent": "writing what is there already went well",
		"IfMatch":  "replacing a version that is gone went well",
		"List":     "is not in the list",
		"Delete":   "looking up what was deleted went well",
	} {
		err := exercise(t.Context(), bad{mem.New(mem.Options{}), breaks}, "doctor/x")
		if got := fmt.Sprint(err); (err == nil) != (want == "") || !strings.Contains(got, want) && err != nil {
			t.Errorf("a store that breaks %s: %v, want %q", breaks, err, want)
		}
	}
}
