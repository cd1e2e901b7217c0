package pgtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Ports are taken below the range from which Linux serves outgoing connections
// (32768 and up), so that none of those is in the way.
const (
	portFirst = 20000
	portCount = 12000
)

// port is a TCP port that no other cluster of these tests uses: a file lock
// says so, for as long as it is held.
type port struct {
	number int
	lock   *os.File
}

// takePort finds a port that is free now. Programs that know nothing of the
// locks may still take it before the server does.
func takePort() (*port, error) {
	dir, err := sharedDir("ports")
	if err != nil {
		return nil, err
	}
	start := rand.IntN(portCount)
	for i := range portCount {
		n := portFirst + (start+i)%portCount
		f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(n)), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil && portFree(n) {
			return &port{n, f}, nil
		} else if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, err
		}
		f.Close()
	}
	return nil, fmt.Errorf("no port from %d to %d is free", portFirst, portFirst+portCount-1)
}

func (p *port) release() { p.lock.Close() }

func portFree(n int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(n)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}
