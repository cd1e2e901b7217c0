package s3test

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Rule is what befalls one connection. The zero value passes everything on.
type Rule struct {
	// Latency is waited before each piece of at most 16 KiB, either way.
	Latency time.Duration
	// Rate is the most bytes a second, each way; 0 is no limit.
	Rate int
	// Up and Down are after how many bytes, sent to the server or to the client,
	// the connection ends; 0 is never.
	Up, Down int64
	// End is how it ends.
	End End
}

// End is how a connection ends.
type End int

// The ways to end.
const (
	Close End = iota // in order, as a process that exits
	Reset            // by RST, as a machine that has started anew
	Hole             // never: it stays open and swallows everything, as a machine that is gone
)

// Proxy passes connections on to a server.
type Proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu     sync.Mutex
	rules  []Rule
	all    *Rule
	count  int
	conns  map[net.Conn]bool
	cut    bool
	closed bool
}

// NewProxy listens on a loopback port, and passes on to the server at an endpoint
// (http://HOST:PORT). It ends with the test.
func NewProxy(t testing.TB, endpoint string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, target: strings.TrimPrefix(endpoint, "http://"), conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Endpoint is where clients connect to.
func (p *Proxy) Endpoint() string { return "http://" + p.listener.Addr().String() }

// Next lays down the rules for the next connections, one each. Those after them
// are passed on as they are.
func (p *Proxy) Next(rules ...Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.all = rules, nil
}

// All lays down the rule for every connection from now on.
func (p *Proxy) All(r Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.all = nil, &r
}

// Connections is how many there were.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Cut is an outage of the network: every connection ends by RST, and so does each new
// one, until Mend.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.conns {
		reset(c)
	}
	clear(p.conns)
}

// Mend is the end of an outage.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	_ = p.listener.Close()
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// keep notes a connection, to be closed with the proxy.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.cut {
		reset(c)
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) rule() Rule {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	if p.all != nil {
		return *p.all
	}
	if len(p.rules) == 0 {
		return Rule{}
	}
	r := p.rules[0]
	p.rules = p.rules[1:]
	return r
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		r := p.rule()
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.keep(client) || !p.keep(server) {
			reset(client)
			reset(server)
			continue
		}
		if r.Rate > 0 {
			_ = client.(*net.TCPConn).SetReadBuffer(128 << 10) // or the kernel takes a megabyte at once
		}
		l := &link{client: client, server: server}
		p.wg.Go(func() { l.pump(server, client, r.Up, r) })
		p.wg.Go(func() { l.pump(client, server, r.Down, r) })
	}
}

// link is a connection, passed on.
type link struct{ client, server net.Conn }

// pump passes bytes on one way until one side ends, or the rule's number of them.
func (l *link) pump(to, from net.Conn, left int64, r Rule) {
	limited := left > 0
	buf := make([]byte, 16<<10)
	for {
		p := buf
		if limited {
			p = p[:min(int64(len(p)), left)]
		}
		n, err := from.Read(p)
		time.Sleep(r.Latency)
		if r.Rate > 0 {
			time.Sleep(time.Duration(n) * time.Second / time.Duration(r.Rate))
		}
		if _, werr := to.Write(p[:n]); err == nil {
			err = werr
		}
		left -= int64(n)
		if limited && left == 0 && err == nil {
			l.end(r.End, from)
			return
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				_ = to.(*net.TCPConn).CloseWrite()
				return
			}
			_ = to.Close()
			_ = from.Close()
			return
		}
	}
}

func (l *link) end(how End, from net.Conn) {
	switch how {
	case Hole:
		_, _ = io.Copy(io.Discard, from) // until the client has had enough
		return
	case Reset:
		_ = l.client.(*net.TCPConn).SetLinger(0)
	}
	_ = l.client.Close()
	_ = l.server.Close()
}
