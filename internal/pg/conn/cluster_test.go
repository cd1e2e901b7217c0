package conn_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/server"
)

// as opens a session of another role.
func as(t *testing.T, c *pgtest.Cluster, role string) *conn.Conn {
	t.Helper()
	cfg := c.Config()
	cfg.User = role
	cn, err := conn.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cn.Close)
	return cn
}

func TestServer(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{WALSegmentMB: 4, Settings: map[string]string{
		"archive_mode": "on", "archive_command": "test -n '%f'", "archive_timeout": "90", "wal_level": "logical",
	}})
	got, err := c.Conn(t).Server(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st := c.Status()
	want := conn.Server{
		Timeline: 1, PostmasterPID: st.PID, DataDirectory: c.Dir,
		ConfigFile: c.Dir + "/postgresql.conf", HBAFile: c.Dir + "/pg_hba.conf", IdentFile: c.Dir + "/pg_ident.conf",
		SocketDirectories: []string{c.SocketDir}, Port: c.Port(),
		WALLevel: "logical", ArchiveMode: "on", ArchiveCommand: "test -n '%f'", ArchiveTimeout: 90 * time.Second,
		FullPageWrites: true, DataChecksums: "on", BlockSize: 8192, WALBlockSize: 8192, WALSegmentSize: 4 << 20,
		RelSegmentBlocks: 131072, MaxWALSenders: 10, CheckpointTimeout: 5 * time.Minute, ServerEncoding: "UTF8",
		User: "postgres", Superuser: true, CanBackup: true, CanCheckpoint: true, IsReplication: true,
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(conn.Server{}, "Version", "SystemID", "PostmasterStart")); d != "" {
		t.Error(d)
	}
	if got.Version.Major() != c.Major {
		t.Errorf("version %s", got.Version)
	}
	if d := got.PostmasterStart.Sub(st.Started).Abs(); d > 2*time.Second {
		t.Errorf("the postmaster started at %s, or at %s", got.PostmasterStart, st.Started)
	}
	if !c.Can("pg_controldata") {
		return
	}
	control, err := c.Command("pg_controldata").CombinedOutput()
	if err != nil || !strings.Contains(string(control), fmt.Sprintf("system identifier:           %s\n", got.SystemID)) {
		t.Errorf("system identifier %s, %v, and pg_controldata says\n%s", got.SystemID, err, control)
	}
}

func TestSessionDoesNotDependOnConfiguration(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Settings: map[string]string{"idle_session_timeout": "100ms", "statement_timeout": "100ms"}})
	c.Exec(`CREATE SCHEMA evil`)
	c.Exec(`CREATE FUNCTION evil.pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true'`)
	c.Exec(`ALTER ROLE postgres SET search_path = evil, pg_catalog`)
	c.Exec(`ALTER DATABASE postgres SET lock_timeout = '1ms'`)
	c.Exec(`ALTER ROLE postgres IN DATABASE postgres SET client_encoding = 'LATIN1'`)
	c.Exec(`ALTER ROLE postgres SET default_transaction_read_only = on`)
	cn := c.Conn(t)
	for name, want := range map[string]string{
		"search_path": "pg_catalog", "statement_timeout": "0", "lock_timeout": "0", "idle_session_timeout": "0",
		"idle_in_transaction_session_timeout": "0", "max_parallel_workers_per_gather": "0", "client_encoding": "UTF8",
		"default_transaction_read_only": "off", "application_name": "pgtest", "TimeZone": "UTC",
	} {
		var got string
		if err := cn.Row(t.Context(), "SELECT current_setting($1)", []any{name}, &got); err != nil || got != want {
			t.Errorf("%s is %q, %v; want %q", name, got, err, want)
		}
	}
	s, err := cn.Server(t.Context())
	if err != nil || s.InRecovery {
		t.Errorf("in recovery %v, %v", s.InRecovery, err)
	}
	if err := cn.Exec(t.Context(), "SELECT pg_sleep(0.3)"); err != nil {
		t.Errorf("a statement longer than statement_timeout: %v", err)
	}
	time.Sleep(300 * time.Millisecond) // longer than idle_session_timeout
	if err := cn.Ping(t.Context()); err != nil {
		t.Errorf("after a rest longer than idle_session_timeout: %v", err)
	}
}

func TestBackup(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	cn := c.Conn(t)
	b, err := cn.StartBackup(t.Context(), "it's a label", true)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort(t.Context())
	c.Exec("CREATE TABLE dish AS SELECT generate_series(1, 1000)")
	if err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	r, err := b.Stop(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if b.Timeline != 1 || b.FromStandby || r.Timeline != 1 || r.StopLSN <= b.StartLSN || r.StopLSN > c.LSN() {
		t.Errorf("backup %+v, result %+v", b, r)
	}
	for _, line := range []string{fmt.Sprintf("START WAL LOCATION: %s (file ", b.StartLSN), "\nLABEL: it's a label\n", "\nBACKUP FROM: primary\n"} {
		if !strings.Contains(string(r.Label), line) {
			t.Errorf("the label lacks %q:\n%s", line, r.Label)
		}
	}
	if len(r.TablespaceMap) != 0 {
		t.Errorf("tablespace map %q", r.TablespaceMap)
	}
	if b.StartedAt.After(r.StopTime) || time.Since(b.StartedAt).Abs() > time.Hour || b.StartedAt.Location() != time.UTC {
		t.Errorf("started at %s, stopped at %s", b.StartedAt, r.StopTime)
	}
	if _, err := b.Stop(t.Context(), false); !errors.Is(err, conn.ErrBackupOver) {
		t.Errorf("a second stop: %v", err)
	}
	if err := b.Ping(t.Context()); !errors.Is(err, conn.ErrBackupOver) {
		t.Errorf("a ping after stop: %v", err)
	}
	// The session is good for another one.
	if b, err = cn.StartBackup(t.Context(), "second", true); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stop(t.Context(), false); err != nil {
		t.Error(err)
	}
}

func TestBackupKeepsBytesOfPaths(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	dir := c.TempDir(t)
	c.Exec("CREATE TABLESPACE food LOCATION '" + dir + "'")
	c.Exec("CREATE DATABASE latin ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
	cfg := c.Config()
	cfg.Database = "latin"
	cn, err := conn.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cn.Close)
	b, err := cn.StartBackup(t.Context(), "café", true)
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Stop(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	// The server keeps the label in the database's encoding, and writes it so.
	if !strings.Contains(string(r.Label), "LABEL: caf\xe9\n") {
		t.Errorf("label %q", r.Label)
	}
	oid := pgtest.QueryValue[uint32](c, "SELECT oid FROM pg_tablespace WHERE spcname = 'food'")
	if got, want := string(r.TablespaceMap), fmt.Sprintf("%d %s\n", oid, dir); got != want {
		t.Errorf("map %q, want %q", got, want)
	}
	spaces, err := cn.Tablespaces(t.Context())
	if d := cmp.Diff([]conn.Tablespace{{OID: pg.OID(oid), Name: "food", Location: dir}}, spaces); err != nil || d != "" {
		t.Error(err, d)
	}
}

func TestStartBackupCanBeCancelledInItsCheckpoint(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Settings: map[string]string{"checkpoint_timeout": "1h", "log_checkpoints": "on"}})
	c.Exec("CREATE TABLE dish AS SELECT generate_series(1, 200000) AS id") // dirty pages, written slowly
	cn := c.Conn(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := cn.StartBackup(ctx, "slow", false)
		done <- err
	}()
	pid := cn.BackendPID()
	c.Eventually("the backup waits for its checkpoint", func() bool {
		return pgtest.QueryValue[bool](c, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event IN ('CheckpointDone', 'CheckpointStart'))", pid)
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || conn.Unavailable(err) {
		t.Fatalf("got %v", err)
	}
	c.Eventually("the server has ended the session", func() bool {
		return pgtest.QueryValue[int](c, "SELECT count(*)::int FROM pg_stat_activity WHERE pid = $1", pid) == 0
	})
	if err := cn.Ping(t.Context()); !errors.Is(err, conn.ErrLost) {
		t.Errorf("the session lives on: %v", err)
	}
}

func TestBackupAndItsSessionEndTogether(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	cn := c.Conn(t)
	b, err := cn.StartBackup(t.Context(), "lost", true)
	if err != nil {
		t.Fatal(err)
	}
	if !pgtest.QueryValue[bool](c, "SELECT pg_terminate_backend($1, 10000)", cn.BackendPID()) {
		t.Fatal("the session does not end")
	}
	if err := b.Ping(t.Context()); !errors.Is(err, conn.ErrLost) || !conn.Unavailable(err) {
		t.Errorf("ping: %v", err)
	}
	if _, err := b.Stop(t.Context(), false); !errors.Is(err, conn.ErrLost) || !conn.Unavailable(err) {
		t.Errorf("stop: %v", err)
	}

	cn = c.Conn(t)
	if b, err = cn.StartBackup(t.Context(), "aborted", true); err != nil {
		t.Fatal(err)
	}
	b.Abort(t.Context())
	c.Eventually("the session has ended", func() bool {
		return pgtest.QueryValue[int](c, "SELECT count(*)::int FROM pg_stat_activity WHERE pid = $1", cn.BackendPID()) == 0
	})
}

func TestBackupFromStandbyAndItsPromotion(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	s := c.Standby(t, "one")
	cn := s.Conn(t)
	before, err := cn.Server(t.Context())
	if err != nil || !before.InRecovery || before.Timeline != 1 {
		t.Fatalf("%+v, %v", before, err)
	}
	if _, err := cn.CurrentLSN(t.Context()); !errors.Is(err, conn.ErrInRecovery) {
		t.Errorf("current position of a standby: %v", err)
	}
	if _, err := cn.SwitchWAL(t.Context()); !errors.Is(err, conn.ErrInRecovery) {
		t.Errorf("switching WAL on a standby: %v", err)
	}
	c.Exec("CHECKPOINT") // so that there is something to restart from
	s.WaitReplayed(c.LSN())
	if lsn, err := cn.ReplayLSN(t.Context()); err != nil || lsn < c.LSN() {
		t.Errorf("replayed to %s, %v", lsn, err)
	}
	b, err := cn.StartBackup(t.Context(), "standby", true)
	if err != nil {
		t.Fatal(err)
	}
	if !b.FromStandby || b.SystemID != before.SystemID || b.Timeline != 1 {
		t.Errorf("backup %+v", b)
	}
	if r, err := b.Stop(t.Context(), false); err != nil || !strings.Contains(string(r.Label), "BACKUP FROM: standby\n") {
		t.Errorf("label %q, %v", r.Label, err)
	}
	if b, err = cn.StartBackup(t.Context(), "promoted", true); err != nil {
		t.Fatal(err)
	}
	s.Promote()
	if err := b.Ping(t.Context()); !errors.Is(err, conn.ErrRoleChanged) {
		t.Errorf("ping after the promotion: %v", err)
	}
	if _, err := b.Stop(t.Context(), false); !errors.Is(err, conn.ErrRoleChanged) {
		t.Errorf("stop after the promotion: %v", err)
	}
	// The new timeline is known before the checkpoint that follows a promotion.
	after, err := s.Conn(t).Server(t.Context())
	if err != nil || after.InRecovery || after.Timeline != 2 {
		t.Errorf("after the promotion: %+v, %v", after, err)
	}
}

func TestQuestions(t *testing.T) {
	t.Parallel()
	archive := map[string]string{"archive_mode": "on", "archive_command": "true", "wal_level": "logical", "max_prepared_transactions": "7"}
	c := pgtest.New(t, pgtest.Options{Settings: archive})
	ctx := t.Context()
	cn := c.Conn(t)
	c.Exec("CREATE DATABASE food")
	c.Exec("SELECT pg_create_physical_replication_slot('phys', true)")
	c.Exec("SELECT pg_create_logical_replication_slot('logi', 'test_decoding')")

	point, err := cn.CreateRestorePoint(ctx, "before lunch")
	if err != nil {
		t.Fatal(err)
	}
	if lsn, err := cn.CurrentLSN(ctx); err != nil || lsn < point {
		t.Errorf("at %s after %s, %v", lsn, point, err)
	}
	var flushed string
	if err := cn.Row(ctx, "SELECT pg_current_wal_flush_lsn()::text", nil, &flushed); err != nil {
		t.Fatal(err)
	}
	if lsn, err := pg.ParseLSN(flushed); err != nil || lsn < point {
		t.Errorf("flushed up to %s, and the restore point ends at %s, %v", lsn, point, err)
	}
	if err := cn.Checkpoint(ctx); err != nil {
		t.Error(err)
	}
	end, err := cn.SwitchWAL(ctx)
	if err != nil || end < point {
		t.Fatalf("switched at %s, %v", end, err)
	}
	segment := pg.SegmentBefore(1, end, 16<<20).Name(16 << 20)
	c.WaitArchived(segment)
	a, err := cn.Archiver(ctx)
	if err != nil || a.ArchivedCount < 1 || a.LastArchivedWAL != segment || a.LastArchivedAt.IsZero() || a.FailedCount != 0 || !a.LastFailedAt.IsZero() {
		t.Errorf("archiver %+v, %v", a, err)
	}
	c.Set("archive_command", "false")
	c.SwitchWAL()
	c.Exec("SELECT pg_create_restore_point('x'); SELECT pg_switch_wal()")
	c.Eventually("archiving fails", func() bool {
		a, err = cn.Archiver(ctx)
		return err == nil && a.FailedCount > 0 && a.LastFailedWAL != "" && !a.LastFailedAt.IsZero()
	})

	slots, err := cn.ReplicationSlots(ctx)
	if err != nil || len(slots) != 2 || slots[0].RestartLSN == 0 || slots[1].RestartLSN == 0 {
		t.Fatalf("slots %+v, %v", slots, err)
	}
	want := []conn.ReplicationSlot{
		{Name: "logi", Kind: "logical", Plugin: "test_decoding", Database: "postgres"},
		{Name: "phys", Kind: "physical"},
	}
	if d := cmp.Diff(want, slots, cmpopts.IgnoreFields(conn.ReplicationSlot{}, "RestartLSN")); d != "" {
		t.Error(d)
	}

	dbs, err := cn.Databases(ctx)
	var names []string
	for _, d := range dbs {
		names = append(names, fmt.Sprintf("%s %v %v %v", d.Name, d.OID > 0, d.IsTemplate, d.AllowConnections))
	}
	wantNames := []string{"template1 true true true", "template0 true true false", "postgres true false true", "food true false true"}
	if d := cmp.Diff(wantNames, names, cmpopts.SortSlices(strings.Compare)); err != nil || d != "" {
		t.Error(err, d)
	}
	if n, err := cn.DatabaseSize(ctx); err != nil || n < 20<<20 || n > 200<<20 {
		t.Errorf("size %d, %v", n, err)
	}

	req, err := cn.RequiredSettings(ctx)
	if d := cmp.Diff(conn.RequiredSettings{MaxConnections: 40, MaxWorkerProcesses: 8, MaxWALSenders: 10, MaxPreparedTransactions: 7, MaxLocksPerTransaction: 64}, req); err != nil || d != "" {
		t.Error(err, d)
	}

	col, err := cn.Collations(ctx)
	if err != nil || len(col.Databases) != 4 || col.Databases[0].Database != "food" || col.Databases[0].Provider != "libc" || col.Databases[0].Collate != "C.UTF-8" {
		t.Errorf("collations %+v, %v", col.Databases, err)
	}
	for _, p := range col.Providers {
		if p.Version == "" || p.Provider != "icu" && p.Provider != "libc" && p.Provider != "builtin" {
			t.Errorf("provider %+v", p)
		}
	}

	c.Set("synchronous_standby_names", "nobody") // commits hang from here on
	if _, err := c.Conn(t).CreateRestorePoint(ctx, "alone"); err != nil {
		t.Error(err)
	}
}

func TestGrantsAreWhatARoleNeeds(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	const role = `ba"ckup`
	c.Exec(`CREATE ROLE "ba""ckup" LOGIN`)
	ctx := t.Context()

	poor := as(t, c, role)
	s, err := poor.Server(ctx)
	var missing *conn.MissingPrivilege
	if !errors.As(err, &missing) || missing.Role != role || !conn.PermissionDenied(err) {
		t.Errorf("without grants: %v", err)
	}
	if s.SystemID == 0 || s.DataDirectory != "" || s.CanBackup || s.CanCheckpoint || s.IsReplication || s.Superuser || s.WALSegmentSize == 0 {
		t.Errorf("without grants: %+v", s)
	}
	for name, err := range map[string]error{
		"StartBackup":        second(poor.StartBackup(ctx, "x", true)),
		"SwitchWAL":          second(poor.SwitchWAL(ctx)),
		"CreateRestorePoint": second(poor.CreateRestorePoint(ctx, "x")),
	} {
		if !conn.PermissionDenied(err) || conn.Unavailable(err) || conn.AuthFailed(err) {
			t.Errorf("%s without grants: %v", name, err)
		}
	}

	c.Exec(conn.ShowSQLGrants(role, poor.Version()))
	made := role + ` "made" of 'odd' signs`
	for _, want := range []bool{false, true} {
		if is, err := poor.RoleExists(ctx, made); err != nil || is != want {
			t.Errorf("the role exists: %v, %v, want %v", is, err, want)
		}
		if !want {
			c.Exec(conn.ShowSQLRole(made, poor.Version()))
		}
	}
	if s, err := as(t, c, made).Server(ctx); err != nil || !s.CanBackup || !s.IsReplication || s.Superuser {
		t.Errorf("a role that was made: %+v, %v", s, err)
	}
	cn := as(t, c, role)
	s, err = cn.Server(ctx)
	if err != nil || s.DataDirectory != c.Dir || !s.CanBackup || !s.IsReplication || s.Superuser {
		t.Errorf("with grants: %+v, %v", s, err)
	}
	b, err := cn.StartBackup(ctx, "x", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stop(ctx, false); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"SwitchWAL":          second(cn.SwitchWAL(ctx)),
		"CreateRestorePoint": second(cn.CreateRestorePoint(ctx, "x")),
		"Archiver":           second(cn.Archiver(ctx)),
		"Tablespaces":        second(cn.Tablespaces(ctx)),
		"ReplicationSlots":   second(cn.ReplicationSlots(ctx)),
		"DatabaseSize":       second(cn.DatabaseSize(ctx)),
		"Collations":         second(cn.Collations(ctx)),
		"RequiredSettings":   second(cn.RequiredSettings(ctx)),
	} {
		if err != nil {
			t.Errorf("%s with grants: %v", name, err)
		}
	}
	if c.Major >= 15 {
		if err := cn.Checkpoint(ctx); err != nil || !s.CanCheckpoint {
			t.Errorf("checkpoint with grants: %v", err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestAuthFailed(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	c.Exec("CREATE ROLE chef LOGIN PASSWORD 's3cr3t'")
	c.SetHBA("local all all trust", "host all chef 127.0.0.1/32 scram-sha-256", "host all postgres 127.0.0.1/32 trust")
	cfg := c.Config()
	cfg.User, cfg.Database, cfg.Password = "chef", "postgres", "s3cr3t"
	cn, err := conn.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cn.Close()
	if got := cn.Config(); got.Password != "" || got.User != "chef" || got.Port != c.Port() {
		t.Errorf("config %+v", got)
	}
	for name, change := range map[string]func(*conn.Config){
		"wrong password": func(c *conn.Config) { c.Password = "wr0ng" },
		"unknown user":   func(c *conn.Config) { c.User = "wr0ng" },
	} {
		bad := cfg
		change(&bad)
		_, err := conn.Open(t.Context(), bad)
		if !conn.AuthFailed(err) || conn.Unavailable(err) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, want := range []string{"127.0.0.1", fmt.Sprint(c.Port()), bad.User} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not name %s", name, err, want)
			}
		}
		if strings.Contains(err.Error(), bad.Password) {
			t.Errorf("%s: %v shows the password", name, err)
		}
	}
}

func TestUnavailable(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	cfg := c.Config()
	s := c.Standby(t, "warm")
	s.Stop(server.Fast)
	s.Set("hot_standby", "off")
	s.Start()
	if _, err := conn.Open(t.Context(), s.Config()); !conn.Unavailable(err) || conn.AuthFailed(err) {
		t.Errorf("in recovery: %v", err)
	}
	cn := c.Conn(t)
	c.Stop(server.Immediate)
	if err := cn.Ping(t.Context()); !conn.Unavailable(err) || !errors.Is(err, conn.ErrLost) {
		t.Errorf("a session of a server that ended: %v", err)
	}
	if _, err := conn.Open(t.Context(), cfg); !conn.Unavailable(err) {
		t.Errorf("nobody listens: %v", err)
	}

	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never says a word
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cfg.Port = silent.Addr().(*net.TCPAddr).Port
	cfg.ConnectTimeout = 50 * time.Millisecond
	if _, err := conn.Open(t.Context(), cfg); !conn.Unavailable(err) {
		t.Errorf("a server that says nothing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := conn.Open(ctx, cfg); !errors.Is(err, context.Canceled) || conn.Unavailable(err) {
		t.Errorf("cancelled: %v", err)
	}
	cfg.Host = "/nowhere"
	if _, err := conn.Open(t.Context(), cfg); !conn.Unavailable(err) || !strings.Contains(err.Error(), "/nowhere/.s.PGSQL") {
		t.Errorf("no socket: %v", err)
	}
}

func TestCallsWaitForEachOtherAndCloseEndsTheWait(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	cn := c.Conn(t)
	errs := make(chan error)
	for range 4 {
		go func() { errs <- cn.Exec(t.Context(), "SELECT pg_sleep(0.01)") }()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	go func() { errs <- cn.Exec(t.Context(), "SELECT pg_sleep(60)") }()
	c.Eventually("the session is busy", func() bool {
		return pgtest.QueryValue[bool](c, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep')", cn.BackendPID())
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := cn.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for the session: %v", err)
	}
	cn.Close()
	if err := <-errs; !errors.Is(err, conn.ErrLost) {
		t.Errorf("the question that was closed under: %v", err)
	}
	cn.Close()
}
