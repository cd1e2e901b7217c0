package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

const (
	// A segment is small, so that there are many, and an archive of a long run fits.
	segmentMB = 4
	// The load is light: rounds are for what is killed.
	loadPause = 40 * time.Millisecond
)

// site is a cluster under load, its two repositories, and what is known of them.
type site struct {
	t       testing.TB
	cluster *pgtest.Cluster
	db      *conn.Conn // to ask the server
	watch   *watcher
	dir     string // configuration, key and repositories lie here
	work    string // and here what operations write
	config  string
	repos   []*repository
	load    *pgtest.Load
	road    string // what the table that never changes holds

	rng    *rand.Rand
	doing  string                   // for failures
	usual  map[string]time.Duration // how long an operation takes
	tally  map[string]int           // how often an operation was cut where
	failed int64                    // archiving attempts that the server may count as failed
	wal    map[string][]byte        // segments that the server has archived: their digest
	made   int                      // directories in work
}

func newSite(t testing.TB) *site {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{WALSegmentMB: segmentMB, Settings: map[string]string{
		"archive_mode": "on",
		// What was archived stays in pg_wal for a while, to be compared.
		"wal_keep_size": "256MB", "min_wal_size": "64MB", "max_wal_size": "256MB",
	}})
	s := &site{t: t, cluster: c, db: c.Conn(t), dir: c.TempDir(t), work: c.TempDir(t), usual: map[string]time.Duration{}, tally: map[string]int{}, wal: map[string][]byte{}}
	s.config = filepath.Join(s.dir, "salvor.yaml")
	s.doing = "setting up"
	dsn := fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", c.SocketDir, c.Port())
	near, far := filepath.Join(s.dir, "near"), filepath.Join(s.dir, "far")
	var done struct {
		ArchiveCommand string `json:"archive_command"`
	}
	res := s.ok("init", dsn, "--repo", "near=file://"+near, "--repo", "far=file://"+far, "-o", "json")
	if !res.document(&done) || done.ArchiveCommand == "" {
		s.failf("init gave no archive_command: %s", res)
	}
	c.Exec("CREATE TABLE road AS SELECT i, repeat(md5(i::text), 8) AS pad FROM generate_series(1, 30000) i")
	s.road = value[string](s, roadSQL)
	c.Set("archive_command", done.ArchiveCommand)
	s.repos = openRepositories(t, s.config)
	s.watch = newWatcher(t)
	s.watch.add(s.dir)
	s.watch.add(s.work)
	s.load = c.LightLoad(t, 1, loadPause)
	return s
}

const roadSQL = "SELECT count(*) || ' ' || sum(hashtext(pad)) FROM public.road"

// value is the one value of a query on the server.
func value[T any](s *site, sql string, args ...any) T {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var v T
	if err := s.db.Row(ctx, sql, args, &v); err != nil {
		s.failf("%s: %v", sql, err)
	}
	return v
}

func (s *site) exec(sql string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.db.Exec(ctx, sql); err != nil {
		s.failf("%s: %v", sql, err)
	}
}

// await waits until cond holds.
func (s *site) await(what string, cond func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.failf("after %s still not: %s", patience, what)
		}
	}
}

// failf ends the test, and says what was being done.
func (s *site) failf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s:\n"+format, append([]any{s.doing}, args...)...)
}

// fresh names a directory that is not there yet.
func (s *site) fresh() string {
	s.made++
	return filepath.Join(s.work, fmt.Sprintf("d%d", s.made))
}

// freshDir makes one, for the server's user.
func (s *site) freshDir() string {
	s.t.Helper()
	dir := s.fresh()
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = os.Chown(dir, s.cluster.UID, s.cluster.GID)
	}
	if err != nil {
		s.failf("%v", err)
	}
	return dir
}

func (s *site) remove(dir string) {
	s.t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		s.failf("%v", err)
	}
}
