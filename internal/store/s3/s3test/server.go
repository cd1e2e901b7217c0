package s3test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"
)

const (
	// patience is how long a start may take before it counts as failed.
	patience  = 60 * time.Second
	pollEvery = 20 * time.Millisecond
	portTries = 5
)

// Server is a versitygw.
type Server struct {
	Endpoint             string // http://127.0.0.1:PORT
	AccessKey, SecretKey string
	Dir                  string // of the objects: a folder for each bucket

	home   string
	cmd    *exec.Cmd
	stdin  io.Closer
	pid    int
	client *s3.Client
}

// Lazy is a server for all the tests of a package: it starts with the first one
// that asks. TestMain calls Close.
type Lazy struct {
	mu     sync.Mutex
	server *Server
}

// Get gives the server.
func (l *Lazy) Get(t testing.TB) *Server {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server == nil {
		l.server = start(t)
	}
	return l.server
}

// Close ends the server, if it was started.
func (l *Lazy) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server != nil {
		l.server.close()
		l.server = nil
	}
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := start(t)
	t.Cleanup(s.close)
	return s
}

func start(t testing.TB) *Server {
	t.Helper()
	bin, err := binary()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("versitygw cannot be had: %v", err)
		}
		t.Skipf("versitygw cannot be had: %v", err)
	}
	for try := 1; ; try++ {
		s, err := launch(bin)
		if err == nil {
			return s
		}
		if try == portTries {
			t.Fatalf("starting versitygw: %v", err)
		}
	}
}

// binary finds the program. Where it is missing it is built, if CI=true; else that
// is left to whoever runs the tests, for it takes minutes.
func binary() (string, error) {
	script, err := script()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(script)
	if os.Getenv("CI") != "true" {
		cmd.Args = append(cmd.Args, "--no-build")
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("tools/versitygw: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}

// script is tools/versitygw at the root of the module.
func script() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "tools", "versitygw"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the tests run outside of the module")
		}
	}
}

// guard runs the server, says its process id, and ends it when its own input ends.
const guard = `
home=$1; shift
"$@" </dev/null >"$home/log" 2>&1 &
echo $!
read -r _
kill -CONT $! 2>/dev/null
kill -KILL $! 2>/dev/null
wait $!
rm -rf "$home"
`

// launch starts a server on a port that was just free.
func launch(bin string) (*Server, error) {
	home, err := os.MkdirTemp(tempDir(), "salvor-s3-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Server{Endpoint: "http://" + port, AccessKey: rand.Text(), SecretKey: rand.Text(),
		Dir: filepath.Join(home, "buckets"), home: home}
	args := []string{"-c", guard, "sh", home, bin, "--port", port, "--quiet", "--keep-alive", "posix"}
	for _, dir := range []string{"buckets", "versions", "meta"} {
		if err := os.Mkdir(filepath.Join(home, dir), 0o700); err != nil {
			return nil, err
		}
	}
	if !hasAttributes(s.Dir) {
		args = append(args, "--sidecar", filepath.Join(home, "meta"))
	}
	args = append(args, s.Dir)
	s.cmd = exec.Command("sh", args...)
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for us, and the guard sees us end
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err == nil {
		s.pid, err = strconv.Atoi(strings.TrimSpace(line))
	}
	s.client = s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: &s.Endpoint, UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey}, nil
		})})
	if err == nil {
		err = s.await()
	}
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(home, "log"))
		s.close()
		return nil, fmt.Errorf("%w: %.2000s", err, log)
	}
	return s, nil
}

// await waits until the server answers to its own keys: another one may have taken
// the port.
func (s *Server) await() error {
	deadline := time.Now().Add(patience)
	for {
		_, err := s.client.ListBuckets(context.Background(), &s3.ListBucketsInput{})
		if err == nil {
			return nil
		}
		if syscall.Kill(s.pid, 0) != nil || time.Now().After(deadline) {
			return fmt.Errorf("it does not answer: %w", err)
		}
		time.Sleep(pollEvery)
	}
}

func (s *Server) close() {
	_ = s.stdin.Close()
	_ = s.cmd.Wait() // the guard ends it
}

// Pause freezes the server: it takes connections, and answers nothing. Resume goes
// on. The server must not be shared with other tests.
func (s *Server) Pause() error {
	if err := syscall.Kill(s.pid, syscall.SIGSTOP); err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	for !s.frozen() {
		if time.Now().After(deadline) {
			return errors.New("versitygw does not stop")
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// frozen says whether every thread has stopped: the signal takes effect some time
// after it was sent.
func (s *Server) frozen() bool {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.pid))
	if err != nil || len(tasks) == 0 {
		return false
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			return false
		}
		_, state, ok := bytes.Cut(b, []byte(") "))
		if !ok || state[0] != 'T' {
			return false
		}
	}
	return true
}

// Resume lets a server that was paused go on.
func (s *Server) Resume() error { return syscall.Kill(s.pid, syscall.SIGCONT) }

// Bucket makes a new bucket.
func (s *Server) Bucket(t testing.TB) string {
	t.Helper()
	name := "b" + strings.ToLower(rand.Text())
	if _, err := s.client.CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatalf("making a bucket: %v", err)
	}
	return name
}

// URL is the URL of a store in a bucket.
func (s *Server) URL(bucket, prefix string) string {
	return "s3://" + bucket + "/" + prefix + "?endpoint=" + s.Endpoint
}

// Client is a client of the server, for what a store does not show.
func (s *Server) Client() *s3.Client { return s.client }

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// tempDir prefers memory: every object is synced.
func tempDir() string {
	if os.Getenv("TMPDIR") == "" && hasAttributes("/dev/shm") {
		return "/dev/shm"
	}
	return ""
}

// hasAttributes says whether files in a directory can have attributes, in which
// versitygw keeps what belongs to an object.
func hasAttributes(dir string) bool {
	f, err := os.CreateTemp(dir, "salvor-xattr-")
	if err != nil {
		return false
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return unix.Fsetxattr(int(f.Fd()), "user.salvor", []byte("x"), 0) == nil
}
