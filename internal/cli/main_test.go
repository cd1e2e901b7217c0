package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/repo"
)

// asSalvor makes this test binary be salvor, with commands that misbehave on
// demand, so that a test can watch how the process ends.
const asSalvor = "SALVOR_TEST_AS_SALVOR"

func TestMain(m *testing.M) {
	if os.Getenv(asSalvor) != "" {
		os.Exit(run(os.Args[1:], Process{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.LookupEnv}, misbehaving))
	}
	code := m.Run()
	if dir, err := binaries(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// misbehaving are commands for tests of the ground itself.
func misbehaving(s *session) []*cobra.Command {
	var plan bool
	var kind string
	var limit config.Size
	work := &cobra.Command{Use: "work HOW", Args: positional("HOW"), RunE: s.run(func(ctx context.Context, args []string) error {
		return misbehave(ctx, s, args[0])
	})}
	planFlag(work, &plan)
	choiceVar(work, &kind, "kind", []string{"auto", "full"}, "kind of work")
	work.Flags().TextVar(&limit, "rate-limit", config.Size(0), "bytes a second")
	work.Flags().StringArray("annotate", nil, "key=value")
	show := &cobra.Command{Use: "options", Args: positional(), RunE: s.run(func(context.Context, []string) error { return nil })}
	show.RunE = s.run(func(context.Context, []string) error {
		_, err := fmt.Fprintln(s.stdout, plan, kind, limit, work.Flags().Lookup("annotate").Value)
		return err
	})
	show.Flags().AddFlagSet(work.Flags())
	fetch := fetchCommand(s, func(ctx context.Context, name, dest string, _ bool) error {
		if dest == "dest" {
			return misbehave(ctx, s, "absent")
		}
		return misbehave(ctx, s, dest)
	})
	return []*cobra.Command{work, show, group("wal", "WAL", "", fetch)}
}

func misbehave(ctx context.Context, s *session, how string) error {
	switch how {
	case "succeed":
		return s.out.document(map[string]bool{"ok": true}, text("fine\n"))
	case "fail":
		return fmt.Errorf("reading page 7 of base/1/1259: %w", io.ErrUnexpectedEOF)
	case "problem":
		if err := s.out.document(map[string]bool{"ok": false}, text("one page is damaged\n")); err != nil {
			return err
		}
		return foundProblem("`salvor verify --repair` mends it", "1 of 3 backups is damaged")
	case "absent":
		return &failed{exitAbsent, "absent", "", errors.New("the file is in no repository")}
	case "wrong-key":
		return withHint(fmt.Errorf("opening repository local: %w", repo.ErrWrongKey), "try the other key")
	case "config":
		_, err := s.config()
		return err
	case "confirm":
		return s.confirm("This deletes the backup", "b1")
	case "panic":
		panic("no such state")
	case "nil":
		var none *config.Config
		_ = none.Cluster
	case "panic-elsewhere":
		go panic("no such state")
		select {}
	case "throw": // a fatal error of the runtime, which nothing recovers
		var mu sync.Mutex
		mu.Unlock()
	case "wait": // for a signal, and clean up
		fmt.Fprintln(s.stderr, "ready")
		<-ctx.Done()
		fmt.Fprintln(s.stderr, "cleaned up")
		return fmt.Errorf("copying: %w", ctx.Err())
	case "wait-and-fail":
		fmt.Fprintln(s.stderr, "ready")
		<-ctx.Done()
		return errors.New("the server went away")
	case "finish": // although told to stop
		fmt.Fprintln(s.stderr, "ready")
		<-ctx.Done()
		return nil
	case "hang": // whatever it is told
		fmt.Fprintln(s.stderr, "ready")
		<-ctx.Done()
		fmt.Fprintln(s.stderr, "told")
		select {}
	case "ignored":
		fmt.Fprintln(s.stderr, signal.Ignored(syscall.SIGINT), signal.Ignored(syscall.SIGTERM))
	}
	return nil
}

// result is what a run of the command line left behind.
type result struct {
	exit           int
	stdout, stderr string
}

// inProcess runs the command line with the given commands and variables
// (NAME=value).
func inProcess(with func(*session) []*cobra.Command, vars []string, args ...string) result {
	var stdout, stderr strings.Builder
	env := func(name string) (string, bool) {
		for _, v := range vars {
			if k, value, _ := strings.Cut(v, "="); k == name {
				return value, true
			}
		}
		return "", false
	}
	exit := run(args, Process{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Env: env, Version: "1.2.3", Commit: "0123abc"}, with)
	return result{exit, stdout.String(), stderr.String()}
}

// binaries builds salvor, as it is released, and a program that does nothing,
// and gives the directory they are in.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "salvor-cli-")
	if err != nil {
		return "", err
	}
	const hello = "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"hello\\n\") }\n"
	if err := os.WriteFile(filepath.Join(dir, "hello.go"), []byte(hello), 0o600); err != nil {
		return "", err
	}
	for out, pkg := range map[string]string{"salvor": "../../cmd/salvor", "hello": filepath.Join(dir, "hello.go")} {
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", filepath.Join(dir, out), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if said, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building %s: %w\n%s", pkg, err, said)
		}
	}
	return dir, nil
})

// binary gives the path of a built program, salvor or hello.
func binary(t *testing.T, name string) string {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}
