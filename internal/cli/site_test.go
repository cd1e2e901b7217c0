package cli

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// site is a server with a directory beside it, for a configuration and
// repositories, that the server's user can reach, and with the built program, which
// the server can run.
type site struct {
	*pgtest.Cluster
	dir     string
	config  string // its path; init writes it
	repo    string // a directory for a repository
	program string
}

// newSite makes one. Archiving is on; what archive_command is set to fails until
// archive is called.
func newSite(t *testing.T, settings map[string]string) *site {
	t.Helper()
	if testing.Short() {
		t.Skip("needs PostgreSQL: not with -short")
	}
	set := map[string]string{"archive_mode": "on", "archive_command": "false", "archive_timeout": "60s", "fsync": "on"}
	maps.Copy(set, settings)
	s := &site{Cluster: pgtest.New(t, pgtest.Options{Settings: set, WALSegmentMB: 1})}
	s.dir = s.TempDir(t)
	s.config, s.repo = filepath.Join(s.dir, "salvor.yaml"), filepath.Join(s.dir, "repo")
	s.program = filepath.Join(s.dir, "salvor")
	if err := copyFile(binary(t, "salvor"), s.program); err != nil {
		t.Fatal(err)
	}
	return s
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), os.Chmod(to, 0o755)) // whatever the umask
}

// url is the URL of the repository.
func (s *site) url() string { return "file://" + s.repo }

// here runs a command line in this process, with the site's configuration.
func (s *site) here(args ...string) result {
	return inProcess(commands, nil, append([]string{"-c", s.config}, args...)...)
}

// built runs the built program, with the site's configuration.
func (s *site) built(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), s.program, append([]string{"-c", s.config}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, &stdout, &stderr
	exit, ok := ended(t, cmd.Run()).(int)
	if !ok {
		t.Fatalf("%v died by a signal: %s", args, stderr.String())
	}
	return result{exit, stdout.String(), stderr.String()}
}

// init makes configuration, repository and place, and lets the server archive.
func (s *site) init(t *testing.T, args ...string) {
	t.Helper()
	r := s.here(append([]string{"init", s.DSN(), "--repo", "local=" + s.url()}, args...)...)
	if r.exit != 0 {
		t.Fatalf("init: %+v", r)
	}
	s.archive()
}

// archive sets the archive_command that the built program's init prints.
func (s *site) archive() { s.Set("archive_command", s.program+" -c "+s.config+" wal push %p") }

// must runs a command in this process that succeeds, and gives its document.
func (s *site) must(t *testing.T, args ...string) map[string]any {
	t.Helper()
	r := s.here(append(args, "-o", "json")...)
	if r.exit != 0 {
		t.Fatalf("%v: %+v", args, r)
	}
	return decoded[map[string]any](t, r.stdout)
}

// decoded reads the document that stands alone in a command's output.
func decoded[T any](t *testing.T, stdout string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || strings.Count(stdout, "\n") != 1 {
		t.Fatalf("%v: not one document on one line:\n%s", err, stdout)
	}
	return v
}

// failedWith checks how a command failed that was asked for JSON, and gives the
// message and the hint.
func (r result) failedWith(t *testing.T, exit int, code string) (message, hint string) {
	t.Helper()
	var doc struct {
		Error struct{ Code, Message, Hint string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &doc); err != nil || r.exit != exit || doc.Error.Code != code || doc.Error.Message == "" {
		t.Errorf("%v: exit %d, code %q, want %d, %q\n%s%s", err, r.exit, doc.Error.Code, exit, code, r.stdout, r.stderr)
	}
	return doc.Error.Message, doc.Error.Hint
}
