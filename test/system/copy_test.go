package system

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// restored is a data directory that salvor restore made, with its server.
type restored struct {
	s    *site
	dir  string
	sock string
	res  restoreDoc
}

type restoreDoc struct {
	BackupID        string     `json:"backup_id"`
	Target          string     `json:"target"`
	Timeline        int        `json:"timeline"`
	RestoredBytes   int64      `json:"restored_bytes"`
	FetchedBytes    int64      `json:"fetched_bytes"`
	WrittenBytes    int64      `json:"written_bytes"`
	Seconds         float64    `json:"duration_seconds"`
	RecoveredToLSN  string     `json:"recovered_to_lsn"`
	RecoveredToTime *time.Time `json:"recovered_to_time"`
}

const copyPort = 5432 // the socket's directory is the copy's own, and it has no TCP

// startArgs let a restored server run beside everything else.
func startArgs(sock string) []string {
	return []string{"--start", "--port", "5432", "--socket-dir", sock, "--set", "listen_addresses="}
}

// restore restores and starts; the server is stopped when the test ends.
func (s *site) restore(args ...string) *restored {
	s.t.Helper()
	root := s.cluster.TempDir(s.t)
	r := &restored{s: s, dir: filepath.Join(root, "data"), sock: root}
	s.t.Cleanup(r.stop)
	all := append([]string{"restore", "--to", r.dir, "-o", "json"}, startArgs(r.sock)...)
	res := s.run(append(all, args...)...)
	if res.code != exitDone {
		s.t.Fatalf("%s\nthe server's log:\n%s", res, r.log())
	}
	res.decode(s.t, &r.res)
	return r
}

// restoreCold restores and leaves the start to the test.
func (s *site) restoreCold(args ...string) *restored {
	s.t.Helper()
	root := s.cluster.TempDir(s.t)
	r := &restored{s: s, dir: filepath.Join(root, "data"), sock: root}
	s.t.Cleanup(r.stop)
	s.ok(append([]string{"restore", "--to", r.dir, "-o", "json"}, args...)...).decode(s.t, &r.res)
	if err := os.Mkdir(filepath.Join(r.dir, "log"), 0o700); err != nil && !os.IsExist(err) {
		s.t.Fatal(err)
	}
	return r
}

// leftRecovery waits until the server has promoted itself.
func (r *restored) leftRecovery(t testing.TB) {
	t.Helper()
	r.s.cluster.Eventually("the copy has left recovery", func() bool { return !value[bool](t, r, "SELECT pg_is_in_recovery()") })
}

func (r *restored) log() string {
	b, err := os.ReadFile(filepath.Join(r.dir, "log", "salvor-restore.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (r *restored) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := server.Stop(ctx, r.dir, server.Fast)
	if err != nil && !errors.Is(err, server.ErrNotRunning) && !errors.Is(err, os.ErrNotExist) {
		r.s.t.Errorf("stopping the server on %s: %v", r.dir, err)
	}
}

// start starts the server again on the restored directory.
func (r *restored) start(set map[string]string) {
	r.s.t.Helper()
	if err := r.tryStart(set, nil); err != nil {
		r.s.t.Fatal(err)
	}
}

// tryStart is start for a server that may not come up.
func (r *restored) tryStart(set map[string]string, until func(server.Status) bool) error {
	all := map[string]string{"listen_addresses": ""}
	for k, v := range set {
		all[k] = v
	}
	_, err := server.Start(r.s.t.Context(), server.StartOptions{
		BinDir: r.s.cluster.BinDir, DataDir: r.dir, Port: copyPort, SocketDir: r.sock, Set: all, Until: until,
		LogFile: filepath.Join(r.dir, "log", "salvor-restore.log"), Timeout: patience,
	})
	return err
}

func (r *restored) conn(t testing.TB, database string) *conn.Conn {
	t.Helper()
	c, err := conn.Open(t.Context(), conn.Config{DSN: "sslmode=disable", Host: r.sock, Port: copyPort, User: "postgres", Database: database})
	if err != nil {
		t.Fatalf("%v\n%s", err, r.log())
	}
	t.Cleanup(c.Close)
	return c
}

func (r *restored) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	c := r.conn(t, "postgres")
	defer c.Close()
	if err := c.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// value is the one value of a query on the restored server.
func value[T any](t testing.TB, r *restored, sql string, args ...any) T {
	t.Helper()
	c := r.conn(t, "postgres")
	defer c.Close()
	var v T
	if err := c.Row(t.Context(), sql, args, &v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// checkIndexes compares every index of every database with its table, entry by entry.
func (r *restored) checkIndexes(t testing.TB) {
	t.Helper()
	c := r.s.cluster
	if !c.Can("pg_amcheck") {
		t.Log("this PostgreSQL has no pg_amcheck: indexes are not compared")
		return
	}
	out, err := c.Command("pg_amcheck", "-h", r.sock, "-p", "5432", "--all", "--heapallindexed", "--install-missing", "--no-strict-names").CombinedOutput()
	if err != nil || strings.Contains(string(out), "ERROR") {
		t.Errorf("pg_amcheck: %v\n%s", err, out)
	}
}

// checkPages stops the server and checks every page's checksum.
func (r *restored) checkPages(t testing.TB) {
	t.Helper()
	r.stop()
	c := r.s.cluster
	if !c.Can("pg_checksums") {
		t.Log("this PostgreSQL has no pg_checksums: pages are not checked")
		return
	}
	if out, err := c.Command("pg_checksums", "--check", "-D", r.dir).CombinedOutput(); err != nil {
		t.Errorf("pg_checksums: %v\n%s", err, out)
	}
}
