package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/retention"
)

const minimal = `cluster: shop
postgres: {data_dir: /pg/data}
repositories: [{name: local, url: "file:///repo", key: {env: KEY}}]
`

// s3Repository is a configuration with a repository in S3.
func s3Repository(credentials string) string {
	return `cluster: shop
postgres: {data_dir: /pg/data}
repositories:
  - name: far
    url: s3://bucket/prefix?region=eu-west-1
    key: {env: KEY}
    credentials: ` + credentials + "\n"
}

const full = `cluster: swifteats
node: {name: db-a, zone: eu-west-1a}
postgres:
  data_dir: /var/lib/postgresql/15/main
  bin_dir: /usr/lib/postgresql/15/bin
  host: /var/run/postgresql
  port: 5432
  user: postgres
  password: {file: /etc/salvor/pg.pass}
repositories:
  - name: local
    url: file:///var/lib/salvor/repo
    key: {file: repo.key}
  - name: second
    url: file:///mnt/second/repo
    key: {command: [vault, read, -field=key, secret/salvor]}
backup: {compression: zstd, workers: 4, rate_limit: 100MiB, checkpoint: fast, archive_timeout: 5m}
wal: {method: push, compression: s2}
proof: {key: {file: proof.key}}
objectives: {database: {rto: 15m, rpo: 1m}}
retention: {window: 14d, hourly: 24, daily: 7, weekly: 5, monthly: 12, yearly: 3, minimum: 3, time_zone: Europe/Berlin}
`

func parse(doc string, env ...string) (*Config, error) {
	return Parse(Source{Name: "salvor.yaml", Dir: "/etc/salvor", Data: []byte(doc), Env: envOf(env...), Hostname: "DB1.example.com"})
}

// envOf makes an environment of NAME=value texts.
func envOf(vars ...string) Env {
	return func(name string) (string, bool) {
		for _, v := range vars {
			if k, value, _ := strings.Cut(v, "="); k == name {
				return value, true
			}
		}
		return "", false
	}
}

func sameConfig() cmp.Option {
	return cmp.Options{cmpopts.IgnoreUnexported(Config{}, Secret{}), cmpopts.EquateEmpty()}
}

func TestParseDefaults(t *testing.T) {
	t.Parallel()
	got, err := parse(minimal)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Cluster: "shop",
		Node:    Node{Name: "db1"},
		Postgres: Postgres{
			DataDir: "/pg/data", Host: "/var/run/postgresql", Port: 5432, User: "postgres", Database: "postgres",
		},
		Repositories: []Repository{{Name: "local", URL: "file:///repo", Key: Secret{Env: "KEY"}, Encryption: AES256GCM, RetryFor: Duration(time.Minute)}},
		Backup:       Backup{Compression: "zstd", Workers: 2, Checkpoint: "fast", ArchiveTimeout: Duration(time.Minute)},
		WAL:          WAL{Method: "push", Compression: "s2"},
		Verify:       Verify{Level: "restore", ScratchDir: "/var/tmp", Dump: "all", CheckTimeout: Duration(5 * time.Minute)},
		Retention:    Retention{Window: Duration(7 * day), Daily: 7, Weekly: 4, Monthly: 12, Minimum: 2, TimeZone: "UTC"},
	}
	if diff := cmp.Diff(want, got, sameConfig()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseFull(t *testing.T) {
	t.Parallel()
	got, err := parse(full, "SALVOR_BACKUP_WORKERS=8", "SALVOR_REPOSITORIES_SECOND_URL=file:///elsewhere",
		"SALVOR_POSTGRES_PASSWORD=hunter2", "SALVOR_REPOSITORIES_LOCAL_KEY_FILE=other.key", "SALVOR_NODE_ZONE=")
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Cluster: "swifteats",
		Node:    Node{Name: "db-a", Zone: "eu-west-1a"},
		Postgres: Postgres{
			DataDir: "/var/lib/postgresql/15/main", BinDir: "/usr/lib/postgresql/15/bin", Host: "/var/run/postgresql",
			Port: 5432, User: "postgres", Password: Secret{Env: "SALVOR_POSTGRES_PASSWORD"}, Database: "postgres",
		},
		Repositories: []Repository{
			{Name: "local", URL: "file:///var/lib/salvor/repo", Key: Secret{File: "/etc/salvor/other.key"}, Encryption: AES256GCM, RetryFor: Duration(time.Minute)},
			{Name: "second", URL: "file:///elsewhere", Encryption: AES256GCM, RetryFor: Duration(time.Minute),
				Key: Secret{Command: []string{"vault", "read", "-field=key", "secret/salvor"}}},
		},
		Backup: Backup{Compression: "zstd", Workers: 8, RateLimit: 100 << 20, Checkpoint: "fast", ArchiveTimeout: Duration(5 * time.Minute)},
		WAL:    WAL{Method: "push", Compression: "s2"},
		Verify: Verify{Level: "restore", ScratchDir: "/var/tmp", Dump: "all", CheckTimeout: Duration(5 * time.Minute)},
		Proof:  Proof{Key: Secret{File: "/etc/salvor/proof.key"}}, Objectives: Objectives{Objective{Duration(15 * time.Minute), Duration(time.Minute)}},
		Retention: Retention{Window: Duration(14 * day), Hourly: 24, Daily: 7, Weekly: 5, Monthly: 12, Yearly: 3, Minimum: 3, TimeZone: "Europe/Berlin"},
	}
	if diff := cmp.Diff(want, got, sameConfig()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if r, err := got.Repository("second"); err != nil || r.URL != "file:///elsewhere" {
		t.Errorf("Repository(second) = %v, %v", r, err)
	}
	if _, err := got.Repository("third"); err == nil || !strings.Contains(err.Error(), "local, second") {
		t.Errorf("Repository(third) gave %v, want the names there are", err)
	}
}

// What is configured is what is applied.
func TestPolicy(t *testing.T) {
	t.Parallel()
	c, err := parse(full)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Retention.Policy()
	berlin := p.Zone
	p.Zone = nil
	if want := (retention.Policy{Window: 14 * day, Hourly: 24, Daily: 7, Weekly: 5, Monthly: 12, Yearly: 3, Minimum: 3}); err != nil || p != want || berlin.String() != "Europe/Berlin" {
		t.Errorf("%+v in %s, %v", p, berlin, err)
	}
}

func TestParseCredentials(t *testing.T) {
	t.Parallel()
	c, err := parse(s3Repository("{access_key: {file: s3.key}, secret_key: {command: [vault]}}"))
	if err != nil {
		t.Fatal(err)
	}
	want := Credentials{AccessKey: Secret{File: "/etc/salvor/s3.key"}, SecretKey: Secret{Command: []string{"vault"}}}
	if diff := cmp.Diff(want, c.Repositories[0].Credentials, sameConfig()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	c, err = parse(s3Repository(""), "SALVOR_REPOSITORIES_FAR_CREDENTIALS_ACCESS_KEY=AKIA", "SALVOR_REPOSITORIES_FAR_CREDENTIALS_SECRET_KEY_FILE=s3.secret")
	if err != nil {
		t.Fatal(err)
	}
	want = Credentials{AccessKey: Secret{Env: "SALVOR_REPOSITORIES_FAR_CREDENTIALS_ACCESS_KEY"}, SecretKey: Secret{File: "/etc/salvor/s3.secret"}}
	if diff := cmp.Diff(want, c.Repositories[0].Credentials, sameConfig()); diff != "" {
		t.Errorf("from the environment (-want +got):\n%s", diff)
	}
}

func TestParseProblems(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, doc string
		env       []string
		want      []string // each line of the error holds, in order
	}{
		{"empty", "", nil, []string{
			"salvor.yaml:1:1: cluster: is required", "postgres.data_dir: is required", "repositories: needs at least one entry"}},
		{"only comments", "# nothing\n", nil, []string{"cluster: is required", "postgres.data_dir", "repositories"}},
		{"empty section", "cluster: a\npostgres:\nrepositories:\n", nil, []string{
			"salvor.yaml:2:1: postgres.data_dir: is required", "salvor.yaml:3:1: repositories: needs at least one"}},
		{"near key", minimal + "bakcup: {workers: 3}\n", nil, []string{`salvor.yaml:4:1: bakcup: unknown key; did you mean "backup"?`}},
		{"near key below", minimal + "backup:\n  worker: 3\n", nil, []string{`salvor.yaml:5:3: backup.worker: unknown key; did you mean "workers"?`}},
		{"wrong indentation", minimal + "rate_limit: 3\n", nil, []string{"rate_limit: unknown key; it belongs to backup: check the indentation"}},
		{"far key", minimal + "zzz: 3\n", nil, []string{"zzz: unknown key; known here: cluster, node, postgres"}},
		{"twice", minimal + "node: {name: a}\nnode: {name: b}\n", nil, []string{"salvor.yaml:5:1: node: given twice: first in line 4"}},
		{"no value", minimal + "node:\n  name:\n", nil, []string{"salvor.yaml:5:8: node.name: has no value"}},
		{"alias", minimal + "node: &n {name: a}\nwal: *n\n", nil, []string{"node: anchors and aliases", "wal: anchors and aliases"}},
		{"merge", minimal + "node: {<<: {name: a}}\n", nil, []string{"node.<<: unknown key; merge keys are not supported"}},
		{"tag", minimal + "node: {name: !!binary aGk=}\n", nil, []string{"node.name: must be a single value"}},
		{"second document", minimal + "---\ncluster: b\n", nil, []string{"a second document starts here"}},
		{"syntax", "cluster: a\n b: c\n", nil, []string{"salvor.yaml:2:3: not YAML: mapping values are not allowed"}},
		{"syntax with its beginning", "a: [1\n", nil, []string{"while parsing a flow sequence that starts at line 1"}},
		{"list for a section", minimal + "node: [a]\n", nil, []string{"node: must be a section of keys: name, zone"}},
		{"section for a list", "cluster: a\npostgres: {data_dir: /d}\nrepositories: {name: a}\n", nil,
			[]string{"repositories: must be a list: start each entry with a hyphen"}},
		{"list for a value", minimal + "node: {name: [a]}\n", nil, []string{"node.name: must be a single value"}},
		{"odd key", minimal + "? [a]\n: b\n", nil, []string{"a key must be plain text"}},
		{"all at once", minimal + "node: {name: Big}\nbackup: {workers: 0, compression: zst, rate_limit: -1, archive_timeout: 0s}\nwal: {method: stream}\n", nil,
			[]string{"6 problems in the configuration:",
				`salvor.yaml:4:14: node.name: "Big" is not a name`,
				`backup.workers: "0" is not a whole number from 1 to 256`,
				`backup.compression: "zst" is not one of zstd, s2, none; did you mean "zstd"?`,
				`backup.rate_limit: "-1" is not a size`,
				"backup.archive_timeout: must be at least 1s",
				`wal.method: "stream" is not supported, only push`}},
		{"half of the credentials", s3Repository("{access_key: {file: a}}"), nil,
			[]string{"salvor.yaml:7:5: repositories[0].credentials.secret_key: is required beside the other"}},
		{"credentials written out", s3Repository("{access_key: AKIA, secret_key: hush}"), nil, []string{
			"repositories[0].credentials.access_key: secrets are not written here", "repositories[0].credentials.secret_key: secrets are not"}},
		{"credentials of a directory", strings.Replace(s3Repository("{access_key: {env: A}, secret_key: {env: B}}"), "s3://bucket", "file:///bucket", 1), nil,
			[]string{"repositories[0].credentials: a directory takes no credentials"}},
		{"no time zone", minimal + "retention: {time_zone: Europe/Belrin, minimum: 0, window: -1d}\n", nil, []string{
			`salvor.yaml:4:24: retention.time_zone: "Europe/Belrin" is not a time zone: want an IANA name, as UTC or Europe/Berlin`,
			"retention.minimum: \"0\" is not a whole number from 1", `retention.window: "-1d" is not a duration`}},
		{"time zone of the host", minimal + "retention: {time_zone: Local}\n", nil, []string{`"Local" is not a time zone`}},
		{"environment", minimal, []string{"SALVOR_BACKUP_WORKERS=many"},
			[]string{`$SALVOR_BACKUP_WORKERS: backup.workers: "many" is not a whole number`}},
		{"two sources of a secret", minimal, []string{"SALVOR_POSTGRES_PASSWORD=x", "SALVOR_POSTGRES_PASSWORD_FILE=y"},
			[]string{"set beside SALVOR_POSTGRES_PASSWORD_FILE"}},
		{"no key", strings.Replace(minimal, ", key: {env: KEY}", "", 1), nil,
			[]string{"salvor.yaml:3:16: repositories[0].key: is required: {file: PATH}, {env: NAME} or {command"}},
		{"names too near", strings.Replace(minimal, "[{name: local,", "[{name: a-b, url: 'file:///a', encryption: none}, {name: a.b,", 1), nil,
			[]string{`repositories[1].name: "a.b" is too near to "a-b"`}},
		{"newline in a value", minimal + "node: {zone: ok}\n" + `postgres2: {}`, nil, []string{`postgres2: unknown key; did you mean "postgres"?`}},
		{"control character", strings.Replace(minimal, "/pg/data", `"/pg\n/data"`, 1), nil, []string{"postgres.data_dir: must be plain text on one line"}},
		{"path for a URL", strings.Replace(minimal, "file:///repo", "/repo", 1), nil, []string{`"/repo" is a path: want a URL, as file:///repo`}},
		{"two slashes", strings.Replace(minimal, "file:///repo", "file://repo/x", 1), nil, []string{"a file URL has three slashes"}},
		{"no bucket", strings.Replace(minimal, "file:///repo", "s3:///prefix", 1), nil, []string{"nothing stands between s3:// and the path"}},
		{"no URL", strings.Replace(minimal, "file:///repo", "repo", 1), nil, []string{"not a URL"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(tc.doc, tc.env...)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tc.want) && !strings.HasSuffix(lines[0], "in the configuration:") {
				t.Fatalf("got:\n%v\nwant:\n%s", err, strings.Join(tc.want, "\n"))
			}
			if len(tc.want) > 1 && !strings.Contains(tc.want[0], "problems") {
				lines = lines[1:]
			}
			if len(lines) != len(tc.want) {
				t.Fatalf("got:\n%v\nwant:\n%s", err, strings.Join(tc.want, "\n"))
			}
			for i, want := range tc.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("line %d is %q, want %q in it", i+1, lines[i], want)
				}
			}
		})
	}
}

func TestProblemsNeverRepeatSecrets(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{
		strings.Replace(minimal, "{env: KEY}", "hunter2", 1),
		strings.Replace(minimal, "{env: KEY}", "[hunter2]", 1),
		strings.Replace(minimal, "{env: KEY}", "{hunter2: x}", 1),
		strings.Replace(minimal, "{env: KEY}", "{value: hunter2}", 1),
		strings.Replace(minimal, "{env: KEY}", "{file: [hunter2]}", 1),
		strings.Replace(minimal, "{env: KEY}", "{command: hunter2}", 1),
		strings.Replace(minimal, "{env: KEY}", "{env: 'hunter2=='}", 1),
		strings.Replace(minimal, "{env: KEY}", "&a hunter2", 1),
		strings.Replace(minimal, "{env: KEY}", "hunter2: x}}", 1),
		strings.Replace(minimal, "file:///repo", "s3://id:hunter2@bucket/x", 1),
		strings.Replace(minimal, "file:///repo", "s3://id:hunter2@%zz/x", 1),
	} {
		_, err := parse(doc)
		if err == nil {
			t.Errorf("accepted:\n%s", doc)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the secret is in the message: %v", err)
		}
	}
}

func TestFindAndLoad(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if _, err := os.Stat("/etc/salvor/salvor.yaml"); err == nil {
		t.Fatal("this machine has /etc/salvor/salvor.yaml, so nothing can be said about its absence")
	}
	var missing *NotFoundError
	if _, err := Find("", nil); !errors.As(err, &missing) || !strings.Contains(err.Error(), "salvor.yaml, /etc/salvor/salvor.yaml") {
		t.Errorf("with no file at all: %v", err)
	} else if !strings.Contains(missing.Hint(), "salvor init") {
		t.Errorf("the hint is %q", missing.Hint())
	}
	path, err := Find("new.yaml", nil)
	if !errors.As(err, &missing) || path != "new.yaml" || !strings.Contains(err.Error(), "named by --config") {
		t.Errorf("a named file that does not exist: %q, %v", path, err)
	}
	if _, err := Load("new.yaml", nil); !errors.As(err, &missing) {
		t.Errorf("Load of a missing file: %v", err)
	}

	write(t, "salvor.yaml", strings.Replace(full, "data_dir: /var/lib/postgresql/15/main", "data_dir: data", 1))
	write(t, "other.yaml", minimal)
	for _, tc := range []struct {
		flag string
		env  Env
		want string
	}{
		{"", nil, "salvor.yaml"},
		{"", envOf("SALVOR_CONFIG=other.yaml"), "other.yaml"},
		{"salvor.yaml", envOf("SALVOR_CONFIG=other.yaml"), "salvor.yaml"},
	} {
		if got, err := Find(tc.flag, tc.env); err != nil || got != tc.want {
			t.Errorf("Find(%q) = %q, %v; want %q", tc.flag, got, err, tc.want)
		}
	}
	if _, err := Find("", envOf("SALVOR_CONFIG=gone.yaml")); err == nil || !strings.Contains(err.Error(), "named by $SALVOR_CONFIG") {
		t.Errorf("a variable that names no file: %v", err)
	}

	c, err := Load("salvor.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		c.File():                     real + "/salvor.yaml",
		c.Postgres.DataDir:           real + "/data",
		c.Repositories[0].Key.File:   real + "/repo.key",
		c.Postgres.Password.String(): "{file: /etc/salvor/pg.pass}",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	write(t, "big.yaml", strings.Repeat("# big\n", fileSizeMax/6+1))
	if _, err := Load("big.yaml", nil); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("a file of more than a megabyte: %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestViewsAreConfigurations loads what the views print and expects the same
// configuration.
func TestViewsAreConfigurations(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{minimal, full} {
		c, err := parse(doc, "SALVOR_BACKUP_CHECKPOINT=spread")
		if err != nil {
			t.Fatal(err)
		}
		for _, view := range []func() (View, error){c.View, c.Effective} {
			v, err := view()
			if err != nil {
				t.Fatal(err)
			}
			text, err := v.YAML()
			if err != nil {
				t.Fatal(err)
			}
			for _, printed := range []string{string(text), string(v.Config)} {
				again, err := parse(printed)
				if err != nil {
					t.Fatalf("%v in\n%s", err, printed)
				}
				if diff := cmp.Diff(c, again, sameConfig()); diff != "" {
					t.Errorf("(-first +again):\n%s\n%s", diff, printed)
				}
			}
		}
	}
}

func TestEffectiveTellsOrigins(t *testing.T) {
	t.Parallel()
	c, err := parse(minimal, "SALVOR_BACKUP_WORKERS=8", "SALVOR_POSTGRES_PASSWORD=hunter2")
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.Effective()
	if err != nil {
		t.Fatal(err)
	}
	text, err := v.YAML()
	if err != nil {
		t.Fatal(err)
	}
	want := `cluster: shop
node:
  name: db1 # default
postgres:
  data_dir: /pg/data
  host: /var/run/postgresql # default
  port: 5432 # default
  user: postgres # default
  password: {env: SALVOR_POSTGRES_PASSWORD} # $SALVOR_POSTGRES_PASSWORD
  database: postgres # default
repositories:
- name: local
  url: file:///repo
  key: {env: KEY}
  encryption: aes-256-gcm # default
  upload_limit: 0 # default
  download_limit: 0 # default
  operations: 0 # default
  retry_for: 1m # default
backup:
  compression: zstd # default
  workers: 8 # $SALVOR_BACKUP_WORKERS
  rate_limit: 0 # default
  checkpoint: fast # default
  archive_timeout: 1m # default
wal:
  method: push # default
  compression: s2 # default
verify:
  level: restore # default
  scratch_dir: /var/tmp # default
  dump: all # default
  check_timeout: 5m # default
retention:
  window: 7d # default
  hourly: 0 # default
  daily: 7 # default
  weekly: 4 # default
  monthly: 12 # default
  yearly: 0 # default
  minimum: 2 # default
  time_zone: UTC # default
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, want := v.Origins[0], (Origin{"cluster", "salvor.yaml:1"}); got != want {
		t.Errorf("the first origin is %v, want %v", got, want)
	}
}

func TestRenderRoundTrip(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(
		rapid.StringMatching(`[ -~]{1,20}`),
		rapid.SampledFrom([]string{"null", "~", "yes", "1e3", "a: b", "a #b", "- a", "{x}", "é", "'", `"`, "\\", "<b>", "@x", "%", "a:", "2026-01-01", ".inf", "..."}),
	)
	name := rapid.StringMatching(namePattern[1 : len(namePattern)-1]).Filter(func(s string) bool { return len(s) <= nameMax })
	secret := rapid.Custom(func(t *rapid.T) Secret {
		return rapid.OneOf(
			rapid.Map(text, func(s string) Secret { return Secret{File: absolute(s, "/etc/salvor")} }),
			rapid.Map(text.Filter(func(s string) bool { return !strings.Contains(s, "=") }), func(s string) Secret { return Secret{Env: s} }),
			rapid.Map(rapid.SliceOfN(text, 1, 4), func(s []string) Secret { return Secret{Command: s} }),
		).Draw(t, "secret")
	})
	rapid.Check(t, func(t *rapid.T) {
		m := Minimal{
			Cluster: name.Draw(t, "cluster"), Node: name.Draw(t, "node"), Zone: name.Draw(t, "zone"),
			Postgres: Postgres{
				DataDir: absolute(text.Draw(t, "data_dir"), "/etc/salvor"), Host: text.Draw(t, "host"),
				Port: rapid.IntRange(1, 65535).Draw(t, "port"), User: text.Draw(t, "user"),
				Password: secret.Draw(t, "password"), Database: text.Draw(t, "database"),
			},
			Repositories: []Repository{
				{Name: "first", URL: "file:///a%20b", Key: secret.Draw(t, "key"), Encryption: AES256GCM, RetryFor: Duration(time.Minute)},
				{Name: "second", URL: "s3://bucket/prefix?region=eu-1&path_style=true", Encryption: EncryptionNone, RetryFor: Duration(time.Minute),
					Credentials: Credentials{AccessKey: secret.Draw(t, "access_key"), SecretKey: secret.Draw(t, "secret_key")}},
			},
			Proof: Proof{Key: secret.Draw(t, "proof.key")},
		}
		doc := Render(m)
		c, err := parse(string(doc))
		if err != nil {
			t.Fatalf("%v in\n%s", err, doc)
		}
		got := Minimal{c.Cluster, c.Node.Name, c.Node.Zone, c.Postgres, c.Repositories, c.Proof}
		if diff := cmp.Diff(m, got, sameConfig()); diff != "" {
			t.Fatalf("(-written +read):\n%s\n%s", diff, doc)
		}
	})
}

func TestNodeName(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"db1": "db1", "DB1.example.com": "db1", "": "localhost", "ü": "localhost", "-x": "x", "a b": "a-b",
		strings.Repeat("x", 80): strings.Repeat("x", 63),
	} {
		if got := nodeName(host); got != want || checkName(got) != nil {
			t.Errorf("nodeName(%q) = %q, want %q", host, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"backup", "backups", "restore", "wal", "c"}
	for word, want := range map[string]string{
		"bakcup": "backup", "BACKUPS": "backups", "restor": "restore", "wall": "wal", "zzzzz": "", "x": "", "": "",
		strings.Repeat("restore", 20): "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

// FuzzParse gives any bytes to the parser: it must never panic, and what it
// accepts it must accept again from its own view.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", minimal, full, "a: [", "a: &x [*x]", "? {a: b}\n: c", "cluster: !!map x", "- a", "\x00", "repositories: [[], {}, ~]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := parse(string(doc))
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || len(e.Problems) == 0 || err.Error() == "" {
				t.Fatalf("not an *Error with problems: %#v", err)
			}
			return
		}
		v, err := c.Effective()
		if err != nil {
			t.Fatal(err)
		}
		text, err := v.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(string(text))
		if err != nil {
			t.Fatalf("%v in the view\n%s", err, text)
		}
		if diff := cmp.Diff(c, again, sameConfig()); diff != "" {
			t.Fatalf("(-first +again):\n%s", diff)
		}
	})
}

// A check may have many lines, and needs its statement.
func TestChecks(t *testing.T) {
	t.Parallel()
	c, err := Parse(Source{Name: "salvor.yaml", Dir: "/etc/salvor", Data: []byte(minimal + `
verify:
  scratch_dir: scratch
  checks:
    - sql: |
        SELECT count(*) > 0
        FROM orders
      database: shop
      name: there are orders
    - sql: SELECT true
`)})
	if err != nil {
		t.Fatal(err)
	}
	want := []Check{{SQL: "SELECT count(*) > 0\nFROM orders\n", Database: "shop", Name: "there are orders"}, {SQL: "SELECT true"}}
	if diff := cmp.Diff(want, c.Verify.Checks); diff != "" || c.Verify.ScratchDir != "/etc/salvor/scratch" {
		t.Errorf("(-want +got):\n%s and scratch_dir %s", diff, c.Verify.ScratchDir)
	}
	for _, bad := range []string{"[{name: x}]", `[{sql: ""}]`, `[{sql: "SELECT\0true"}]`} {
		if _, err := Parse(Source{Name: "salvor.yaml", Data: []byte(minimal + "\nverify: {checks: " + bad + "}\n")}); err == nil {
			t.Errorf("checks: %s is taken", bad)
		}
	}
}
