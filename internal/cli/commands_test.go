package cli

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// TestCommands goes through the life of one site: each part begins where the one
// before it ended.
func TestCommands(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for _, part := range []struct {
		name string
		test func(*testing.T)
	}{
		{"init, planned", s.testInitPlan},
		{"init", s.testInit},
		{"init, again", s.testInitAgain},
		{"init, with a second repository", s.testInitSecond},
		{"init, refused", s.testInitRefused},
		{"init, with a password", s.testInitPassword},
		{"init, with a role of its own", s.testInitRole},
		{"wal status, without a backup", s.testNoBackup},
		{"backup", s.testBackup},
		{"backups list and show", s.testBackups},
		{"wal status", s.testWALStatus},
		{"wal push and fetch", s.testPushFetch},
		{"restore", s.testRestore},
		{"backups hold and expire", s.testExpire},
		{"backups delete", s.testDelete},
	} {
		if !t.Run(part.name, part.test) {
			t.FailNow() // the next ones need it
		}
	}
}

// has wants a document to have fields.
func has(t *testing.T, doc map[string]any, names ...string) {
	t.Helper()
	for _, name := range append(names, "format_version") {
		if _, ok := doc[name]; !ok {
			t.Errorf("no %s among %v", name, slices.Sorted(maps.Keys(doc)))
		}
	}
}

func (s *site) testInitPlan(t *testing.T) {
	doc := s.must(t, "init", s.DSN(), "--repo", "local="+s.url(), "--plan")
	has(t, doc, "config_file", "cluster", "system_id", "data_dir", "would_write", "repositories")
	want := []any{filepath.Join(s.dir, "salvor.key"), filepath.Join(s.dir, "salvor.proof.key"), filepath.Join(s.dir, "salvor.proof.pub"), s.config}
	if diff := cmp.Diff(want, doc["would_write"]); diff != "" {
		t.Errorf("what it would write (-want +got):\n%s", diff)
	}
	if r := doc["repositories"].([]any)[0].(map[string]any); r["would_create"] != true || r["name"] != "local" {
		t.Errorf("the repository: %v", r)
	}
	for _, path := range append([]string{s.repo, filepath.Join(s.Dir, catalog.MarkerName)}, want[0].(string), s.config) {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("it made %s", path)
		}
	}
}

func (s *site) testInit(t *testing.T) {
	r := s.here("init", s.DSN(), "--repo", "local="+s.url(), "--cluster", "shop", "-o", "json")
	if r.exit != 0 || r.stderr != "" {
		t.Fatalf("%+v", r)
	}
	v := decoded[initView](t, r.stdout)
	if v.ConfigFile != s.config || !v.ConfigWritten || v.Cluster != "shop" || v.DataDir != s.Dir || v.ArchiveMode != "on" || v.RestartRequired ||
		!cmp.Equal(v.Repositories, []initRepository{{"local", s.url(), true, true}}) {
		t.Errorf("%+v", v)
	}
	if v.ProofPublicKey != filepath.Join(s.dir, "salvor.proof.pub") {
		t.Errorf("the public key is in %q", v.ProofPublicKey)
	}
	if !strings.HasPrefix(v.RecoveryKey, "AGE-SECRET-KEY-1") {
		t.Errorf("the recovery key is %q", v.RecoveryKey)
	}
	if want := []string{alterSystem("archive_command", v.ArchiveCommand), "SELECT pg_reload_conf();"}; !cmp.Equal(v.SQL, want) {
		t.Errorf("SQL %q, want %q", v.SQL, want)
	}
	m, err := catalog.ReadMarker(s.Dir)
	if err != nil || m.Incarnation != v.Incarnation {
		t.Errorf("the marker is %+v, %v; init says %s", m, err, v.Incarnation)
	}
	// PostgreSQL's user runs archive_command, and owns what that needs.
	for name, mode := range map[string]os.FileMode{s.config: 0o640, filepath.Join(s.dir, "salvor.key"): 0o600,
		filepath.Join(s.dir, "salvor.proof.key"): 0o600, filepath.Join(s.dir, "salvor.proof.pub"): 0o644, s.repo: 0} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); int(st.Uid) != s.UID || mode != 0 && info.Mode().Perm() != mode {
			t.Errorf("%s belongs to %d and has mode %o; want %d and %o", name, st.Uid, info.Mode().Perm(), s.UID, mode)
		}
	}
	key, err := os.ReadFile(filepath.Join(s.dir, "salvor.key"))
	if err != nil || bytes.Contains(key, []byte(v.RecoveryKey)) {
		t.Errorf("the recovery key is kept in the key file, %v", err)
	}
	s.openBy(t, v.RecoveryKey)
	s.archive()
}

// openBy opens the repository with another key than the configured one.
func (s *site) openBy(t *testing.T, key string) {
	t.Helper()
	back := changeFile(t, filepath.Join(s.dir, "salvor.key"), func(string) string { return key + "\n" })
	defer back()
	if r := s.here("backups", "-o", "json"); r.exit != 0 {
		t.Errorf("the recovery key does not open the repository: %+v", r)
	}
}

func (s *site) testInitAgain(t *testing.T) {
	before, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	r := s.here("init", "-o", "json")
	if r.exit != 0 {
		t.Fatalf("%+v", r)
	}
	v := decoded[initView](t, r.stdout)
	if v.ConfigWritten || v.RecoveryKey != "" || !cmp.Equal(v.Repositories, []initRepository{{"local", s.url(), true, false}}) {
		t.Errorf("%+v", v)
	}
	if after, err := os.ReadFile(s.config); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the configuration was written anew: %v", err)
	}
	// The archive_command that is set is another program's of the same name.
	if r := s.built(t, "init"); r.exit != 0 || !strings.Contains(r.stdout, "WAL archiving is set up. Next: salvor backup\n") || strings.Contains(r.stdout, "RECOVERY KEY") {
		t.Errorf("as text: %+v", r)
	}
}

func (s *site) testInitSecond(t *testing.T) {
	t.Cleanup(changeFile(t, s.config, func(c string) string {
		return strings.Replace(c, "repositories:\n", "repositories:\n  - {name: second, url: 'file://"+s.dir+"/second', key: {file: salvor.key}}\n", 1)
	}))
	plan := s.must(t, "init", "--plan")
	if diff := cmp.Diff([]any{}, plan["would_write"]); diff != "" {
		t.Errorf("what it would write (-want +got):\n%s", diff)
	}
	for i, want := range []bool{true, false} {
		if r := plan["repositories"].([]any)[i].(map[string]any); r["would_create"] != want {
			t.Errorf("would_create of %v, want %v", r, want)
		}
	}
	r := s.here("init", "-o", "json")
	if r.exit != 0 {
		t.Fatalf("%+v", r)
	}
	v := decoded[initView](t, r.stdout)
	want := []initRepository{{"second", "file://" + s.dir + "/second", true, true}, {"local", s.url(), true, false}}
	if !cmp.Equal(v.Repositories, want) || !strings.HasPrefix(v.RecoveryKey, "AGE-SECRET-KEY-1") {
		t.Errorf("%+v", v)
	}
}

func (s *site) testInitRefused(t *testing.T) {
	message, _ := s.here("init", "--repo", s.url(), "-o", "json").failedWith(t, exitUsage, "usage")
	if !strings.Contains(message, s.config+" exists") {
		t.Errorf("with --repo beside a configuration: %s", message)
	}
	other := filepath.Join(s.dir, "other.yaml")
	init := func(args ...string) result {
		return inProcess(commands, nil, append([]string{"-c", other, "-o", "json", "init"}, args...)...)
	}
	init(s.DSN()).failedWith(t, exitUsage, "usage")
	init(s.DSN(), "--repo", "/var/lib/repo").failedWith(t, exitUsage, "config_invalid")
	init(s.DSN(), "--repo", "ftp://host/repo").failedWith(t, exitUsage, "url_invalid")
	os.Remove(other)
	init("host=/no/such/socket user=postgres", "--repo", s.url()).failedWith(t, exitFailed, "postgres_unavailable")
	init("port=nothing", "--repo", s.url()).failedWith(t, exitUsage, "usage")
	if _, err := os.Stat(other); !os.IsNotExist(err) {
		t.Errorf("a configuration was left: %v", err)
	}
	// A key that was there opens nothing that another one has made.
	if err := os.WriteFile(filepath.Join(s.dir, "passphrase"), []byte("not the right one"), 0o600); err != nil {
		t.Fatal(err)
	}
	back := changeFile(t, s.config, func(c string) string { return strings.Replace(c, "file: salvor.key", "file: passphrase", 1) })
	s.here("init", "-o", "json").failedWith(t, exitRepository, "wrong_key")
	s.here("init", "--plan", "-o", "json").failedWith(t, exitRepository, "wrong_key")
	back()
	// Nor does a new key, and what cannot be looked at is neither there nor missing.
	elsewhere := inProcess(commands, nil, "-c", filepath.Join(s.dir, "sub", "new.yaml"), "-o", "json", "init", s.DSN(), "--repo", s.url(), "--plan")
	elsewhere.failedWith(t, exitRepository, "wrong_key")
	file := filepath.Join(s.dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	back = changeFile(t, s.config, func(c string) string { return strings.Replace(c, s.url(), "file://"+file, 1) })
	said, _ := s.here("init", "--plan", "-o", "json").failedWith(t, exitFailed, "failed")
	if !strings.Contains(said, "repository local") || !strings.Contains(said, file) {
		t.Errorf("of a repository that is a file: %s", said)
	}
	back()
	back = changeFile(t, s.config, func(c string) string { return strings.Replace(c, s.Dir, s.elsewhere(t), 1) })
	message, hint := s.here("init", "-o", "json").failedWith(t, exitNotNow, "wrong_data_dir")
	if !strings.Contains(message, "belongs to cluster") || !strings.Contains(hint, s.Dir) {
		t.Errorf("of another data directory: %s, %s", message, hint)
	}
	back()
}

// elsewhere is the data directory of another cluster.
func (s *site) elsewhere(t *testing.T) string {
	t.Helper()
	return pgtest.New(t, pgtest.Options{WALSegmentMB: 1, Stopped: true}).Dir
}

func (s *site) testInitPassword(t *testing.T) {
	for name, dsn := range map[string]string{
		"url":      fmt.Sprintf("postgres://postgres:se%%27cret%%20word@127.0.0.1:%d/postgres?sslmode=disable", s.Port()),
		"keywords": s.DSN() + ` password='se\'cret word'`,
	} {
		dir := filepath.Join(s.dir, name, "etc") // not made yet
		r := inProcess(commands, nil, "-c", filepath.Join(dir, "salvor.yaml"), "init", dsn, "--no-encryption", "--repo", "file://"+dir+"/repo", "-o", "json")
		if r.exit != 0 || strings.Contains(r.stdout+r.stderr, "cret") {
			t.Fatalf("%s: %+v", name, r)
		}
		if v := decoded[initView](t, r.stdout); v.RecoveryKey != "" || v.Repositories[0].Encrypted {
			t.Errorf("%s: %+v", name, v)
		}
		pass, err := os.ReadFile(filepath.Join(dir, "salvor.pgpass"))
		info, err2 := os.Stat(filepath.Join(dir, "salvor.pgpass"))
		if err != nil || err2 != nil || string(pass) != "se'cret word\n" || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: the password is kept as %q, %v, %v", name, pass, err, err2)
		}
		c, err := config.Load(filepath.Join(dir, "salvor.yaml"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Postgres.Password.Resolve(t.Context()); err != nil || got != "se'cret word" || c.Repositories[0].Encryption != config.EncryptionNone {
			t.Errorf("%s: the configuration leads to %q, %v", name, got, err)
		}
	}
}

// init writes the SQL for a role that is no superuser, exactly what it needs.
func (s *site) testInitRole(t *testing.T) {
	const role, quoted = `odd "role"`, `"odd ""role"""`
	file := filepath.Join(s.dir, "role", "salvor.yaml")
	init := func(args ...string) result {
		return inProcess(commands, nil, append([]string{"-c", file, "-o", "json", "init"}, args...)...)
	}
	sql := func(r result) string {
		t.Helper()
		if r.exit != 0 {
			t.Fatalf("%+v", r)
		}
		var all []string
		for _, q := range decoded[initView](t, r.stdout).SQL {
			if !strings.Contains(q, "archive_command") && !strings.Contains(q, "pg_reload_conf") {
				all = append(all, q)
			}
		}
		return strings.Join(all, "\n")
	}
	made := sql(init(s.DSN(), "--no-encryption", "--repo", "file://"+s.dir+"/role/repo", "--role", role))
	if !strings.HasPrefix(made, "CREATE ROLE "+quoted+" LOGIN REPLICATION;\nGRANT pg_monitor TO "+quoted) {
		t.Fatalf("the SQL is\n%s", made)
	}
	init("--role", role).failedWith(t, exitUsage, "usage") // there is a configuration now
	s.Exec(made)
	c, err := config.Load(file, nil)
	if err != nil || c.Postgres.User != role || !c.Postgres.Password.IsZero() {
		t.Errorf("the configuration has %+v, %v", c.Postgres, err)
	}
	if r := inProcess(commands, nil, "-c", filepath.Join(s.dir, "role", "text.yaml"), "init", s.DSN(), "--no-encryption", "--repo", "file://"+s.dir+"/role/text", "--role", "another"); r.exit != 0 ||
		!strings.Contains(r.stdout, "As superuser, in database postgres, run:\n\n    CREATE ROLE \"another\" LOGIN REPLICATION;\n") || !strings.Contains(r.stdout, "pg_hba.conf") {
		t.Errorf("as text: %+v", r)
	}
	if left := sql(init()); left != "" {
		t.Errorf("as that role there is left to do:\n%s", left)
	}
	s.Exec("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_backup_start(text, boolean) FROM " + quoted)
	grants := sql(init())
	if !strings.HasPrefix(grants, "ALTER ROLE "+quoted) || !strings.Contains(grants, "pg_backup_start") {
		t.Errorf("without a right the SQL is\n%s", grants)
	}
	s.Exec("REVOKE pg_monitor FROM " + quoted)
	_, hint := init().failedWith(t, exitNotNow, "postgres_privilege")
	if !strings.Contains(hint, grants) {
		t.Errorf("without pg_monitor the hint is\n%s", hint)
	}
	s.Exec(grants)
	if left := sql(init()); left != "" {
		t.Errorf("with all rights there is left to do:\n%s", left)
	}
	s.Exec("DROP OWNED BY " + quoted + "; DROP ROLE " + quoted)
}

func (s *site) testNoBackup(t *testing.T) {
	if doc := s.must(t, "backups", "list"); !cmp.Equal(doc["items"], any([]any{})) {
		t.Errorf("the list of no backups is %v", doc)
	}
	if r := s.here("backups"); r.stdout != "There are no backups yet: salvor backup\n" {
		t.Errorf("as text: %+v", r)
	}
	r := s.here("wal", "status", "-o", "json")
	doc := decoded[map[string]any](t, r.stdout)
	has(t, doc, "ok", "timelines", "problems")
	if r.exit != exitProblem || doc["ok"] != false || doc["latest_recoverable_at"] != nil || !strings.Contains(fmt.Sprint(doc["problems"]), "nothing can be recovered: there is no backup") {
		t.Errorf("wal status: %+v", r)
	}
	message, hint := s.here("restore", "--to", s.dir+"/copy", "-o", "json").failedWith(t, exitNotFound, "not_covered")
	if !strings.Contains(message, "there is no backup") || !strings.Contains(hint, "salvor backup") {
		t.Errorf("restore: %s, %s", message, hint)
	}
}

// backupFields are those of a backup that are promised.
var backupFields = []string{"id", "kind", "cluster", "started_at", "stopped_at", "start_lsn", "stop_lsn", "timeline", "size_bytes", "read_bytes", "stored_bytes",
	"pages_read", "pages_stored", "duration_seconds", "parent_id", "repository"}

func (s *site) testBackup(t *testing.T) {
	plan := s.must(t, "backup", "--plan")
	has(t, plan, "kind", "cluster", "repository", "size_bytes")
	s.Exec("SELECT pg_create_physical_replication_slot('of_a_standby')") // a restore will tell of it
	doc := s.must(t, "backup", "--annotate", "why=test", "--annotate", "by=me")
	s.Exec("SELECT pg_drop_replication_slot('of_a_standby')")
	has(t, doc, backupFields...)
	if doc["parent_id"] != nil || doc["kind"] != "full" || doc["cluster"] != "shop" || doc["repository"] != "local" || doc["timeline"] != 1.0 {
		t.Errorf("%v", doc)
	}
	for _, name := range []string{"size_bytes", "read_bytes", "stored_bytes", "pages_read", "pages_stored", "duration_seconds"} {
		if n, ok := doc[name].(float64); !ok || n <= 0 {
			t.Errorf("%s is %v", name, doc[name])
		}
	}
	for _, name := range []string{"started_at", "stopped_at"} {
		if at, err := time.Parse("2006-01-02T15:04:05.000000Z", doc[name].(string)); err != nil || time.Since(at).Abs() > time.Hour {
			t.Errorf("%s is %v: %v", name, doc[name], err)
		}
	}
	s.here("backup", "--annotate", "x", "-o", "json").failedWith(t, exitUsage, "usage")
	s.here("backup", "--repo", "nowhere", "-o", "json").failedWith(t, exitUsage, "usage")
	s.here("backup", "--workers", "-1", "-o", "json").failedWith(t, exitUsage, "usage")
}

func (s *site) testBackups(t *testing.T) {
	list := decoded[struct {
		Items []map[string]any
	}](t, s.here("backups", "list", "-o", "json").stdout)
	if len(list.Items) != 1 {
		t.Fatalf("%v", list)
	}
	item := list.Items[0]
	item["format_version"] = 1 // the list has it
	has(t, item, append(backupFields, "verified_at", "verified_level", "restore_seconds", "held", "kept_by")...)
	if item["held"] != false || !cmp.Equal(item["kept_by"].([]any)[0], any("window")) || item["verified_at"] != nil {
		t.Errorf("%v", item)
	}
	id := item["id"].(string)
	doc := s.must(t, "backups", "show", id)
	has(t, doc, append(backupFields, "tablespaces", "replication_slots", "data_checksums", "file_count", "salvor_version", "annotations")...)
	if doc["id"] != id || !cmp.Equal(doc["annotations"], any(map[string]any{"why": "test", "by": "me"})) {
		t.Errorf("%v", doc)
	}
	if r := s.here("backups", "show", id); r.exit != 0 || !strings.Contains(r.stdout, "annotation        by=me\nannotation        why=test\n") {
		t.Errorf("as text: %+v", r)
	}
	if r := s.here("backups"); r.exit != 0 || !strings.Contains(r.stdout, id+"  full  ") {
		t.Errorf("as text: %+v", r)
	}
	s.here("backups", "show", "20200101T000000Z-000000", "-o", "json").failedWith(t, exitNotFound, "no_backup")
	s.here("backups", "show", "-o", "json").failedWith(t, exitUsage, "usage")
	s.here("backups", "list", "--repo", "nowhere", "-o", "json").failedWith(t, exitUsage, "usage")
	_, hint := s.here("backups", "lits", "-o", "json").failedWith(t, exitUsage, "usage")
	if !strings.Contains(hint, "salvor backups list") {
		t.Errorf("the hint for a typo is %q", hint)
	}
}

func (s *site) testWALStatus(t *testing.T) {
	doc := s.must(t, "wal", "status")
	has(t, doc, "ok", "timelines", "earliest_recoverable_at", "latest_recoverable_at", "latest_recoverable_lsn", "lag_bytes", "lag_seconds")
	if doc["ok"] != true || doc["lag_bytes"].(float64) < 0 || doc["lag_seconds"].(float64) < 0 {
		t.Errorf("%v", doc)
	}
	line := doc["timelines"].([]any)[0].(map[string]any)
	first := line["ranges"].([]any)[0].(map[string]any)
	if line["timeline"] != 1.0 || first["state"] != "found" || first["from_lsn"] == nil || first["to_lsn"] == nil || len(first) != 3 {
		t.Errorf("%v", line)
	}
	// A segment in the middle is lost.
	s.archived(t)
	lost := s.archived(t)
	s.archived(t)
	t.Cleanup(move(t, lost, lost+".away"))
	r := s.here("wal", "status", "-o", "json")
	v := decoded[struct {
		OK        bool
		Problems  []string
		Timelines []timelineView
	}](t, r.stdout)
	var states []string
	for _, g := range v.Timelines[0].Ranges {
		states = append(states, g.State)
	}
	if r.exit != exitProblem || v.OK || len(v.Problems) == 0 || !cmp.Equal(states[:3], []string{"found", "lost", "found"}) {
		t.Errorf("with a hole: %+v", r)
	}
	if r := s.here("wal", "status", "--repo", "nowhere"); r.exit != exitUsage {
		t.Errorf("of no repository: %+v", r)
	}
}

// archived ends a segment, waits until it is archived, and gives its object's file.
func (s *site) archived(t *testing.T) string {
	t.Helper()
	s.Exec("CREATE TABLE IF NOT EXISTS dish (id int); INSERT INTO dish VALUES (1)")
	name := strings.TrimSpace(s.Psql("SELECT pg_walfile_name(pg_switch_wal())"))
	s.WaitArchived(name)
	found, err := filepath.Glob(filepath.Join(s.repo, "clusters/shop/*/wal/00000001", name))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s is archived as %v, %v", name, found, err)
	}
	return found[0]
}

func (s *site) testPushFetch(t *testing.T) {
	name := filepath.Base(s.archived(t))
	file := filepath.Join(s.Dir, "pg_wal", name)
	doc := s.must(t, "wal", "push", file)
	if want := []any{map[string]any{"repository": "local", "outcome": "present", "stored_bytes": 0.0}}; doc["file"] != name || !cmp.Equal(doc["repositories"], any(want)) {
		t.Errorf("pushed again: %v", doc)
	}
	if r := s.here("wal", "push", file); r != (result{}) {
		t.Errorf("it is not silent: %+v", r)
	}
	s.here("wal", "push", "/no/such/"+name, "-o", "json").failedWith(t, exitFailed, "failed")
	to := filepath.Join(t.TempDir(), "RECOVERYXLOG")
	if r := s.here("wal", "fetch", name, to); r != (result{}) {
		t.Errorf("fetch: %+v", r)
	}
	if same, err := sameContent(to, file); err != nil || !same {
		t.Errorf("what was fetched is not the same: %v", err)
	}
	s.here("wal", "fetch", "00000001000000FF000000FF", to, "-o", "json").failedWith(t, exitAbsent, "absent")
	s.here("wal", "fetch", "nonsense", to, "-o", "json").failedWith(t, exitFetchFault, "failed")
}

func (s *site) testRestore(t *testing.T) {
	to := s.dir + "/copy"
	for args, want := range map[string]string{
		"":                                "needs --to",
		"--to|x|--at|2026-11-24T12:00:00": "no time zone",
		"--to|x|--lsn|0/1|--xid|7":        "none of the others can be",
		"--to|x|--exclusive":              "--exclusive needs",
		"--to|x|--standby|--immediate":    "it takes no target",
		"--to|x|--standby|--takeover":     "exclude each other",
		"--to|x|--action|pause":           "needs a target",
		"--to|x|--action|stop":            "want one of promote, pause, shutdown",
		"--to|x|--port|5433":              "need --start",
		"--to|x|--set|a=b":                "need --start",
		"--to|x|--workers|-1":             "--workers must be",
		"--to|x|--tablespace-map|16384":   "want OID=DIR",
		"--to|x|--tablespace-map|mine=/x": "want OID=DIR",
		"--to|x|--tablespace-map|16384=":  "want OID=DIR",
		"--to|x|--repo|nowhere":           "--repo:",
		"--to|x|--start|--set|a":          "want name=value",
		"--to|x|--at|":                    "--at is empty",
		"--to|x|elsewhere":                "takes no arguments",
	} {
		r := s.here(append(append([]string{"restore"}, words(args)...), "-o", "json")...)
		if message, _ := r.failedWith(t, exitUsage, "usage"); !strings.Contains(message, want) {
			t.Errorf("restore %s: %s; want %q", args, message, want)
		}
	}
	for args, code := range map[string]string{
		"--at|2020-01-01T00:00:00Z":        "not_covered",
		"--at|2999-01-01T00:00:00Z":        "not_covered",
		"--restore-point|never made":       "not_covered",
		"--lsn|FF/0":                       "not_covered",
		"--timeline|9":                     "not_covered",
		"--backup|20200101T000000Z-000000": "no_backup",
	} {
		s.here(append(append([]string{"restore", "--to", to}, words(args)...), "-o", "json")...).failedWith(t, exitNotFound, code)
	}
	s.here("restore", "--to", s.dir, "-o", "json").failedWith(t, exitNotNow, "refused")
	if _, err := os.Stat(to); !os.IsNotExist(err) {
		t.Errorf("a refused restore made %s: %v", to, err)
	}
	plan := s.must(t, "restore", "--to", to, "--plan")
	has(t, plan, "backup_id", "target", "timeline", "restored_bytes", "wal_from_lsn", "wal_to_lsn", "wal_segments", "wal_bytes", "replay_bytes")
	if plan["estimate"] != nil {
		t.Errorf("nothing was restored yet, and the plan estimates %v", plan["estimate"])
	}
	if _, err := os.Stat(to); !os.IsNotExist(err) {
		t.Errorf("a plan made %s: %v", to, err)
	}
	doc := s.must(t, "restore", "--to", to, "--immediate")
	has(t, doc, "backup_id", "target", "timeline", "restored_bytes", "fetched_bytes", "written_bytes", "duration_seconds")
	slot := doc["replication_slots"].([]any)[0].(map[string]any)
	if slot["name"] != "of_a_standby" || slot["kind"] != "physical" {
		t.Errorf("the source's slots: %v", doc["replication_slots"])
	}
	s.Exec(slot["sql"].(string))
	s.Exec("SELECT pg_drop_replication_slot('of_a_standby')")
	plan = s.must(t, "restore", "--to", filepath.Join(s.dir, "next"), "--plan")
	if e, _ := plan["estimate"].(map[string]any); e["measurements"] != 1.0 || e["copy_seconds"] == nil || e["replay_seconds"] != nil {
		t.Errorf("one was restored and no server started, and the plan estimates %v", plan["estimate"])
	}
	if doc["target"] != "immediate" || doc["recovered_to_lsn"] != nil || doc["restored_bytes"].(float64) <= 0 {
		t.Errorf("%v", doc)
	}
}

// testExpire holds a backup, makes others, and applies policies.
func (s *site) testExpire(t *testing.T) {
	type decided struct {
		ID      string
		Removed bool
		KeptBy  []string `json:"kept_by"`
	}
	type view struct {
		Repositories []struct {
			Backups        []decided
			RemovedBackups int    `json:"removed_backups"`
			Segments       int    `json:"removed_segments"`
			Freed          uint64 `json:"freed_bytes"`
		}
	}
	first := s.must(t, "backups", "list")["items"].([]any)[0].(map[string]any)["id"].(string)
	var ids []string
	for range 3 {
		ids = append(ids, s.must(t, "backup")["id"].(string))
	}
	s.here("backups", "hold", first, "-o", "json").failedWith(t, exitUsage, "usage")
	if doc := s.must(t, "backups", "hold", first, "--reason", "audit"); doc["held"] != true || !strings.Contains(doc["owner"].(string), "@") || doc["reason"] != "audit" {
		t.Errorf("%v", doc)
	}
	s.here("backups", "hold", first, "--reason", "again", "-o", "json").failedWith(t, exitNotNow, "held")
	if _, hint := s.here("--yes", "backups", "delete", first, "-o", "json").failedWith(t, exitNotNow, "held"); !strings.Contains(hint, "release "+first) {
		t.Errorf("the hint is %q", hint)
	}
	shown := s.must(t, "backups", "show", first)
	if shown["held"] != true || !cmp.Equal(shown["kept_by"].([]any)[0], any("window")) || !strings.Contains(s.here("backups", "show", first).stdout, ": audit\n") {
		t.Errorf("%v", shown)
	}

	s.here("expire", "--daily", "3", "-o", "json").failedWith(t, exitUsage, "usage")
	s.here("expire", "--plan", "--minimum", "0", "-o", "json").failedWith(t, exitUsage, "usage")
	s.here("expire", "--plan", "--time-zone", "Nowhere", "-o", "json").failedWith(t, exitUsage, "usage")
	plan := decoded[view](t, s.here("expire", "--plan", "-o", "json").stdout).Repositories[0]
	if plan.RemovedBackups != 0 || len(plan.Backups) != 4 {
		t.Errorf("the default policy: %+v", plan)
	}
	narrow := []string{"--window", "0s", "--daily", "0", "--weekly", "0", "--monthly", "0", "--minimum", "1"}
	plan = decoded[view](t, s.here(append([]string{"expire", "--plan", "-o", "json"}, narrow...)...).stdout).Repositories[0]
	var goes []string
	for _, b := range plan.Backups {
		if b.Removed {
			goes = append(goes, b.ID)
		}
	}
	// first was restored a moment ago, and its WAL may be needed.
	if !cmp.Equal(goes, ids[:2]) || plan.Segments > 1 || plan.Freed == 0 || !cmp.Equal(plan.Backups[0].KeptBy, []string{"held", "in-use"}) {
		t.Errorf("a narrow one: %+v", plan)
	}
	if text := s.here(append([]string{"expire", "--plan"}, narrow...)...).stdout; !strings.Contains(text, "- would be removed") || !strings.Contains(text, "policy: window 0s, minimum 1 (UTC)") {
		t.Errorf("as text:\n%s", text)
	}
	defer changeFile(t, s.config, func(text string) string {
		return text + "\nretention: {window: 0s, daily: 0, weekly: 0, monthly: 0, minimum: 1}\n"
	})()
	done := decoded[view](t, s.here("expire", "-o", "json").stdout).Repositories[0]
	if done.RemovedBackups != 2 || done.Freed == 0 {
		t.Errorf("%+v", done)
	}
	again := decoded[view](t, s.here("expire", "-o", "json").stdout).Repositories[0]
	if again.RemovedBackups != 0 || len(again.Backups) != 2 {
		t.Errorf("again: %+v", again)
	}
	if doc := s.must(t, "backups", "release", first); doc["held"] != false {
		t.Errorf("%v", doc)
	}
	s.here("backups", "release", first, "-o", "json").failedWith(t, exitNotFound, "not_held")
	s.must(t, "--yes", "backups", "delete", ids[2])
}

func (s *site) testDelete(t *testing.T) {
	first := decoded[struct {
		Items []struct{ ID string }
	}](t, s.here("backups", "-o", "json").stdout).Items[0].ID
	_, hint := s.here("--yes", "backups", "delete", first, "-o", "json").failedWith(t, exitNotNow, "last_backup")
	if !strings.Contains(hint, "--last") {
		t.Errorf("the hint is %q", hint)
	}
	s.here("backups", "delete", first, "--plan", "-o", "json").failedWith(t, exitNotNow, "last_backup")
	second := s.must(t, "backup")["id"].(string)
	s.here("backups", "delete", first, "-o", "json").failedWith(t, exitUsage, "confirmation_required")
	if doc := s.must(t, "backups", "delete", first, "--plan"); doc["id"] != first || doc["would_delete"] != true {
		t.Errorf("the plan: %v", doc)
	}
	if doc := s.must(t, "backups", "show", first); doc["id"] != first {
		t.Errorf("it is gone although nobody confirmed that: %v", doc)
	}
	s.here("--yes", "backups", "delete", "20200101T000000Z-000000", "-o", "json").failedWith(t, exitNotFound, "no_backup")
	doc := s.must(t, "--yes", "backups", "delete", first)
	has(t, doc, "id", "repository", "deleted_objects", "deleted_bytes")
	if doc["id"] != first || doc["deleted_objects"].(float64) < 2 {
		t.Errorf("%v", doc)
	}
	s.here("backups", "show", first, "-o", "json").failedWith(t, exitNotFound, "no_backup")
	if doc := s.must(t, "--yes", "backups", "delete", second, "--last"); doc["id"] != second {
		t.Errorf("the last one: %v", doc)
	}
	if doc := s.must(t, "backups"); len(doc["items"].([]any)) != 0 {
		t.Errorf("left: %v", doc)
	}
}
