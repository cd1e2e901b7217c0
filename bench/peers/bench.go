//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// bench is a benchmark on its way: a directory of its own with a cluster that runs.
type bench struct {
	options
	clock  clock.Clock
	user   account
	result results

	root          string
	given         bool   // that the root was, and stays
	salvorProgram string // where the account reaches it
	data          string // the cluster's data directory
	sockets       string
	log           *os.File // what tools print on standard error
	out           *os.File // results, line by line
	db            *conn.Conn
	worked        int // rounds of work that were done
}

// open makes directory and cluster. After an error nothing is left.
func open(ctx context.Context, o options, c clock.Clock) (_ *bench, err error) {
	b := &bench{options: o, clock: c}
	if b.user, err = findAccount(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if err := b.makeRoot(); err != nil {
		return nil, err
	}
	if err := b.describe(ctx); err != nil {
		return nil, err
	}
	if err := b.record(line{Run: &b.result.Run}); err != nil {
		return nil, err
	}
	return b, b.makeCluster(ctx)
}

func (b *bench) makeRoot() error {
	var err error
	if b.dir == "" {
		b.root, err = os.MkdirTemp("/var/tmp", "salvor-bench-")
	} else if entries, listErr := os.ReadDir(b.dir); listErr == nil && len(entries) > 0 {
		return fmt.Errorf("-dir: %s is not empty", b.dir)
	} else {
		b.given = listErr == nil
		b.root, err = b.dir, os.MkdirAll(b.dir, 0o700)
	}
	if err != nil {
		return err
	}
	b.data, b.sockets = filepath.Join(b.root, "data"), filepath.Join(b.root, "run")
	if err := errors.Join(b.user.own(b.root), os.Chmod(b.root, 0o700)); err != nil {
		return err
	}
	for _, d := range []string{"run", "repo", "conf", "pgbackrest"} {
		if err := b.user.makeDir(filepath.Join(b.root, d)); err != nil {
			return err
		}
	}
	// The checkout may be where the account does not reach.
	b.salvorProgram = filepath.Join(b.root, "salvor")
	if err := copyFile(b.salvor, b.salvorProgram, 0o755); err != nil {
		return err
	}
	if b.log, err = os.Create(filepath.Join(b.root, "tools.log")); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(b.options.out), 0o755); err != nil {
		return err
	}
	b.out, err = os.Create(b.options.out)
	return err
}

// close ends the servers, and removes everything but the results.
func (b *bench) close() error {
	var errs []error
	if b.db != nil {
		b.db.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, dir := range []string{b.dest(), b.data} {
		if err := server.Stop(ctx, dir, server.Immediate); err != nil && !errors.Is(err, server.ErrNotRunning) {
			errs = append(errs, err)
		}
	}
	for _, f := range []*os.File{b.log, b.out} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if b.root == "" {
		return errors.Join(errs...)
	}
	entries, err := os.ReadDir(b.root)
	errs = append(errs, err)
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(b.root, e.Name())))
	}
	if !b.given {
		errs = append(errs, os.Remove(b.root))
	}
	return errors.Join(errs...)
}

func (b *bench) dest() string { return filepath.Join(b.root, "dest") }

// say tells what happens, on standard error.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, b.clock.Now().Format("15:04:05 ")+format+"\n", args...)
}

// record appends a line to the results, now: a run that is cut off keeps what it has.
func (b *bench) record(l line) error {
	b.result.add(l)
	return json.NewEncoder(b.out).Encode(l)
}

// measureAll runs the steps.
func (b *bench) measureAll(ctx context.Context) error {
	all := b.present(tools(b))
	if err := b.limits(ctx); err != nil {
		return err
	}
	if slices.Contains(b.steps, "full") {
		if err := b.measureFull(ctx, all); err != nil {
			return err
		}
	}
	if slices.Contains(b.steps, "incr") {
		if err := b.measureIncrementals(ctx, all, b.rounds, 0); err != nil {
			return err
		}
	}
	if slices.Contains(b.steps, "chain") {
		if err := b.measureChain(ctx, all); err != nil {
			return err
		}
	}
	if slices.Contains(b.steps, "wal") {
		if err := b.measureWAL(ctx, all); err != nil {
			return err
		}
	}
	return b.measureSizes(ctx, all)
}

// report prints the table and writes the page.
func (b *bench) report() error {
	b.say("results are in %s", b.options.out)
	return b.result.write(os.Stdout, b.page)
}

// takesPart gives the tools for a step.
func takesPart(all []tool, step string) []tool {
	return slices.DeleteFunc(slices.Clone(all), func(t tool) bool { return t.about().Steps != nil && !slices.Contains(t.about().Steps, step) })
}

// turns gives the tools in the order of a repeat: every other one is backwards.
func turns(all []tool, repeat int) []tool {
	out := slices.Clone(all)
	if repeat%2 == 0 {
		slices.Reverse(out)
	}
	return out
}

// command prepares a program to run as the account.
func (b *bench) command(ctx context.Context, argv, env []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = b.root, b.environment(env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: b.user.Become}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	return cmd
}

// environment leaves out what would change what the tools do.
func (b *bench) environment(more []string) []string {
	env := []string{"HOME=" + b.root, "PATH=" + b.binDir + ":" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC"}
	return append(env, more...)
}

// run runs a command that is not measured.
func (b *bench) run(ctx context.Context, t tool, argv []string) error {
	var env []string
	if t != nil {
		env = t.about().Env
	}
	out, err := b.command(ctx, argv, env).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", quote(argv), err, lastBytes(out))
	}
	return nil
}

func lastBytes(out []byte) string {
	const most = 3000
	return strings.TrimSpace(string(out[max(0, len(out)-most):]))
}

// measure runs a command below a meter and gives what it took and printed.
func (b *bench) measure(ctx context.Context, argv, env []string) (usage, []byte, error) {
	if err := b.sync(); err != nil {
		return usage{}, nil, err
	}
	text, err := json.Marshal(order{Argv: argv, Become: b.user.Become})
	if err != nil {
		return usage{}, nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return usage{}, nil, err
	}
	defer r.Close()
	// The kernel ties the death signal to the thread that starts the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", meterArgument, string(text))
	cmd.Dir, cmd.Env, cmd.ExtraFiles = b.root, b.environment(env), []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * killAfter
	var stdout bytes.Buffer
	from, err := b.log.Seek(0, io.SeekEnd)
	if err != nil {
		return usage{}, nil, err
	}
	cmd.Stdout, cmd.Stderr = &stdout, b.log
	err = cmd.Start()
	_ = w.Close() // the child has it
	if err != nil {
		return usage{}, nil, err
	}
	u, readErr := readUsage(r)
	err = errors.Join(cmd.Wait(), readErr)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	} else if err == nil && u.Exit != 0 {
		err = fmt.Errorf("exit %d", u.Exit)
	}
	if err != nil {
		said, _ := os.ReadFile(b.log.Name()) // only to say more
		return u, nil, fmt.Errorf("%s: %w\n%s", quote(argv), err, lastBytes(said[min(from, int64(len(said))):]))
	}
	return u, stdout.Bytes(), nil
}

// sync writes what earlier steps left to the kernel, so that the next does not pay.
func (b *bench) sync() error {
	d, err := os.Open(b.root)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// size sums up the lengths of the files below the directories that the patterns
// below root name. None is no error: then there is nothing yet.
func size(root string, patterns []string) (int64, error) {
	var sum int64
	for _, p := range patterns {
		dirs, err := filepath.Glob(filepath.Join(root, p))
		if err != nil {
			return 0, err
		}
		for _, dir := range dirs {
			err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				info, err := d.Info()
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				if err == nil {
					sum += info.Size()
				}
				return err
			})
			if err != nil {
				return 0, err
			}
		}
	}
	return sum, nil
}

func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(mode), out.Close())
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
