package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// startAndLeave makes the test program start a server and end: the arguments
// are programs, data directory, socket directory, log and port; with one more the
// server is guarded, and the test program says so and waits.
const startAndLeave = "SALVOR_TEST_START_AND_LEAVE"

func TestMain(m *testing.M) {
	if args := os.Getenv(startAndLeave); args != "" {
		a := strings.Split(args, "|")
		port, err := strconv.Atoi(a[4])
		if err == nil {
			_, err = server.Start(context.Background(), server.StartOptions{
				BinDir: a[0], DataDir: a[1], SocketDir: a[2], LogFile: a[3], Port: port,
				Set: map[string]string{"listen_addresses": ""}, Timeout: time.Minute, Guarded: len(a) > 5,
			})
		}
		if len(a) > 5 && err == nil {
			fmt.Println("started")
			select {}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestFindBin(t *testing.T) {
	t.Parallel()
	dir := pgtest.FindBin(t, 15)
	got, err := server.FindBin(t.Context(), 15, "/nowhere", dir)
	if err != nil || got != dir {
		t.Errorf("with a hint: %q, %v", got, err)
	}
	if got, err := server.FindBin(t.Context(), 15, filepath.Dir(dir)); err != nil || got != dir {
		t.Errorf("with the prefix as a hint: %q, %v", got, err)
	}
	_, err = server.FindBin(t.Context(), 99, dir)
	if !errors.Is(err, server.ErrNotFound) || !strings.Contains(err.Error(), dir+" (has 15)") {
		t.Errorf("for a version that is nowhere: %v", err)
	}
}

func TestGuardedServerEndsWithTheProgramThatStartedIt(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Stopped: true})
	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	starter := exec.Command(me)
	starter.Env = append(os.Environ(), startAndLeave+"="+strings.Join([]string{c.BinDir, c.Dir, c.SocketDir, c.LogFile, "5432", "guarded"}, "|"))
	out, err := starter.StdoutPipe()
	if err == nil {
		err = starter.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "started\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if st := c.Status(); !st.Running || st.State != server.StateReady {
		t.Fatalf("status %+v", st)
	}
	if err := starter.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = starter.Wait()
	c.Eventually("the server has ended", func() bool { return !c.Status().Running })
}

func TestNoNetwork(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Stopped: true})
	o := server.StartOptions{BinDir: c.BinDir, DataDir: c.Dir, SocketDir: c.SocketDir, LogFile: c.LogFile, Port: 5432, Timeout: time.Minute,
		Set: map[string]string{"listen_addresses": ""}, Guarded: true, NoNetwork: true}
	st, err := server.Start(t.Context(), o)
	if errors.Is(err, server.ErrNoIsolation) {
		t.Skipf("this system makes no namespaces: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	mine, err1 := os.Readlink("/proc/self/ns/net")
	its, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", st.PID))
	if err := errors.Join(err1, err2); err != nil || mine == its {
		t.Errorf("the server's network is %s, and ours %s: %v", its, mine, err)
	}
	cn, err := conn.Open(t.Context(), conn.Config{DSN: "sslmode=disable", Host: c.SocketDir, Port: 5432, User: "postgres", Database: "postgres"})
	if err != nil {
		t.Fatalf("its socket: %v", err)
	}
	defer cn.Close()
	if err := cn.Exec(t.Context(), "CREATE TEMP TABLE got (line text); COPY got FROM PROGRAM 'cat /proc/net/route'"); err != nil {
		t.Fatal(err)
	}
	var routes int
	if err := cn.Row(t.Context(), "SELECT count(*) FROM got WHERE line !~ '^Iface'", nil, &routes); err != nil || routes != 0 {
		t.Errorf("it has %d routes: %v", routes, err)
	}
	if err := server.Stop(t.Context(), c.Dir, server.Fast); err != nil {
		t.Error(err)
	}
}

func TestServerOutlivesTheProgramThatStartedIt(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Stopped: true})
	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	starter := exec.Command(me)
	starter.Env = append(os.Environ(), startAndLeave+"="+strings.Join([]string{c.BinDir, c.Dir, c.SocketDir, c.LogFile, "5432"}, "|"))
	if out, err := starter.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	st := c.Status()
	if !st.Running || st.State != server.StateReady || !st.Primary || st.Port != 5432 || st.SocketDir != c.SocketDir || st.ListenAddr != "" {
		t.Fatalf("status %+v", st)
	}
	if sid, err := unix.Getsid(st.PID); err != nil || sid != st.PID {
		t.Errorf("the session of %d is %d, %v", st.PID, sid, err)
	}
	if age := time.Since(st.Started); age < 0 || age > time.Minute {
		t.Errorf("started %s ago", age)
	}
	if out, err := c.Command("pg_ctl", "stop", "-D", c.Dir, "-m", "fast").CombinedOutput(); err != nil {
		t.Fatalf("pg_ctl stop: %v: %s", err, out)
	}
	if st := c.Status(); st.Running || st.State != server.StateNone {
		t.Errorf("after pg_ctl stop: %+v", st)
	}
}

func TestSettingsReachTheServerAsTheyAre(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Stopped: true})
	const value = `it's "$(touch /x)" \ ; # %f` + "\n`y`"
	st, err := server.Start(t.Context(), server.StartOptions{
		BinDir: c.BinDir, DataDir: c.Dir, SocketDir: c.SocketDir, LogFile: c.LogFile,
		Set: map[string]string{"listen_addresses": "", "restore_command": value},
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := c.Command("psql", "-XAtc", "SHOW restore_command")
	cmd.Env = append(cmd.Env, fmt.Sprintf("PGPORT=%d", st.Port))
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSuffix(string(out), "\n") != value {
		t.Errorf("got %q, %v; want %q", out, err, value)
	}
	again := server.StartOptions{BinDir: c.BinDir, DataDir: c.Dir}
	if _, err := server.Start(t.Context(), again); !errors.Is(err, server.ErrRunning) {
		t.Errorf("a second start: %v", err)
	}
}

func TestStartFailsWithTheServersLastWords(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Stopped: true})
	_, err := server.Start(t.Context(), server.StartOptions{
		BinDir: c.BinDir, DataDir: c.Dir, SocketDir: c.SocketDir, LogFile: c.LogFile,
		Set: map[string]string{"no_such_setting": "1"},
	})
	var exit *server.ExitError
	if !errors.As(err, &exit) || !strings.Contains(exit.Log, "no_such_setting") || exit.Status != "exit status 1" {
		t.Fatalf("got %v", err)
	}
	fi, err := os.Stat(c.LogFile)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the log: %v, %v", fi, err)
	}
}

func TestStartLeavesNothingWhenTheWaitIsGivenUp(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Stopped: true})
	pid := 0
	ctx, cancel := context.WithCancel(t.Context())
	_, err := server.Start(ctx, server.StartOptions{
		BinDir: c.BinDir, DataDir: c.Dir, SocketDir: c.SocketDir, Set: map[string]string{"listen_addresses": ""},
		Until: func(st server.Status) bool {
			if pid = st.PID; st.Accepting() {
				cancel()
			}
			return false
		},
	})
	if !errors.Is(err, context.Canceled) || pid == 0 {
		t.Fatalf("process %d: %v", pid, err)
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
	_, err = server.Start(t.Context(), server.StartOptions{
		BinDir: c.BinDir, DataDir: c.Dir, SocketDir: c.SocketDir, Set: map[string]string{"listen_addresses": ""},
		Timeout: time.Millisecond,
	})
	if err == nil || !strings.Contains(err.Error(), "not ready after 1ms") {
		t.Errorf("with a timeout: %v", err)
	}
}

func TestPIDFileThatOutlivedItsServer(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	live, err := os.ReadFile(filepath.Join(c.Dir, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(live), "\n")
	sleeper := exec.Command("sleep", "60") // a process that got the pid later
	zombie := exec.Command("true")
	for _, cmd := range []*exec.Cmd{sleeper, zombie} {
		cmd.Dir = t.TempDir()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	c.Eventually("a child has ended", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", zombie.Process.Pid))
		return err == nil && strings.Contains(string(b), ") Z ")
	})
	for name, data := range map[string]string{
		"a server of another directory": string(live),
		"another program":               fmt.Sprintf("%d\n%s", sleeper.Process.Pid, rest),
		"a zombie":                      fmt.Sprintf("%d\n%s", zombie.Process.Pid, rest),
		"nobody":                        "2147483647\n" + rest,
		"an empty file":                 "",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if st, err := server.Probe(dir); err != nil || st != (server.Status{}) {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
		if err := server.Stop(t.Context(), dir, server.Fast); !errors.Is(err, server.ErrNotRunning) {
			t.Errorf("%s: stop: %v", name, err)
		}
	}
	if !c.Status().Running {
		t.Error("the server that was not meant is gone")
	}
	bad := t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, "postmaster.pid"), []byte("junk\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if st, err := server.Probe(bad); err == nil {
		t.Errorf("junk was read as %+v", st)
	}
}

func TestProbeKnowsTheDirectoryByWhateverName(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	link := filepath.Join(c.TempDir(t), "link")
	if err := os.Symlink(c.Dir, link); err != nil {
		t.Fatal(err)
	}
	st, err := server.Probe(link)
	if err != nil || !st.Running {
		t.Errorf("through a link: %+v, %v", st, err)
	}
	c.Kill9()
	if _, err := os.Stat(filepath.Join(c.Dir, "postmaster.pid")); err != nil {
		t.Fatalf("a crash should leave the pid file: %v", err)
	}
	if st := c.Status(); st.Running {
		t.Errorf("after a crash: %+v", st)
	}
}

func TestStopWaitsAndItsWaitCanEnd(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	session := c.Conn(t) // smart shutdown waits for it
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := server.Stop(ctx, c.Dir, server.Smart); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("smart, with a session: %v", err)
	}
	if st := c.Status(); st.State != server.StateStopping {
		t.Errorf("status %+v", st)
	}
	if err := session.Ping(t.Context()); err != nil {
		t.Errorf("the session ended: %v", err)
	}
	if err := server.Stop(t.Context(), c.Dir, server.Fast); err != nil {
		t.Errorf("fast: %v", err)
	}
	if err := server.Stop(t.Context(), c.Dir, server.Fast); !errors.Is(err, server.ErrNotRunning) {
		t.Errorf("again: %v", err)
	}
	if err := server.Stop(t.Context(), c.Dir, "gentle"); err == nil || errors.Is(err, server.ErrNotRunning) {
		t.Errorf("a mode that is none: %v", err)
	}
}

func TestPromote(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	if err := server.Promote(t.Context(), c.Dir); !errors.Is(err, server.ErrNotStandby) {
		t.Errorf("a primary: %v", err)
	}
	s := c.Standby(t, "one")
	if st := s.Status(); !st.Accepting() || st.Primary {
		t.Errorf("a hot standby: %+v", st)
	}
	s.Stop(server.Fast)
	s.Set("hot_standby", "off")
	s.Start()
	if st := s.Status(); st.State != server.StateStandby || st.Accepting() || !st.Up() {
		t.Errorf("a warm standby: %+v", st)
	}
	if err := server.Promote(t.Context(), s.Dir); err != nil {
		t.Fatal(err)
	}
	s.Exec("CREATE TABLE dish ()") // at once
	if st := s.Status(); !st.Primary {
		t.Errorf("after the promotion: %+v", st)
	}
}
