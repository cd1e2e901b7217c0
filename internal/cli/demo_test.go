package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/examples/swifteats"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// demoCommandLine prepares the built program's demo, and gives the directory that all
// it makes is in. As root, the program lies where the demo's user does not reach it.
func demoCommandLine(t *testing.T, args ...string) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs PostgreSQL: not with -short")
	}
	bin := pgtest.FindBin(t, pgtest.DefaultMajor)
	tmp, err := os.MkdirTemp("/tmp", "demo-") // t.TempDir can't be reached by others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	if err := os.Chmod(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), binary(t, "salvor"), append([]string{"demo", "--orders", "300"}, args...)...)
	cmd.Dir = "/"
	// The last two are the user's own, and none of the demo's business.
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "PATH="+os.Getenv("PATH")+":"+bin, "PGPORT=1", "SALVOR_POSTGRES_PORT=1")
	return cmd, tmp
}

// nothingLeft wants dir to be empty, and nobody to work in it or to be told of it.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left in %s: %v, %v", dir, entries, err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(processes) == 0 {
		t.Fatal(processes, err)
	}
	for _, p := range processes {
		cwd, _ := os.Readlink(filepath.Join(p, "cwd")) // one that is gone has none
		line, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		if strings.HasPrefix(cwd, dir) || strings.Contains(string(line), dir) {
			t.Errorf("%s is left, in %s: %q", p, cwd, line)
		}
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	cmd, tmp := demoCommandLine(t, "-o", "json")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if got := ended(t, cmd.Run()); got != 0 {
		t.Fatalf("ended with %v\n%s%s", got, stderr.String(), stdout.String())
	}
	var v struct {
		Version int  `json:"format_version"`
		OK      bool `json:"ok"`
		demoView
		Backup      demoBackup  `json:"backup"`
		Incremental demoBackup  `json:"incremental"`
		Restore     demoRestore `json:"restore"`
		Target      time.Time   `json:"target_time"`
	}
	if err := json.Unmarshal([]byte(stdout.String()), &v); err != nil {
		t.Fatalf("%v: %s", err, stdout.String())
	}
	if v.Version != 1 || !v.OK || v.Lost != 0 || v.RPO != 0 || v.RTO <= 0 || v.RTO < v.Restore.Seconds || v.RTO > v.Seconds {
		t.Errorf("it went not well: %s", stdout.String())
	}
	if v.Acknowledged < demoOrdersAfter || v.Orders < int64(300+v.Acknowledged) || v.Orders > int64(300+v.Acknowledged+demoSessions) {
		t.Errorf("%d orders, of them %d acknowledged; want these and 300 from before", v.Orders, v.Acknowledged)
	}
	if v.Incremental.ID == "" || v.Incremental.Read*2 > v.Backup.Read {
		t.Errorf("the incremental backup %+v reads not much less than the full one %+v", v.Incremental, v.Backup)
	}
	if v.Backup.ID == "" || v.Backup.Size == 0 || v.Restore.Restored == 0 || v.Database == 0 || v.Target.IsZero() {
		t.Errorf("something is missing: %s", stdout.String())
	}
	var steps []string
	for _, s := range v.Steps {
		steps = append(steps, s.Name)
	}
	if diff := cmp.Diff([]string{"database", "init", "backup", "day", "incremental", "load", "accident", "recovery", "proof"}, steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if len(v.Checks) != 4 || slices.ContainsFunc(v.Checks, func(c demoCheck) bool { return !c.OK || c.Detail == "" }) {
		t.Errorf("checks: %+v", v.Checks)
	}
	for _, want := range []string{"$ salvor -c ", "backup --kind full", "DELETE FROM public.orders;", "--at " + stamp(v.Target).String(), "no acknowledged order is lost"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("the story does not tell %q:\n%s", want, stderr.String())
		}
	}
	nothingLeft(t, tmp)
}

func TestDemoStopped(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		when string // the story tells this
		sig  syscall.Signal
		want int
	}{
		{"$ initdb", syscall.SIGTERM, 143},
		{"backup --kind full", syscall.SIGHUP, 1},
		{"--start", syscall.SIGINT, 130}, // a server is starting that only salvor restore knows
	} {
		t.Run(tc.when, func(t *testing.T) {
			cmd, tmp := demoCommandLine(t)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			stdout, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			story, line := bufio.NewReader(stdout), ""
			for !strings.Contains(line, tc.when) {
				if line, err = story.ReadString('\n'); err != nil {
					t.Fatalf("%v, before it told %q: %s", err, tc.when, stderr.String())
				}
			}
			if err := cmd.Process.Signal(tc.sig); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, story); err != nil {
				t.Error(err)
			}
			if got := ended(t, cmd.Wait()); got != tc.want {
				t.Errorf("ended with %v, want %v: %s", got, tc.want, stderr.String())
			}
			nothingLeft(t, tmp)
		})
	}
}

func TestDemoKeeps(t *testing.T) {
	t.Parallel()
	cmd, tmp := demoCommandLine(t, "--keep", "-o", "json", "-q", "--dir")
	dir := filepath.Join(tmp, "of my own")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd.Args = append(cmd.Args, dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var v demoView
	if got := ended(t, err); got != 0 || json.Unmarshal(out, &struct{ Kept *[]demoServer }{&v.Kept}) != nil {
		t.Fatalf("ended with %v: %s%s", got, stderr.String(), out)
	}
	if len(v.Kept) != 2 {
		t.Fatalf("kept %+v", v.Kept)
	}
	for _, s := range v.Kept {
		t.Cleanup(func() { _ = server.Stop(context.Background(), s.DataDir, server.Immediate) }) // if the test fails
		db, err := conn.Open(t.Context(), conn.Config{Host: s.SocketDir, Port: s.Port, User: "postgres", Database: demoDatabase})
		if err != nil {
			t.Fatal(err)
		}
		var listens string
		if err := db.Row(t.Context(), "SHOW listen_addresses", nil, &listens); err != nil || listens != "" {
			t.Errorf("%s listens on %q, %v", s.DataDir, listens, err)
		}
		db.Close()
		if !strings.Contains(stderr.String(), "pg_ctl stop -m fast -D '"+s.DataDir) {
			t.Errorf("it is not said how to stop %s:\n%s", s.DataDir, stderr.String())
		}
		if err := server.Stop(t.Context(), s.DataDir, server.Fast); err != nil {
			t.Error(err)
		}
	}
	// What is there is not touched again.
	again := exec.CommandContext(t.Context(), cmd.Path, "demo", "--dir", dir)
	said, err := again.CombinedOutput()
	if got := ended(t, err); got != exitUsage || !strings.Contains(string(said), "is not empty") {
		t.Errorf("in a directory that is used: %v, %s", got, said)
	}
	if _, err := os.Stat(filepath.Join(dir, "recovered", "PG_VERSION")); err != nil {
		t.Error(err)
	}
	for _, s := range v.Kept {
		if filepath.Dir(s.SocketDir) != dir { // the name of the other has a space
			os.RemoveAll(s.SocketDir)
		}
	}
}

// TestDemoFindsLoss lets the demo prove a recovery that has lost an order.
func TestDemoFindsLoss(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs PostgreSQL: not with -short")
	}
	c := pgtest.New(t, pgtest.Options{})
	var stdout, told strings.Builder
	now := time.Date(2026, 11, 24, 6, 51, 0, 0, time.UTC)
	d := &demo{
		session: &session{stdout: &stdout, out: &printer{w: &stdout, format: outputJSON}, clock: clock.System()},
		stage:   &stage{sockets: c.SocketDir, ports: [2]int{0, c.Port()}}, load: &load{clock: clock.System()}, tell: story{&told, new(int)}, broken: now,
	}
	c.Exec("CREATE DATABASE swifteats")
	db, err := d.open(t.Context(), c.Port(), demoDatabase)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := swifteats.Create(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if err := swifteats.Fill(t.Context(), db, 50, 1); err != nil {
		t.Fatal(err)
	}
	lost, kept := ack{at: now.Add(-2 * time.Second)}, ack{at: now.Add(-time.Second)}
	for i, a := range []*ack{&lost, &kept} {
		if err := db.Row(t.Context(), "SELECT id::text FROM public.orders ORDER BY id OFFSET $1 LIMIT 1", []any{i}, &a.id); err != nil {
			t.Fatal(err)
		}
	}
	d.promised = []ack{lost, kept}
	d.load.ledger = append(slices.Clone(d.promised), ack{id: "00000000-0000-4000-8000-000000000000"})
	if d.before, err = fingerprints(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"deliveries WHERE order_id", "payments WHERE order_id", "orders WHERE id"} {
		if err := db.Exec(t.Context(), "DELETE FROM public."+from+" = $1::text::uuid", lost.id); err != nil {
			t.Fatal(err)
		}
	}
	d.view.Orders = 49
	if err := d.prove(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ok []bool
	for _, c := range d.view.Checks {
		ok = append(ok, c.OK)
	}
	if diff := cmp.Diff([]bool{false, false, true, true}, ok); diff != "" || d.view.Lost != 1 || d.view.RPO != 2 {
		t.Errorf("lost %d, RPO %v, checks %+v", d.view.Lost, d.view.RPO, d.view.Checks)
	}
	err = d.score()
	if f := classify(err); f.exit != exitProblem || !strings.Contains(f.message, "no acknowledged order is lost") {
		t.Errorf("the demo ends with %+v", f)
	}
	if !strings.Contains(stdout.String(), `"ok":false`) || !strings.Contains(told.String(), "DIFFER") {
		t.Errorf("it is not told:\n%s\n%s", stdout.String(), told.String())
	}
}
