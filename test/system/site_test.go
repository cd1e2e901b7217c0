package system

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// Exit codes of the command line's contract.
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = 2
	exitProblem    = 3
	exitNotNow     = 4
	exitNotFound   = 5
	exitAbsent     = 6
	exitRepository = 7
	exitFault      = 126
	exitCtrlC      = 130
)

// patience is how long one command may take before it counts as hung: machines
// that run tests can be slow.
const patience = 3 * time.Minute

// site is a cluster with a repository and the configuration of both.
type site struct {
	t       testing.TB
	cluster *pgtest.Cluster
	dir     string // config, key and repository lie here
	config  string
	repo    string

	archiveCommand string // as init said
}

// siteOptions describe a site. The zero value archives into one encrypted
// repository.
type siteOptions struct {
	pg        pgtest.Options
	repo      string // where the repository is, else below the site's directory
	init      []string
	yaml      string // more of salvor.yaml
	noArchive bool   // leave archive_mode off
}

// skipShort leaves a test of minutes out of the short run.
func skipShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: TestSmoke stands for all")
	}
}

func newSite(t testing.TB, o siteOptions) *site {
	t.Helper()
	if o.pg.Settings == nil {
		o.pg.Settings = map[string]string{}
	}
	if _, is := o.pg.Settings["archive_mode"]; !is && !o.noArchive {
		o.pg.Settings["archive_mode"] = "on"
	}
	s := siteOf(t, pgtest.New(t, o.pg), o)
	if !o.noArchive {
		s.cluster.Set("archive_command", s.archiveCommand)
	}
	return s
}

// siteOf makes the site of a cluster that is there.
func siteOf(t testing.TB, c *pgtest.Cluster, o siteOptions) *site {
	t.Helper()
	s := &site{t: t, cluster: c, dir: c.TempDir(t)}
	s.config, s.repo = filepath.Join(s.dir, "salvor.yaml"), o.repo
	if s.repo == "" {
		s.repo = filepath.Join(s.dir, "repo")
	}
	dsn := fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", c.SocketDir, c.Port())
	var done struct {
		ArchiveCommand string   `json:"archive_command"`
		RecoveryKey    string   `json:"recovery_key"`
		SQL            []string `json:"sql"`
	}
	args := append([]string{"init", dsn, "--repo", "file://" + s.repo, "-o", "json"}, o.init...)
	s.ok(args...).decode(t, &done)
	if o.yaml != "" {
		s.appendConfig(o.yaml)
	}
	if s.archiveCommand = done.ArchiveCommand; s.archiveCommand == "" {
		t.Fatal("init gave no archive_command")
	}
	return s
}

func (s *site) appendConfig(yaml string) {
	s.t.Helper()
	f, err := os.OpenFile(s.config, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(yaml + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// with is the same site, for a subtest.
func (s *site) with(t testing.TB) *site {
	c := *s
	c.t = t
	return &c
}

// result is how a command ended.
type result struct {
	command string
	code    int // negative: the signal that ended it
	stdout  string
	stderr  string
}

func (r result) String() string {
	return fmt.Sprintf("salvor %s: exit %d\n%s%s", r.command, r.code, r.stdout, r.stderr)
}

// decode reads the document on standard output: its first line.
func (r result) decode(t testing.TB, v any) {
	t.Helper()
	first, _, _ := strings.Cut(r.stdout, "\n")
	if err := json.Unmarshal([]byte(first), v); err != nil {
		t.Fatalf("%v\n%s", err, r)
	}
}

// failure is the error document of the contract.
type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

func (r result) failure(t testing.TB) failure {
	t.Helper()
	var doc struct {
		Error failure `json:"error"`
	}
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &doc); err != nil {
		t.Fatalf("%v\n%s", err, r)
	}
	if doc.Error.Code == "" || doc.Error.Message == "" {
		t.Fatalf("no error document:\n%s", r)
	}
	return doc.Error
}

// says fails the test unless code, message and hint together hold every word.
func (r result) says(t testing.TB, words ...string) {
	t.Helper()
	f := r.failure(t)
	for _, w := range words {
		if !strings.Contains(f.Code+"\n"+f.Message+"\n"+f.Hint, w) {
			t.Errorf("the error does not say %q:\n%s", w, r)
		}
	}
}

// command prepares salvor as the server's user, with the site's configuration.
func (s *site) command(args ...string) *exec.Cmd {
	return s.cluster.Command(program, append([]string{"-c", s.config}, args...)...)
}

// run runs salvor to its end.
func (s *site) run(args ...string) result {
	s.t.Helper()
	return s.finish(s.begin(args...))
}

// running is a command under way.
type running struct {
	cmd      *exec.Cmd
	out, err bytes.Buffer
	text     string
	timer    *time.Timer
}

func (s *site) begin(args ...string) *running {
	s.t.Helper()
	r := &running{cmd: s.command(args...), text: strings.Join(args, " ")}
	return s.start(r)
}

func (s *site) start(r *running) *running {
	s.t.Helper()
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.err
	if err := r.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	r.timer = time.AfterFunc(patience, func() { _ = r.cmd.Process.Signal(syscall.SIGQUIT) }) // with all stacks
	return r
}

func (r *running) signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

func (s *site) finish(r *running) result {
	s.t.Helper()
	err := r.cmd.Wait()
	r.timer.Stop()
	res := result{command: r.text, stdout: r.out.String(), stderr: r.err.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		res.code = exit.ExitCode()
		if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
			res.code = -int(st.Signal())
		}
	case err != nil:
		s.t.Fatalf("running salvor %s: %v", r.text, err)
	}
	return res
}

// ok runs salvor and fails the test unless it succeeds.
func (s *site) ok(args ...string) result {
	s.t.Helper()
	return s.ends(exitDone, args...)
}

// ends runs salvor and fails the test unless it ends with the exit code.
func (s *site) ends(code int, args ...string) result {
	s.t.Helper()
	r := s.run(args...)
	if r.code != code {
		s.t.Fatalf("want exit %d of: %s", code, r)
	}
	return r
}

// backup is a backup as the command line shows it.
type backup struct {
	ID          string    `json:"id"`
	Kind        string    `json:"kind"`
	Timeline    int       `json:"timeline"`
	StartLSN    string    `json:"start_lsn"`
	StopLSN     string    `json:"stop_lsn"`
	StartedAt   time.Time `json:"started_at"`
	StoppedAt   time.Time `json:"stopped_at"`
	Size        int64     `json:"size_bytes"`
	Read        int64     `json:"read_bytes"`
	Stored      int64     `json:"stored_bytes"`
	PagesRead   int64     `json:"pages_read"`
	Detector    string    `json:"detector"`
	FromStandby bool      `json:"from_standby"`
	Damaged     []struct {
		Path  string `json:"path"`
		Block int64  `json:"block"`
		Why   string `json:"why"`
	} `json:"damaged_pages"`
}

func (s *site) backup(args ...string) backup {
	s.t.Helper()
	var b backup
	s.ok(append([]string{"backup", "-o", "json"}, args...)...).decode(s.t, &b)
	return b
}

func (s *site) backups() []backup {
	s.t.Helper()
	var list struct {
		Items []backup `json:"items"`
	}
	s.ok("backups", "list", "-o", "json").decode(s.t, &list)
	return list.Items
}

// archiveAll makes everything that was committed until now part of the archive.
func (s *site) archiveAll() {
	s.t.Helper()
	file := pgtest.QueryValue[string](s.cluster, "SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
	s.cluster.Exec("SELECT pg_logical_emit_message(true, 'end', 'of the test')")
	s.cluster.SwitchWAL()
	s.cluster.WaitArchived(file)
}

// objects lists the files of the repository, below a part of its tree.
func (s *site) objects(below string) []string {
	s.t.Helper()
	var all []string
	err := filepath.WalkDir(s.repo, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() && strings.Contains(path, below) && !strings.HasPrefix(d.Name(), ".") { // marks are no objects
			all = append(all, path)
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}
