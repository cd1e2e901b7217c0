package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/proof"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/keys"
	repoopen "github.com/salvor-dr/salvor/internal/repo/open"
	"github.com/salvor-dr/salvor/internal/store"
)

// initFlags are the options of salvor init.
type initFlags struct {
	repos   []string
	cluster string
	role    string
	plain   bool
	plan    bool
}

func initCommand(s *session) *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:     "init [DSN]",
		Short:   "Make the configuration, the repositories and their keys",
		GroupID: groupSetup,
		Long: `Look at the running server, write a small salvor.yaml if there is none, create
the repositories it names and their keys, and make a place for the cluster in
them. It prints the SQL that sets up archiving, and gives a role what it needs. It
is safe to run again: what is there stays, what is missing is made.

DSN is a connection URL or string; without it, libpq's variables and defaults
count, or what the configuration says.`,
		Args: positional("[DSN]"),
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.repos, "repo", nil, "`URL` of a repository, as file:///var/lib/salvor/repo or s3://bucket/prefix?region=eu-west-1, or NAME=URL; can be repeated")
	fl.StringVar(&f.cluster, "cluster", "", "`name` of the cluster (else main)")
	fl.StringVar(&f.role, "role", "", "`name` of the role that Salvor connects as from then on, which need not be a superuser nor exist (else who connects now)")
	fl.BoolVar(&f.plain, "no-encryption", false, "store everything in the clear")
	planFlag(cmd, &f.plan)
	cmd.RunE = s.run(func(ctx context.Context, args []string) error {
		dsn := ""
		if len(args) > 0 {
			dsn = args[0]
		}
		return s.init(ctx, dsn, f)
	})
	return cmd
}

// initView is what init did, in documents.
type initView struct {
	ConfigFile      string              `json:"config_file"`
	ConfigWritten   bool                `json:"config_written"`
	Cluster         string              `json:"cluster"`
	SystemID        pg.SystemID         `json:"system_id"`
	Incarnation     catalog.Incarnation `json:"incarnation"`
	DataDir         string              `json:"data_dir"`
	Repositories    []initRepository    `json:"repositories"`
	RecoveryKey     string              `json:"recovery_key,omitempty"`
	ProofPublicKey  string              `json:"proof_public_key_file,omitempty"`
	ArchiveCommand  string              `json:"archive_command"`
	ArchiveMode     string              `json:"archive_mode"`
	RestartRequired bool                `json:"restart_required"`
	SQL             []string            `json:"sql"`

	database string // where the SQL must be run, if that matters
	role     string // the configuration's, if it is not who connects now
}

type initRepository struct {
	Name      string `json:"name"`
	URL       string `json:"url"`
	Encrypted bool   `json:"encrypted"`
	Created   bool   `json:"created"`
}

// initPlan is what init would do, in documents.
type initPlan struct {
	ConfigFile   string              `json:"config_file"`
	Cluster      string              `json:"cluster"`
	SystemID     pg.SystemID         `json:"system_id"`
	DataDir      string              `json:"data_dir"`
	WouldWrite   []string            `json:"would_write"`
	Repositories []plannedRepository `json:"repositories"`
}

type plannedRepository struct {
	Name        string `json:"name"`
	URL         string `json:"url"`
	Encrypted   bool   `json:"encrypted"`
	WouldCreate bool   `json:"would_create"`
}

func (s *session) init(ctx context.Context, dsn string, f initFlags) error {
	c, fresh, err := s.initConfig(ctx, dsn, f)
	if err != nil {
		return err
	}
	var db *conn.Conn
	if c.dsn != nil {
		db, err = conn.Open(ctx, *c.dsn)
	} else {
		db, err = s.connect(ctx, c.Config)
	}
	if err != nil {
		return noServer(err)
	}
	defer db.Close()
	srv, err := askRole(ctx, db)
	if err != nil {
		return err
	}
	control, err := datadir.ReadControl(c.Postgres.DataDir)
	if err != nil {
		return withHint(err, "run init on the server's host, as root or as its user")
	}
	if control.SystemID != srv.SystemID {
		return &failed{exitNotNow, "wrong_data_dir", "set postgres.data_dir to " + srv.DataDirectory,
			fmt.Errorf("%s belongs to cluster %s, and the server is cluster %s", c.Postgres.DataDir, control.SystemID, srv.SystemID)}
	}
	if f.plan {
		return s.planInit(ctx, c, srv)
	}
	v := initView{ConfigFile: c.path, ConfigWritten: fresh, Cluster: c.Cluster, SystemID: srv.SystemID, DataDir: c.Postgres.DataDir, SQL: []string{}}
	for _, n := range c.files {
		if n.path == publicKeyFile(c.Proof.Key.File) {
			v.ProofPublicKey = n.path
		}
	}
	if err := c.write(); err != nil {
		return err
	}
	if err := s.initRepositories(ctx, c, &v); err != nil {
		return err
	}
	if err := s.initPlace(ctx, c, srv, control, &v); err != nil {
		return err
	}
	if err := v.granting(ctx, db, srv, c.Postgres); err != nil {
		return err
	}
	if err := v.archiving(srv); err != nil {
		return err
	}
	return s.out.document(v, v.text())
}

// initial is a configuration, with what is not on the disk yet.
type initial struct {
	*config.Config
	path  string
	files []newFile    // to write, the configuration last
	dsn   *conn.Config // of a configuration that is new: its password is in no file yet
}

type newFile struct {
	path string
	data []byte
	mode os.FileMode
}

// initConfig gives the configuration that is there, or makes one.
func (s *session) initConfig(ctx context.Context, dsn string, f initFlags) (*initial, bool, error) {
	path, err := config.Find(s.configPath, s.env)
	var missing *config.NotFoundError
	if errors.As(err, &missing) {
		if path == "" {
			path = "salvor.yaml"
		}
		c, err := s.newConfig(ctx, path, dsn, f)
		return c, true, err
	}
	if err != nil {
		return nil, false, err
	}
	if dsn != "" || len(f.repos) > 0 || f.cluster != "" || f.role != "" || f.plain {
		return nil, false, usageError("change "+path+" and run salvor init again, or name another file with -c",
			"%s exists: DSN, --repo, --cluster, --role and --no-encryption are for making a new configuration", path)
	}
	c, err := config.Load(path, s.env)
	if err != nil {
		return nil, false, err
	}
	made := &initial{Config: c, path: c.File()}
	return made, false, made.newSigner(c.Proof.Key.File)
}

// newConfig makes a configuration from what the server says.
func (s *session) newConfig(ctx context.Context, path, dsn string, f initFlags) (*initial, error) {
	if len(f.repos) == 0 {
		return nil, usageError("salvor init --repo file:///var/lib/salvor/repo", "init needs --repo: where backups go")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	at, err := conn.ParseDSN(dsn)
	if err != nil {
		return nil, usageError("", "%w", err)
	}
	c := &initial{path: path, dsn: &at}
	m := config.Minimal{Cluster: cmp.Or(f.cluster, "main")}
	if m.Postgres, err = c.newPostgres(ctx, f.role); err != nil {
		return nil, err
	}
	if m.Repositories, err = c.newRepositories(f); err != nil {
		return nil, err
	}
	m.Proof.Key = config.Secret{File: "salvor.proof.key"}
	if err := c.newSigner(filepath.Join(filepath.Dir(path), m.Proof.Key.File)); err != nil {
		return nil, err
	}
	data := config.Render(m)
	c.files = append(c.files, newFile{path, data, 0o640})
	c.Config, err = config.Parse(config.Source{Name: path, Dir: filepath.Dir(path), Data: data, Env: s.env, Hostname: "localhost"})
	if err != nil {
		return nil, fmt.Errorf("making the configuration: %w", err)
	}
	return c, nil
}

// newPostgres asks the server where its data is. The password is that of whoever
// connects now, so it is not for another role.
func (c *initial) newPostgres(ctx context.Context, role string) (config.Postgres, error) {
	db, err := conn.Open(ctx, *c.dsn)
	if err != nil {
		return config.Postgres{}, noServer(err)
	}
	defer db.Close()
	srv, err := askRole(ctx, db)
	if err != nil {
		return config.Postgres{}, err
	}
	at := db.Config()
	p := config.Postgres{DataDir: srv.DataDirectory, Host: at.Host, Port: at.Port, User: cmp.Or(role, at.User), Database: at.Database}
	if p.User != at.User {
		return p, nil
	}
	password, err := passwordIn(*c.dsn)
	if err == nil && password != "" {
		const name = "salvor.pgpass"
		p.Password = config.Secret{File: name}
		c.files = append(c.files, newFile{filepath.Join(filepath.Dir(c.path), name), []byte(password + "\n"), 0o600})
	}
	return p, err
}

// askRole asks the server about itself. A role that may not see that is told which SQL
// lets it.
func askRole(ctx context.Context, db *conn.Conn) (conn.Server, error) {
	srv, err := db.Server(ctx)
	if conn.PermissionDenied(err) {
		at := db.Config()
		err = withHint(err, fmt.Sprintf("as superuser, in database %s, run:\n%s", cmp.Or(at.Database, at.User), strings.TrimSpace(conn.ShowSQLGrants(at.User, db.Version()))))
	}
	return srv, err
}

// noServer adds to the error of a server that cannot be reached how to name another.
func noServer(err error) error {
	if !conn.Unavailable(err) {
		return err
	}
	return withHint(err, "start the server, or give its address: salvor init 'host=/var/run/postgresql port=5432 user=postgres'")
}

// newRepositories reads --repo, and draws a key for all of them.
func (c *initial) newRepositories(f initFlags) ([]config.Repository, error) {
	var out []config.Repository
	for i, text := range f.repos {
		name, u, ok := strings.Cut(text, "=")
		if !ok || strings.Contains(name, "/") {
			name, u = fmt.Sprintf("repo%d", i+1), text
		}
		if _, err := url.Parse(u); err != nil {
			return nil, usageError("", "--repo %q: %w", text, err)
		}
		r := config.Repository{Name: name, URL: u, Encryption: config.EncryptionNone}
		if !f.plain {
			r.Encryption = config.AES256GCM
			r.Key = config.Secret{File: "salvor.key"}
		}
		out = append(out, r)
	}
	if f.plain {
		return out, nil
	}
	path := filepath.Join(filepath.Dir(c.path), "salvor.key")
	if _, err := os.Stat(path); err == nil {
		return out, nil // of an earlier init
	}
	_, identity, err := keys.NewIdentity()
	if err != nil {
		return nil, err
	}
	c.files = append(c.files, newFile{path, []byte("# opens the repositories of " + filepath.Base(c.path) + "; whoever has it can read every backup\n" + identity + "\n"), 0o600})
	return out, nil
}

// newSigner draws a key that signs proofs, and writes the public one beside it, unless
// there is one.
func (c *initial) newSigner(path string) error {
	if path == "" {
		return nil
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err // of an earlier init, or nobody can tell
	}
	signer, err := proof.NewSigner()
	if err != nil {
		return err
	}
	private, err := signer.PEM()
	if err != nil {
		return err
	}
	c.files = append(c.files, newFile{path, private, 0o600}, newFile{publicKeyFile(path), signer.Public().PEM(), 0o644})
	return nil
}

// publicKeyFile is where init puts the public key of a private one.
func publicKeyFile(private string) string { return strings.TrimSuffix(private, ".key") + ".pub" }

// passwordIn gives the password that stands in a DSN. One that the environment or
// the password file would give without it is found there later too.
func passwordIn(at conn.Config) (string, error) {
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace
	without, err := conn.ParseDSN(fmt.Sprintf("host='%s' port=%d user='%s' dbname='%s'", quote(at.Host), at.Port, quote(at.User), quote(at.Database)))
	if err != nil || without.Password == at.Password {
		return "", err
	}
	return at.Password, nil
}

// write makes the new files, for the server's user, who runs archive_command.
func (c *initial) write() error {
	if len(c.files) == 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(c.path), 0o755); err != nil {
		return err
	}
	for _, f := range c.files {
		if err := writeNew(f, c.Postgres.DataDir); err != nil {
			return fmt.Errorf("writing %s: %w", f.path, err)
		}
	}
	return nil
}

// writeNew makes a file. One of an init that was cut off may be there.
func writeNew(f newFile, like string) error {
	out, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode)
	if errors.Is(err, fs.ErrExist) {
		if there, readErr := os.ReadFile(f.path); readErr == nil && string(there) == string(f.data) {
			return ownLike(f.path, like)
		}
	}
	if err != nil {
		return err
	}
	_, err = out.Write(f.data)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return ownLike(f.path, like)
}

// ownLike gives a file or directory the owner of another, if we are root.
func ownLike(path, like string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return os.Chown(path, int(st.Uid), int(st.Gid))
	}
	return nil
}

// initRepositories creates the repositories that are missing. The recovery key is a
// second way in, for the day the key file is lost: it is shown once and kept nowhere.
func (s *session) initRepositories(ctx context.Context, c *initial, v *initView) error {
	var recovery *keys.Secret
	var recoveryText string
	for _, rc := range c.Repositories {
		secret, err := secretOf(ctx, rc)
		if err != nil {
			return err
		}
		var secrets []keys.Secret
		if secret != nil {
			if recovery == nil {
				r, text, err := keys.NewIdentity()
				if err != nil {
					return err
				}
				recovery, recoveryText = &r, text
			}
			secrets = []keys.Secret{*secret, *recovery}
		}
		created, err := s.initRepository(ctx, rc, c.Postgres.DataDir, secrets)
		if err != nil {
			return fmt.Errorf("repository %s: %w", rc.Name, err)
		}
		if created && secret != nil {
			v.RecoveryKey = recoveryText
		}
		v.Repositories = append(v.Repositories, initRepository{rc.Name, rc.URL, secret != nil, created})
	}
	return nil
}

func (s *session) initRepository(ctx context.Context, rc config.Repository, like string, secrets []keys.Secret) (created bool, err error) {
	if err := ownDirectory(rc.URL, like); err != nil {
		return false, err
	}
	st, err := s.openStore(ctx, rc, true)
	if err != nil {
		return false, err
	}
	defer st.Close()
	if err := probeStore(ctx, st); err != nil {
		return false, err
	}
	_, err = repoopen.Init(ctx, st, secrets, s.clock.Now())
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, store.ErrExists) {
		return false, err
	}
	return false, opens(ctx, rc, st) // or the key is another's
}

// probeStore tries a place that is new to us, if it is of a kind whose promises differ
// from one to the next. What holds a repository already was tried then.
func probeStore(ctx context.Context, st store.Store) error {
	p, ok := store.Ability[store.Prober](st)
	if !ok {
		return nil
	}
	if _, _, err := repoopen.Read(ctx, st); !errors.Is(err, repo.ErrNoRepository) {
		return err
	}
	return p.Probe(ctx)
}

// ownDirectory makes the directory of a file repository for the server's user, who
// archives into it, when root makes it.
func ownDirectory(rawURL, like string) error {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "file" || os.Geteuid() != 0 {
		return nil // whoever opens the store explains what is wrong
	}
	if _, err := os.Stat(u.Path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.MkdirAll(u.Path, 0o750); err != nil {
		return err
	}
	return ownLike(u.Path, like)
}

// initPlace makes the cluster's place in every repository, and marks the data
// directory with its incarnation.
func (s *session) initPlace(ctx context.Context, c *initial, srv conn.Server, control datadir.Control, v *initView) error {
	marker, err := catalog.ReadMarker(c.Postgres.DataDir)
	unmarked := errors.Is(err, catalog.ErrNoMarker)
	if unmarked && srv.InRecovery {
		return &failed{exitNotNow, "standby_without_place", "copy the file " + catalog.MarkerName + " from the primary's data directory into this one, with the same owner",
			errors.New("this standby was made before its primary's cluster had a place: it does not know where that is")}
	}
	if unmarked {
		marker = catalog.Marker{Incarnation: catalog.NewIncarnation()}
	} else if err != nil {
		return err
	}
	v.Incarnation = marker.Incarnation
	origin := catalog.Origin{Cluster: c.Cluster, SystemID: srv.SystemID, Incarnation: marker.Incarnation,
		CreatedAt: s.clock.Now().UTC(), Version: srv.Version, Sizes: control.Sizes}
	all, closeAll, err := s.openAll(ctx, c.Config)
	if err != nil {
		return err
	}
	defer closeAll()
	for _, r := range all {
		if err := catalog.WriteOrigin(ctx, r.objects, origin); err != nil && !errors.Is(err, store.ErrExists) {
			return fmt.Errorf("making the cluster's place in repository %s: %w", r.name, err)
		}
	}
	if !unmarked {
		return nil
	}
	return catalog.WriteMarker(c.Postgres.DataDir, marker)
}

// granting says what a superuser must do for the role of the configuration.
func (v *initView) granting(ctx context.Context, db *conn.Conn, srv conn.Server, p config.Postgres) error {
	role, sql := p.User, ""
	if role == srv.User {
		if !srv.CanBackup {
			sql = conn.ShowSQLGrants(role, srv.Version)
		}
	} else {
		exists, err := db.RoleExists(ctx, role)
		if err != nil {
			return err
		}
		v.role = role
		if sql = conn.ShowSQLRole(role, srv.Version); exists {
			sql = conn.ShowSQLGrants(role, srv.Version)
		}
	}
	if sql != "" {
		v.SQL = append(v.SQL, strings.Split(strings.TrimSpace(sql), "\n")...)
		v.database = p.Database
	}
	return nil
}

// archiving says what is left to do on the server.
func (v *initView) archiving(srv conn.Server) error {
	want, err := archiveCommand(v.ConfigFile)
	if err != nil {
		return err
	}
	v.ArchiveCommand, v.ArchiveMode = want, srv.ArchiveMode
	if srv.WALLevel == "minimal" {
		v.SQL = append(v.SQL, "ALTER SYSTEM SET wal_level = 'replica';")
		v.RestartRequired = true
	}
	if srv.ArchiveMode == "off" {
		v.SQL = append(v.SQL, "ALTER SYSTEM SET archive_mode = 'on';")
		v.RestartRequired = true
	}
	if srv.ArchiveCommand != want {
		v.SQL = append(v.SQL, fmt.Sprintf("ALTER SYSTEM SET archive_command = '%s';", strings.ReplaceAll(want, "'", "''")))
		if !v.RestartRequired {
			v.SQL = append(v.SQL, "SELECT pg_reload_conf();")
		}
	}
	return nil
}

func (v initView) text() tabular {
	return lines(func(w io.Writer) {
		if v.ConfigWritten {
			fmt.Fprintf(w, "Configuration written: %s\n", v.ConfigFile)
		} else {
			fmt.Fprintf(w, "Configuration: %s\n", v.ConfigFile)
		}
		fmt.Fprintf(w, "Cluster %s, system identifier %s, incarnation %s\n", v.Cluster, v.SystemID, v.Incarnation)
		for _, r := range v.Repositories {
			what := "is there"
			if r.Created {
				what = "created"
			}
			if !r.Encrypted {
				what += ", NOT encrypted"
			}
			fmt.Fprintf(w, "Repository %s at %s: %s\n", r.Name, r.URL, what)
		}
		if v.RecoveryKey != "" {
			fmt.Fprintf(w, `
SAVE THIS RECOVERY KEY, outside of this machine. It is shown once and kept nowhere.
It opens the repositories when the key file is lost; losing both loses every backup.

    %s
`, v.RecoveryKey)
		}
		if v.ProofPublicKey != "" {
			fmt.Fprintf(w, "\nWhat restores and verifications show is signed. Keep a copy of the public key\nsomewhere else, to check it with: %s\n", v.ProofPublicKey)
		}
		if len(v.SQL) == 0 {
			fmt.Fprintf(w, "\nWAL archiving is set up. Next: salvor backup\n")
			return
		}
		if v.database == "" {
			fmt.Fprintf(w, "\nLet PostgreSQL archive its WAL. As superuser, run:\n\n")
		} else {
			fmt.Fprintf(w, "\nGive the role its rights, and let PostgreSQL archive its WAL. As superuser, in database %s, run:\n\n", v.database)
		}
		for _, q := range v.SQL {
			fmt.Fprintf(w, "    %s\n", q)
		}
		if v.RestartRequired {
			fmt.Fprintf(w, "\nand restart the server: archive_mode and wal_level are read at its start only.\n")
		}
		if v.role != "" {
			fmt.Fprintf(w, "\nThe role needs a way in, too: a line in pg_hba.conf, or a password. Then see: salvor doctor\n")
		}
		fmt.Fprintf(w, "\nThen: salvor backup\n")
	})
}

// planInit says what init would do.
func (s *session) planInit(ctx context.Context, c *initial, srv conn.Server) error {
	v := initPlan{ConfigFile: c.path, Cluster: c.Cluster, SystemID: srv.SystemID, DataDir: c.Postgres.DataDir,
		WouldWrite: []string{}, Repositories: []plannedRepository{}}
	d := details{{"cluster", v.Cluster}, {"system id", v.SystemID.String()}, {"data directory", v.DataDir}}
	for _, f := range c.files {
		v.WouldWrite = append(v.WouldWrite, f.path)
		d = append(d, detail{"would write", f.path})
	}
	for _, rc := range c.Repositories {
		missing, err := s.missing(ctx, c, rc)
		if err != nil {
			return fmt.Errorf("repository %s: %w", rc.Name, err)
		}
		v.Repositories = append(v.Repositories, plannedRepository{rc.Name, rc.URL, rc.Encryption != config.EncryptionNone, missing})
		d = append(d, detail{"repository " + rc.Name, rc.URL + map[bool]string{true: " would be created", false: " is there"}[missing]})
	}
	return s.out.document(v, d)
}

// missing says whether init would create a repository, and fails where init would.
func (s *session) missing(ctx context.Context, c *initial, rc config.Repository) (bool, error) {
	st, err := s.openStore(ctx, rc, false)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer st.Close()
	_, _, err = repoopen.Read(ctx, st)
	if errors.Is(err, repo.ErrNoRepository) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for _, f := range c.files {
		if rc.Key.File == f.path {
			return false, &failed{exitRepository, "wrong_key", "put the repository's own key into " + f.path + " first",
				fmt.Errorf("it is there already, and a new key would not open it: %w", repo.ErrWrongKey)}
		}
	}
	return false, opens(ctx, rc, st)
}

// opens fails unless the key of the configuration opens the repository in the store.
func opens(ctx context.Context, rc config.Repository, st store.Store) error {
	secret, err := secretOf(ctx, rc)
	if err != nil {
		return err
	}
	_, err = repoopen.Open(ctx, st, secret)
	return err
}
