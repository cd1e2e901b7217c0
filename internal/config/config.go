package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	_ "time/tzdata" // a host without a database of time zones archives WAL all the same

	"github.com/salvor-dr/salvor/internal/retention"
)

// fileSizeMax bounds what is read as a configuration. A hundred repositories
// take about 20 kB; more than this is some other file.
const fileSizeMax = 1 << 20

// Config is everything salvor.yaml says, with defaults filled in.
type Config struct {
	// Name of the PostgreSQL cluster. Its backups and WAL are kept under this name in every repository, so it stays the same on every host and across failovers.
	Cluster string `json:"cluster" kind:"name" required:"true"`

	// This host.
	Node Node `json:"node"`

	// The PostgreSQL instance on this host.
	Postgres Postgres `json:"postgres" required:"true"`

	// Where backups and WAL are kept: one or more. WAL is written to each of them, a backup to the first or to the one that --repo names.
	Repositories []Repository `json:"repositories" required:"true"`

	// How backups are taken. Options of the command line win over these.
	Backup Backup `json:"backup"`

	// How WAL reaches the repositories.
	WAL WAL `json:"wal"`

	// How backups are proved. Options of the command line win over these.
	Verify Verify `json:"verify"`

	// How the records of restores and verifications are signed.
	Proof Proof `json:"proof"`

	// What recovery must achieve. salvor status compares it with what was measured.
	Objectives Objectives `json:"objectives"`

	// Which backups and which WAL salvor expire keeps: what any one of these rules keeps stays. A key that is not set has its default.
	Retention Retention `json:"retention"`

	// Who is told what backup, verify, expire and restore did: a program, a web address, or a dead man's switch. None can make a command fail.
	Notify []Notify `json:"notify,omitzero"`

	file    string
	origins map[string]string
}

// Node names this host.
type Node struct {
	// Name of this host among the members of the cluster. The default is the host's own name up to the first dot.
	Name string `json:"name" kind:"name" default:"@hostname"`

	// Failure domain this host stands in, such as an availability zone. Not set: not known.
	Zone string `json:"zone,omitzero" kind:"name"`
}

// Postgres says where the instance is and how to connect to it.
type Postgres struct {
	// Data directory (PGDATA) of the instance.
	DataDir string `json:"data_dir" kind:"path" required:"true"`

	// Directory with the programs of the server (postgres, pg_ctl). Not set: found by the version in the data directory.
	BinDir string `json:"bin_dir,omitzero" kind:"path"`

	// Directory of the server's Unix socket, or an address.
	Host string `json:"host" default:"/var/run/postgresql"`

	// Port of the server; it is part of the socket's name too.
	Port int `json:"port" default:"5432" min:"1" max:"65535"`

	// Role to connect as. It must be allowed to run pg_backup_start and pg_backup_stop.
	User string `json:"user" default:"postgres"`

	// Password of that role. Not set: none is sent, which is right for peer authentication.
	Password Secret `json:"password,omitzero"`

	// Database to connect to. Backups are of the whole cluster, whichever database this is.
	Database string `json:"database" default:"postgres"`
}

// Encryption of a repository's contents.
const (
	AES256GCM      = "aes-256-gcm"
	EncryptionNone = "none"
)

// Repository is one place where backups and WAL are kept.
type Repository struct {
	// Name of the repository, in messages and for the option --repo.
	Name string `json:"name" kind:"name" required:"true" env:"-"`

	// Address of the store, such as file:///var/lib/salvor/repo or s3://bucket/prefix?region=eu-west-1.
	URL string `json:"url" kind:"url" required:"true"`

	// Passphrase or age identity that opens the repository; which of the two is told by its beginning. It unlocks a key slot and is never the master key. Needed unless encryption is none.
	Key Secret `json:"key,omitzero"`

	// How contents are sealed when the repository is created. With none they are stored in the clear; their integrity is checked all the same.
	Encryption string `json:"encryption" default:"aes-256-gcm" enum:"aes-256-gcm,none"`

	// Access key of an object store. Not set: it is looked for where its provider's tools do; for S3 that is the environment (AWS_ACCESS_KEY_ID), ~/.aws, the service account, and the machine's role.
	Credentials Credentials `json:"credentials,omitzero"`

	// Most bytes written to it in a second, by one command. 0: no limit.
	UploadLimit Size `json:"upload_limit" default:"0"`

	// Most bytes read from it in a second, by one command. 0: no limit.
	DownloadLimit Size `json:"download_limit" default:"0"`

	// Most reads, writes and other operations under way in it at the same time, by one command, for a place that takes few. 0: as many as the workers make.
	Operations int `json:"operations" default:"0" min:"0" max:"1024"`

	// For how long a request is tried again that it cannot answer for the moment, as while the network is down.
	RetryFor Duration `json:"retry_for" default:"1m" min:"1s"`
}

// Credentials are an access key of an object store.
type Credentials struct {
	// Identifier of the access key.
	AccessKey Secret `json:"access_key,omitzero"`

	// Secret of the access key.
	SecretKey Secret `json:"secret_key,omitzero"`
}

// IsZero says that there are none.
func (c Credentials) IsZero() bool { return c.AccessKey.IsZero() && c.SecretKey.IsZero() }

// Backup says how backups are taken.
type Backup struct {
	// Codec for pages: zstd stores the least, s2 costs the least processor time, none stores pages as they are. It can be changed at any time.
	Compression string `json:"compression" default:"zstd" enum:"zstd,s2,none"`

	// Files read, compressed and stored at the same time.
	Workers int `json:"workers" default:"2" min:"1" max:"256"`

	// Most bytes read from the data directory in a second. 0: no limit.
	RateLimit Size `json:"rate_limit" default:"0"`

	// Checkpoint a backup starts with: fast starts at once, spread spares the disks and may take as long as checkpoint_timeout.
	Checkpoint string `json:"checkpoint" default:"fast" enum:"fast,spread"`

	// How long a backup waits at its end for the WAL it needs to arrive in the repository, before it fails.
	ArchiveTimeout Duration `json:"archive_timeout" default:"1m" min:"1s"`
}

// WAL says how WAL reaches the repositories.
type WAL struct {
	// Way in: push is PostgreSQL's archive_command running salvor wal push.
	Method string `json:"method" default:"push" enum:"push"`

	// Codec for WAL segments. It can be changed at any time.
	Compression string `json:"compression" default:"s2" enum:"zstd,s2,none"`
}

// Retention says which backups and which WAL are kept.
type Retention struct {
	// Recovery window: how far back any moment can be recovered. Every backup in it is kept, the newest before it, and all WAL from that one on.
	Window Duration `json:"window" default:"7d"`

	// Of each of so many hours, counted back over those that have a backup, the best one is kept: one that was verified, and then the newest.
	Hourly int `json:"hourly" default:"0" min:"0" max:"100000"`

	// The same for days.
	Daily int `json:"daily" default:"7" min:"0" max:"100000"`

	// The same for weeks, which begin on Monday (ISO 8601).
	Weekly int `json:"weekly" default:"4" min:"0" max:"100000"`

	// The same for months.
	Monthly int `json:"monthly" default:"12" min:"0" max:"100000"`

	// The same for years.
	Yearly int `json:"yearly" default:"0" min:"0" max:"100000"`

	// How many of the newest good backups are kept, however old they are.
	Minimum int `json:"minimum" default:"2" min:"1" max:"100000"`

	// Time zone whose hours, days, weeks, months and years count, by its IANA name, such as Europe/Berlin.
	TimeZone string `json:"time_zone" default:"UTC" kind:"time zone"`
}

// Policy gives the policy. It fails if the time zone is not known.
func (r Retention) Policy() (retention.Policy, error) {
	zone, err := loadZone(r.TimeZone)
	return retention.Policy{Window: time.Duration(r.Window), Hourly: r.Hourly, Daily: r.Daily, Weekly: r.Weekly, Monthly: r.Monthly,
		Yearly: r.Yearly, Minimum: r.Minimum, Zone: zone}, err
}

// loadZone gives the time zone of an IANA name.
func loadZone(name string) (*time.Location, error) {
	if name != "Local" { // of whichever host: two would decide differently
		if zone, err := time.LoadLocation(name); err == nil {
			return zone, nil
		}
	}
	return nil, fmt.Errorf("%q is not a time zone: want an IANA name, as UTC or Europe/Berlin", name)
}

// Notify is one who is told: exactly one of Command, Webhook and Ping is set.
type Notify struct {
	// Program and arguments, which reads what happened as JSON on its standard input. It runs in the directory of the configuration file, and has a minute.
	Command []string `json:"command,omitzero"`

	// Address that what happened is sent to, as JSON, by POST.
	Webhook Address `json:"webhook,omitzero"`

	// Address that is asked for, by GET, each time that a command has succeeded: a dead man's switch there raises the alarm when that stays away.
	Ping Address `json:"ping,omitzero"`

	// When a program or a web address is told. Not set: always. failure is also what was done and found a problem, as damaged pages.
	On []string `json:"on,omitzero" enum:"start,success,failure"`

	// Of which commands. Not set: of all four.
	For []string `json:"for,omitzero" enum:"backup,verify,expire,restore"`
}

// Verify says how backups are proved.
type Verify struct {
	// How far verify goes: objects looks whether everything a backup needs is there, data reads and checks it, restore restores it and starts a server on it.
	Level string `json:"level" default:"restore" enum:"objects,data,restore"`

	// Directory that level restore restores backups into, one at a time, and removes them from. It needs room for the data directory and the WAL after the backup, and the server's user must reach it.
	ScratchDir string `json:"scratch_dir" kind:"path" default:"/var/tmp"`

	// What pg_dump reads of a restored backup, to nothing: all of it, or the schema alone, which is faster.
	Dump string `json:"dump" default:"all" enum:"all,schema"`

	// Questions to ask a restored backup.
	Checks []Check `json:"checks,omitzero"`

	// How long each of them may take.
	CheckTimeout Duration `json:"check_timeout" default:"5m" min:"1s"`
}

// Check is a question to ask a restored backup.
type Check struct {
	// Statement that gives one row with one boolean: true if all is well. Names are looked up in public. It runs as superuser, in a copy that is thrown away.
	SQL string `json:"sql" kind:"sql" required:"true"`

	// Database to ask. Not set: postgres.database.
	Database string `json:"database,omitzero"`

	// What results call it. Not set: the statement.
	Name string `json:"name,omitzero"`
}

// Proof says how the records of restores and verifications are signed.
type Proof struct {
	// Private key that signs them: Ed25519, as PEM with PKCS#8, which salvor init makes, and openssl genpkey -algorithm ed25519. Whoever has its public key can check them anywhere. Not set: they are kept without a signature.
	Key Secret `json:"key,omitzero"`
}

// Objectives are what recovery must achieve.
type Objectives struct {
	// Of the PostgreSQL cluster.
	Database Objective `json:"database"`
}

// Objective is what recovery of one part must achieve.
type Objective struct {
	// Recovery time objective: longest that a restore may take, until the server has reached its target. Not set: none.
	RTO Duration `json:"rto,omitzero" min:"1s"`

	// Recovery point objective: most time whose changes may be lost. Not set: none.
	RPO Duration `json:"rpo,omitzero" min:"1s"`
}

// Env looks an environment variable up, as os.LookupEnv does.
type Env func(name string) (string, bool)

// get gives the variable's value; unset and empty are the same.
func (e Env) get(name string) string {
	if e == nil {
		return ""
	}
	v, _ := e(name)
	return v
}

// searched are the files that are looked for when none is named, in order.
func searched() []string { return []string{"salvor.yaml", "/etc/salvor/salvor.yaml"} }

// Find chooses the configuration file: flagPath if it is not empty, else
// $SALVOR_CONFIG, ./salvor.yaml, /etc/salvor/salvor.yaml. A file that is named
// must exist. If there is none the error is a *NotFoundError, and with a named
// file the returned path is that name all the same.
func Find(flagPath string, env Env) (path string, err error) {
	named, by := flagPath, "--config"
	if named == "" {
		named, by = env.get("SALVOR_CONFIG"), "$SALVOR_CONFIG"
	}
	candidates := searched()
	if named != "" {
		candidates = []string{named}
	} else {
		by = ""
	}
	for _, c := range candidates {
		_, err := os.Stat(c)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return c, fmt.Errorf("looking for the configuration: %w", err)
		}
	}
	return named, &NotFoundError{Looked: candidates, NamedBy: by}
}

// Load reads the file, with overrides from the environment. Mistakes in it are
// an *Error. A missing file is a *NotFoundError.
func Load(path string, env Env) (*Config, error) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{Looked: []string{path}}
	}
	if err != nil {
		return nil, err
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("finding the directory of %s: %w", path, err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "" // the node is then called localhost, and can be named in the file
	}
	c, err := Parse(Source{Name: path, Dir: filepath.Dir(full), Data: data, Env: env, Hostname: host})
	if err != nil {
		return nil, err
	}
	c.file = full
	return c, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, fileSizeMax+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(data) > fileSizeMax {
		return nil, fmt.Errorf("reading the configuration: %s has more than %d bytes, so it is something else", path, fileSizeMax)
	}
	return data, nil
}

// File is the absolute path of the file that was loaded, empty after Parse.
func (c *Config) File() string { return c.file }

// Repository gives the repository of that name.
func (c *Config) Repository(name string) (Repository, error) {
	names := make([]string, len(c.Repositories))
	for i, r := range c.Repositories {
		if r.Name == name {
			return r, nil
		}
		names[i] = r.Name
	}
	return Repository{}, fmt.Errorf("no repository %q in the configuration, only %s", name, strings.Join(names, ", "))
}
