package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// stage is what a demo has on this machine: directories, programs, and the user that
// everything runs as. That is never root, which PostgreSQL refuses.
type stage struct {
	root     string
	found    fs.FileInfo // the root as it was, if we did not make it
	binDir   string      // PostgreSQL's programs
	program  string      // salvor
	username string
	become   *syscall.Credential // nil if that is who we are
	ports    [2]int              // they only name sockets: nothing listens on a network

	original, recovered string // data directories
	sockets, configFile string
}

// openStage makes everything ready. After an error nothing is left.
func openStage(ctx context.Context, dir string) (*stage, error) {
	st := &stage{}
	for _, do := range []func(context.Context) error{
		st.chooseUser,
		func(ctx context.Context) error { return st.makeRoot(ctx, dir) },
		st.makeSockets, st.choosePorts, st.findPostgreSQL, st.findSalvor,
	} {
		if err := do(ctx); err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return nil, errors.Join(err, st.close())
		}
	}
	return st, nil
}

func (st *stage) chooseUser(context.Context) error {
	u, err := user.Current()
	if os.Geteuid() == 0 {
		if u, err = user.Lookup("postgres"); err != nil {
			u, err = user.Lookup("nobody")
		}
	}
	if err != nil {
		return fmt.Errorf("choosing the user to run PostgreSQL as: %w", err)
	}
	st.username = u.Username
	if os.Geteuid() != 0 {
		return nil
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	st.become = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return errors.Join(err1, err2)
}

// makeRoot makes the directory that everything is in, or takes the one that is asked
// for, which is new or empty.
func (st *stage) makeRoot(ctx context.Context, dir string) error {
	if dir == "" {
		for _, base := range []string{os.TempDir(), "/tmp"} {
			root, err := os.MkdirTemp(base, "salvor-demo-")
			if err != nil {
				return err
			}
			if err := st.use(ctx, root); err == nil {
				return nil
			}
			os.Remove(root)
		}
		return usageError("name one with --dir", "user %s, whom PostgreSQL runs as, reaches no temporary directory", st.username)
	}
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		var entries []fs.DirEntry
		if entries, err = os.ReadDir(dir); len(entries) > 0 {
			return usageError("name another directory, or none for a temporary one", "--dir: %s is not empty", dir)
		}
		if err == nil {
			st.found, err = os.Stat(dir)
		}
	}
	if err == nil {
		err = st.use(ctx, dir)
	}
	if err != nil {
		return usageError("name another directory, or none for a temporary one", "--dir: %w", err)
	}
	return nil
}

// use takes a directory as the root, if the user reaches it.
func (st *stage) use(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return err
	}
	st.root = dir
	st.original, st.recovered = filepath.Join(dir, "original"), filepath.Join(dir, "recovered")
	st.sockets, st.configFile = filepath.Join(dir, "run"), filepath.Join(dir, "salvor.yaml")
	if err := st.give(dir); err != nil {
		return err
	}
	if !st.reaches(ctx, "/bin/sh", "-c", ":") {
		return fmt.Errorf("user %s, whom PostgreSQL runs as, does not reach %s", st.username, dir)
	}
	return nil
}

func (st *stage) makeSockets(context.Context) error {
	const longest = 100 - len("/.s.PGSQL.65535") // systems allow 103 bytes at least
	var err error
	if len(st.sockets) > longest || strings.ContainsAny(st.sockets, " ,'\"\\") { // these would need quotes everywhere
		st.sockets, err = os.MkdirTemp("/tmp", "salvor-run-")
	} else {
		err = os.Mkdir(st.sockets, 0o700)
	}
	return errors.Join(err, st.give(st.sockets))
}

// choosePorts takes two that nothing listens on.
func (st *stage) choosePorts(context.Context) error {
	for i := range st.ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("looking for a free port: %w", err)
		}
		defer l.Close() // at the end: so that the second is another
		st.ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return nil
}

// findPostgreSQL finds the newest version that is complete.
func (st *stage) findPostgreSQL(ctx context.Context) error {
	for major := pg.NewestMajor; major >= pg.OldestMajor; major-- {
		dir, err := server.FindBin(ctx, major)
		if err != nil {
			continue
		}
		if dir, err = filepath.EvalSymlinks(dir); err == nil && st.reaches(ctx, filepath.Join(dir, "initdb"), "--version") {
			st.binDir = dir
			return nil
		}
	}
	return &failed{exitNotNow, "no_postgresql", "install one, as with apt-get install postgresql, or put its programs on PATH",
		fmt.Errorf("no PostgreSQL from %d to %d with initdb is on this machine", pg.OldestMajor, pg.NewestMajor)}
}

// findSalvor makes sure that the user can run this very program, by copying it if
// need be: PostgreSQL runs it for every WAL segment.
func (st *stage) findSalvor(ctx context.Context) error {
	program, err := self()
	if err != nil || st.reaches(ctx, program, "version") {
		st.program = program
		return err
	}
	st.program = filepath.Join(st.root, "salvor")
	if err := copyProgram(program, st.program); err != nil {
		return fmt.Errorf("copying this program, which user %s does not reach: %w", st.username, err)
	}
	if err := st.command(ctx, st.program, "version").Run(); err != nil {
		return fmt.Errorf("running %s as user %s: %w", st.program, st.username, err)
	}
	return nil
}

func copyProgram(from, to string) error {
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
	return errors.Join(err, out.Chmod(0o755), out.Close())
}

// give hands a file or directory to the user.
func (st *stage) give(path string) error {
	if st.become == nil {
		return nil
	}
	return os.Chown(path, int(st.become.Uid), int(st.become.Gid))
}

// reaches says whether the user can run a program, in the root.
func (st *stage) reaches(ctx context.Context, program string, args ...string) bool {
	return st.command(ctx, program, args...).Run() == nil
}

// command prepares a program to run as the user. When the context ends it is asked to
// stop, and given time for that; an interrupt at the terminal does not reach it.
func (st *stage) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = st.root
	cmd.Env = append(os.Environ(), "HOME="+st.root, "PWD="+st.root, "PATH="+st.binDir+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: st.become}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	return cmd
}

// startOriginal makes a cluster and starts its server.
func (st *stage) startOriginal(ctx context.Context, tell story) error {
	args := []string{"-D", st.original, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--data-checksums", "--no-sync"}
	tell.command("initdb", args...)
	if out, err := st.command(ctx, filepath.Join(st.binDir, "initdb"), args...).CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	conf, err := os.OpenFile(filepath.Join(st.original, "postgresql.conf"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	for _, set := range [][2]string{
		{"listen_addresses", ""}, {"archive_mode", "on"}, {"max_connections", "20"}, {"shared_buffers", "64MB"},
		{"dynamic_shared_memory_type", "mmap"}, {"max_parallel_maintenance_workers", "0"},
	} {
		line, lineErr := server.ConfigLine(set[0], set[1])
		_, writeErr := conf.WriteString(line)
		err = errors.Join(err, lineErr, writeErr)
	}
	if err = errors.Join(err, conf.Close()); err != nil {
		return err
	}
	_, err = server.Start(ctx, server.StartOptions{BinDir: st.binDir, DataDir: st.original, Port: st.ports[0], SocketDir: st.sockets,
		LogFile: filepath.Join(st.root, "original.log"), Timeout: time.Minute})
	return err
}

// close ends what runs, and removes everything.
func (st *stage) close() error {
	if st.root == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var errs error
	for _, dir := range []string{st.recovered, st.original} {
		if err := server.Stop(ctx, dir, server.Immediate); err != nil && !errors.Is(err, server.ErrNotRunning) {
			errs = errors.Join(errs, err)
		}
	}
	for pids := st.strays(); len(pids) > 0 && ctx.Err() == nil; pids = st.strays() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.Join(errs, st.remove())
}

// strays are processes of PostgreSQL that still work in the data directories, and the
// salvors that it ran there. Nothing else that somebody runs there is ours.
func (st *stage) strays() []int {
	var pids []int
	links, _ := filepath.Glob("/proc/[0-9]*/exe") // none where there is no /proc
	for _, link := range links {
		exe, err := os.Readlink(link)
		dir, err2 := os.Readlink(filepath.Join(filepath.Dir(link), "cwd"))
		pid, err3 := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err != nil || err2 != nil || err3 != nil || st.binDir == "" {
			continue // it is gone, or another user's
		}
		if (exe == st.program || filepath.Dir(exe) == st.binDir) && slices.ContainsFunc([]string{st.original, st.recovered}, func(d string) bool {
			return dir == d || strings.HasPrefix(dir, d+"/")
		}) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// remove leaves things as they were found.
func (st *stage) remove() error {
	var errs error
	for _, path := range st.places() {
		errs = errors.Join(errs, os.RemoveAll(path))
	}
	if st.found == nil {
		return errs
	}
	if was, ok := st.found.Sys().(*syscall.Stat_t); ok && st.become != nil {
		errs = errors.Join(errs, os.Chown(st.root, int(was.Uid), int(was.Gid)))
	}
	return errs
}

// servers are those that run now.
func (st *stage) servers() []demoServer {
	var list []demoServer
	for _, dir := range []string{st.original, st.recovered} {
		if s, err := server.Probe(dir); err == nil && s.Running {
			list = append(list, demoServer{dir, s.SocketDir, s.Port})
		}
	}
	return list
}

// places are the files and directories that were made.
func (st *stage) places() []string {
	list := []string{st.root}
	if st.found != nil {
		entries, err := os.ReadDir(st.root)
		if err != nil {
			return nil // it is gone
		}
		list = nil
		for _, e := range entries {
			list = append(list, filepath.Join(st.root, e.Name()))
		}
	}
	if st.sockets != "" && filepath.Dir(st.sockets) != st.root {
		list = append(list, st.sockets)
	}
	return list
}
