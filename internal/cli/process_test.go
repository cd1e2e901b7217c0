package cli

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// ended says how a process ended: by exit code, or as "SIGABRT".
func ended(t *testing.T, err error) any {
	t.Helper()
	var exit *exec.ExitError
	if err == nil {
		return 0
	}
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if !ok {
		t.Fatalf("no wait status: %v", exit)
	}
	if status.Signaled() {
		return unix.SignalName(status.Signal())
	}
	return status.ExitStatus()
}

func child(t *testing.T, vars []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Dir = t.TempDir() // no salvor.yaml there
	cmd.Env = append(os.Environ(), append([]string{asSalvor + "=1"}, vars...)...)
	return cmd
}

const segment = "0000000100000000000000A7"

// TestHowFetchEnds runs wal fetch as a process of its own: what PostgreSQL sees
// decides whether it goes on, asks again or opens the database too early.
func TestHowFetchEnds(t *testing.T) {
	t.Parallel()
	fetch := func(words ...string) []string { return append([]string{"wal", "fetch"}, words...) }
	for _, tc := range []struct {
		name   string
		args   []string
		vars   []string
		want   any
		stderr string // is in it; "" for an empty one
	}{
		{"done", fetch(segment, "succeed"), nil, 0, ""},
		{"absent", fetch(segment, "absent"), nil, 6, "the file is in no repository"},
		{"absent, standby", fetch("--standby", segment, "absent"), nil, 6, ""},
		{"fault", fetch(segment, "fail"), nil, 126, "unexpected EOF"},
		{"fault, standby", fetch("--standby", segment, "fail"), nil, 1, "unexpected EOF"},
		{"fault, standby by its variable", fetch(segment, "fail"), []string{"SALVOR_STANDBY=true"}, 1, "unexpected EOF"},
		{"fault on a history file, standby", fetch("--standby", "00000002.history", "fail"), nil, 126, "unexpected EOF"},
		{"fault on an odd name, standby", fetch("--standby", "RECOVERYXLOG", "fail"), nil, 126, "unexpected EOF"},
		{"repository locked away", fetch(segment, "wrong-key"), nil, 126, "does not open this repository\nhint: try the other key"},
		{"repository locked away, standby", fetch("--standby", segment, "wrong-key"), nil, 1, "does not open this repository"},
		{"no configuration", fetch(segment, "config"), nil, 126, "no configuration"},
		{"configuration that is not there", append([]string{"-c", "/no/such.yaml"}, fetch(segment, "config")...), nil, 126, "/no/such.yaml"},
		{"found a problem", fetch(segment, "problem"), nil, 126, "damaged"},
		{"too few arguments", fetch(segment), nil, 126, "wal fetch needs DEST"},
		{"too many arguments", fetch("a", "b", "c"), nil, 126, `takes only NAME DEST, but got "c" too`},
		{"no arguments", fetch(), nil, 126, "needs NAME and DEST"},
		{"bad option", fetch("--standbye", segment, "x"), nil, 126, "did you mean --standby?"},
		{"bad option before", append([]string{"--bogus"}, fetch(segment, "x")...), nil, 126, "unknown flag"},
		{"bad option between", []string{"wal", "--log-level", "x", "fetch", segment, "succeed"}, nil, 126, "want one of info"},
		{"bad value of an option", fetch("-o", "xml", segment, "x"), nil, 126, "want one of table, json, yaml"},
		{"bad value of a variable", fetch(segment, "succeed"), []string{"SALVOR_LOG_LEVEL=loud"}, 126, `SALVOR_LOG_LEVEL="loud": want one of`},
		{"panic", fetch(segment, "panic"), nil, "SIGABRT", "salvor: internal error: no such state\nhint: this is a bug"},
		{"panic, standby", fetch("--standby", segment, "panic"), nil, "SIGABRT", "internal error"},
		{"panic of the runtime", fetch(segment, "nil"), nil, "SIGABRT", "nil pointer dereference"},
		{"panic of a goroutine", fetch(segment, "panic-elsewhere"), nil, "SIGABRT", "panic: no such state"},
		{"fatal error of the runtime", fetch(segment, "throw"), nil, "SIGABRT", "unlock of unlocked mutex"},
		{"help", fetch("--help"), nil, 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cmd := child(t, tc.vars, tc.args...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if got := ended(t, cmd.Run()); got != tc.want {
				t.Errorf("ended with %v, want %v", got, tc.want)
			}
			if !strings.Contains(stderr.String(), tc.stderr) || tc.stderr == "" && stderr.Len() > 0 {
				t.Errorf("stderr is %q, want %q in it", stderr.String(), tc.stderr)
			}
			if strings.Contains(tc.stderr, "internal error") && strings.Contains(stderr.String(), "goroutine") {
				t.Errorf("a stack trace is in it:\n%s", stderr.String())
			}
		})
	}
}

// TestPanicIsTracedOnRequest wants the trace of a bug with --log-level debug.
func TestPanicIsTracedOnRequest(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"wal", "fetch", segment, "panic"}, {"work", "panic"}} {
		cmd := child(t, nil, append([]string{"--log-level", "debug"}, args...)...)
		said, err := cmd.CombinedOutput()
		if got := ended(t, err); got != "SIGABRT" && got != 1 {
			t.Errorf("%v ended with %v", args, got)
		}
		if !strings.Contains(string(said), "cli.misbehave(") {
			t.Errorf("no trace in\n%s", said)
		}
	}
}

// TestSignals sends signals to a command that is at work.
func TestSignals(t *testing.T) {
	t.Parallel()
	const (
		interrupt = syscall.SIGINT
		terminate = syscall.SIGTERM
	)
	for _, tc := range []struct {
		name string
		args []string
		send []syscall.Signal // the first after "ready", the second after "told"
		want any
		said string
	}{
		{"interrupt", []string{"work", "wait"}, []syscall.Signal{interrupt}, 130, "cleaned up\nsalvor: stopped by SIGINT\n"},
		{"terminate", []string{"work", "wait"}, []syscall.Signal{terminate}, 143, "cleaned up\nsalvor: stopped by SIGTERM\n"},
		{"quit", []string{"work", "wait"}, []syscall.Signal{syscall.SIGQUIT}, 131, "cleaned up\nsalvor: stopped by SIGQUIT\n"},
		{"fetch, quit", []string{"wal", "fetch", segment, "wait"}, []syscall.Signal{syscall.SIGQUIT}, "SIGTERM", "cleaned up\nsalvor: stopped by SIGQUIT\n"},
		{"failed while stopping", []string{"work", "wait-and-fail"}, []syscall.Signal{terminate}, 143, "stopped by SIGTERM; the server went away\n"},
		{"done all the same", []string{"work", "finish"}, []syscall.Signal{terminate}, 0, ""},
		{"twice", []string{"work", "hang"}, []syscall.Signal{interrupt, interrupt}, "SIGINT", "told\n"},
		{"one of each", []string{"work", "hang"}, []syscall.Signal{interrupt, terminate}, "SIGTERM", "told\n"},
		{"fetch, terminated", []string{"wal", "fetch", segment, "wait"}, []syscall.Signal{terminate}, "SIGTERM", "cleaned up\nsalvor: stopped by SIGTERM\n"},
		{"fetch, interrupted", []string{"wal", "fetch", segment, "wait"}, []syscall.Signal{interrupt}, "SIGINT", "stopped by SIGINT\n"},
		{"fetch for a standby, terminated", []string{"wal", "fetch", "--standby", segment, "wait"}, []syscall.Signal{terminate}, "SIGTERM", ""},
		{"fetch, done all the same", []string{"wal", "fetch", segment, "finish"}, []syscall.Signal{terminate}, 0, ""},
		{"fetch, killed", []string{"wal", "fetch", segment, "hang"}, []syscall.Signal{terminate, syscall.SIGKILL}, "SIGKILL", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cmd := child(t, nil, tc.args...)
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(stderr)
			for i, sig := range tc.send {
				want := []string{"ready\n", "told\n"}[i]
				if line, err := lines.ReadString('\n'); err != nil || line != want {
					t.Fatalf("it says %q, %v; want %q", line, err, want)
				}
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
			}
			rest, err := io.ReadAll(lines)
			if err != nil {
				t.Fatal(err)
			}
			if got := ended(t, cmd.Wait()); got != tc.want {
				t.Errorf("ended with %v, want %v", got, tc.want)
			}
			if len(tc.send) == 1 && !strings.HasSuffix(string(rest), tc.said) {
				t.Errorf("it said %q, want %q at its end", rest, tc.said)
			}
		})
	}
}

// TestIgnoredSignalsStayIgnored starts a command as nohup and a shell's & do.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	t.Parallel()
	inner := child(t, nil)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `trap "" INT; exec "$0" work ignored`, inner.Path)
	cmd.Env = inner.Env
	said, err := cmd.CombinedOutput()
	if err != nil || string(said) != "true false\n" {
		t.Errorf("it says %q, %v; want that SIGINT is ignored and SIGTERM is not", said, err)
	}
}

// TestBuiltBinary asks the program that is released.
func TestBuiltBinary(t *testing.T) {
	t.Parallel()
	bad := t.TempDir() + "/salvor.yaml"
	if err := os.WriteFile(bad, []byte("cluster: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want any
		said string
	}{
		{[]string{"version"}, 0, "postgresql"},
		{[]string{"versoin"}, 2, "did you mean `salvor version`?"},
		{[]string{"-c", bad, "config", "validate"}, 2, "salvor.yaml:2:1: not YAML"},
		{[]string{"wal", "fetch", "--bogus", segment, "x"}, 126, "salvor: "},
		{[]string{"-c", bad, "wal", "fetch", segment, "x"}, 126, "salvor: "},
		{[]string{"wal", "fetch"}, 126, "salvor: "},
	} {
		cmd := exec.CommandContext(t.Context(), binary(t, "salvor"), tc.args...)
		said, err := cmd.CombinedOutput()
		if got := ended(t, err); got != tc.want || !strings.Contains(string(said), tc.said) {
			t.Errorf("%v ended with %v and said %q; want %v, %q", tc.args, got, said, tc.want, tc.said)
		}
	}
	// Whoever reads may stop reading: that is no failure worth a word.
	script := `"$0" completion bash | head -n 1`
	said, err := exec.CommandContext(t.Context(), "sh", "-c", script, binary(t, "salvor")).CombinedOutput()
	if err != nil || strings.Count(string(said), "\n") != 1 {
		t.Errorf("into head: %q, %v", said, err)
	}
}
