package walrectest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// Settings make a cluster write and keep all that Run brings about.
func Settings() map[string]string {
	return map[string]string{
		"wal_level":                 "logical",
		"wal_keep_size":             "1GB",
		"max_prepared_transactions": "5",
		"track_commit_timestamp":    "on",
		"autovacuum":                "off",
		"max_wal_size":              "2GB",
		"checkpoint_timeout":        "1h",
	}
}

// tables makes a relation of every kind and of every index type.
var tables = []string{
	"create extension bloom",
	"create extension pg_visibility",
	"create table t (id int primary key, n int, s text, a int[], p point, j jsonb) with (fillfactor = 60)",
	"create index t_hash on t using hash (s)",
	"create index t_gin on t using gin (a)",
	"create index t_gist on t using gist (p)",
	"create index t_spgist on t using spgist (p)",
	"create index t_brin on t using brin (n) with (pages_per_range = 2)",
	"create index t_bloom on t using bloom (n)",
	"create sequence seq",
	"create unlogged table u (i int primary key, s text)",
	"create table multi (id int primary key, v int)",
	"create table big (i int, s text)",
	"create table parted (i int) partition by range (i)",
	"create table parted_1 partition of parted for values from (0) to (1000)",
	"create materialized view mv as select g from generate_series(1, 300) g with no data",
}

const insertRows = `insert into t select g, g %% 97, md5(g::text), array[g %% 13, g %% 17, g], point(g %% 71, g %% 53), jsonb_build_object('g', g)
	from generate_series(%d, %d) g`

// changes go through the ways that rows, indexes and files change.
var changes = []string{
	fmt.Sprintf(insertRows, 1, 1500),
	"insert into u select g, 'x' from generate_series(1, 300) g",
	"insert into multi select g, 0 from generate_series(1, 50) g",
	"insert into parted select g from generate_series(1, 900) g",
	"select nextval('seq') from generate_series(1, 100)",
	"checkpoint",
	"update t set n = n + 1 where id % 3 = 0",
	"update t set s = md5(s), a = a || 99, p = point(id, id) where id % 5 = 0",
	"select count(*) from t",
	"begin; select * from multi where id = 1 for share; savepoint a; update multi set v = v + 1 where id = 1; commit",
	"begin; select * from multi where id = 2 for no key update; savepoint a; select * from multi where id = 2 for update; commit",
	"insert into multi values (3, 1) on conflict (id) do update set v = 7",
	"insert into multi values (777, 1) on conflict do nothing",
	"delete from t where id % 4 = 0",
	"vacuum t",
	"vacuum (freeze, analyze) t",
	"select brin_desummarize_range('t_brin', 0); select brin_summarize_new_values('t_brin')",
	"select gin_clean_pending_list('t_gin')",
	fmt.Sprintf(insertRows, 2001, 2600),
	"delete from t where id > 700",
	"vacuum t", // cuts the end of t off
	"reindex index t_gist",
	"create index t_more on t (n, s); drop index t_more",
	"cluster t using t_pkey",
	"refresh materialized view mv; refresh materialized view mv",
	"alter table u set logged",
	"alter table multi set unlogged",
	"alter table multi set logged",
	"begin; create table gone as select generate_series(1, 200); truncate gone; insert into gone select 1; rollback",
	"begin; truncate big; insert into big select g, 'y' from generate_series(1, 500) g; commit",
	"truncate parted",
	"vacuum full big",
	"vacuum full pg_class",
	"copy big (i) from program 'for i in 1 2 3 4 5 6 7 8 9; do echo $i; done'",
	"begin; create table p1 as select generate_series(1, 300); prepare transaction 'kept'",
	"commit prepared 'kept'",
	"begin; drop table p1; create table p2 as select 1; prepare transaction 'dropped'",
	"commit prepared 'dropped'",
	"begin; create table p3 as select 1; prepare transaction 'undone'",
	"rollback prepared 'undone'",
	"select pg_truncate_visibility_map('t')",
	"select pg_logical_emit_message(true, 'x', repeat('m', 30000)), pg_logical_emit_message(false, 'x', repeat('m', 3000))",
	"select pg_replication_origin_create('o'), pg_replication_origin_advance('o', '0/1000000')",
	"select pg_replication_origin_drop('o')",
	"select pg_create_restore_point('here')",
	"do $$ begin for i in 1..32800 loop begin insert into big values (i, null); exception when others then null; end; end loop; end $$",
	"delete from big",
	"vacuum big",
}

// Run goes through the workload on a running cluster made with Settings. The
// cluster is restarted on the way, and runs at the end. Dir is for a tablespace.
func Run(t testing.TB, c *pgtest.Cluster, dir string) {
	t.Helper()
	exec(t, c, tables)
	for _, method := range []string{"off", "pglz", "lz4", "zstd"} {
		if method == "pglz" && c.Major == 14 {
			method = "on"
		}
		set := "set wal_compression = " + method
		if err := c.TryExec(set); err == nil { // not every build has every method
			exec(t, c, []string{set, "checkpoint", "update t set n = n - 1", fmt.Sprintf(insertRows, 9000, 9100), "delete from t where id >= 9000"})
		}
	}
	exec(t, c, changes)
	databases(t, c, dir)
	exec(t, c, []string{"alter system set max_connections = 41", "alter system set full_page_writes = off"})
	c.Restart()
	exec(t, c, []string{
		"update t set n = n + 2",
		"alter system set full_page_writes = on", "select pg_reload_conf()",
		"create table last as select generate_series(1, 900) g",
		"checkpoint", "delete from last where g > 10", "vacuum last",
	})
}

// later changes some of what Run left, and lets most of it be.
var later = []string{
	"update t set n = n + 1 where id between 100 and 120",
	"select count(*) from t where n > 3", // sets hints
	"insert into t select g, g, 'later', array[g], point(g, g), null from generate_series(20001, 20040) g",
	"delete from t where id between 200 and 230",
	"vacuum t",
	"create table fresh as select g, repeat('f', 200) from generate_series(1, 2000) g",
	"create index on fresh (g)",
	"delete from fresh where g > 300", "vacuum fresh",
	"insert into fresh select g, repeat('g', 200) from generate_series(1, 1500) g",
	"delete from last where g > 5", "vacuum last", "insert into last select g from generate_series(1, 700) g",
	"begin; truncate parted; insert into parted select g from generate_series(1, 700) g; commit",
	"begin; insert into multi values (5001, 1); savepoint a; drop table mv_base; rollback to a; commit",
	"drop table big",
	"vacuum full multi",
	"reindex index t_pkey",
	"select nextval('seq') from generate_series(1, 40)",
	"create unlogged table u2 (i int primary key); insert into u2 select generate_series(1, 100)",
	"begin; create table p9 as select generate_series(1, 500); prepare transaction 'nine'", "checkpoint", "commit prepared 'nine'",
}

// Later goes through a second workload, on a cluster that Run left. The server
// crashes on the way, and runs at the end.
func Later(t testing.TB, c *pgtest.Cluster, dir string) {
	t.Helper()
	exec(t, c, []string{
		"update t set n = n + 1 where id % 50 = 0",
		"create table mv_base as select generate_series(1, 300)",
		"select count(*) from multi",
	})
	c.Kill9()
	c.Start()
	exec(t, c, later)
	databases(t, c, dir)
	exec(t, c, []string{"update t set s = 'last' where id < 20", "select count(*) from fresh"})
}

// databases makes, moves and drops databases and tablespaces.
func databases(t testing.TB, c *pgtest.Cluster, dir string) {
	t.Helper()
	statements := []string{
		"create tablespace fast location '" + dir + "'",
		"create table in_fast (i int primary key) tablespace fast",
		"insert into in_fast select generate_series(1, 300)",
		"alter table in_fast set tablespace pg_default",
		"alter table in_fast set tablespace fast",
	}
	if c.Major == 14 {
		statements = append(statements, "create database copied", "create database logged")
	} else {
		statements = append(statements, "create database copied strategy file_copy", "create database logged strategy wal_log")
	}
	exec(t, c, append(statements,
		"alter database copied set tablespace fast",
		"drop database logged",
		"drop database copied",
		"drop table in_fast",
		"drop tablespace fast"))
}

// exec runs statements one by one, in one session.
func exec(t testing.TB, c *pgtest.Cluster, statements []string) {
	t.Helper()
	cn, err := conn.Open(t.Context(), c.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer cn.Close()
	for _, s := range append([]string{"set search_path = public"}, statements...) {
		if err := cn.Exec(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// Segments reads the WAL of a timeline from pg_wal, whole segments in order, from
// the one that begins at from to the one that ends at to.
func Segments(dir string, tli pg.Timeline, from, to pg.LSN, segmentSize uint32) ([]byte, []string, error) {
	var all []byte
	var names []string
	for s := pg.SegmentAt(tli, from, segmentSize); s.End(segmentSize) <= to; s = s.Next() {
		name := s.Name(segmentSize)
		b, err := os.ReadFile(filepath.Join(dir, "pg_wal", name))
		if err != nil {
			return nil, nil, err
		}
		all, names = append(all, b...), append(names, name)
	}
	return all, names, nil
}

// NextSegment ends the current segment and gives the position where the next begins.
func NextSegment(c *pgtest.Cluster, segmentSize uint32) pg.LSN {
	size := pg.LSN(segmentSize)
	return (c.SwitchWAL() + size - 1) / size * size
}

// Managers are the names of the resource managers, by number, as pg_waldump
// prints them (rmgrlist.h).
func Managers() []string {
	return strings.Fields(`XLOG Transaction Storage CLOG Database Tablespace MultiXact RelMap Standby Heap2 Heap Btree Hash
		Gin Gist Sequence SPGist BRIN CommitTs ReplicationOrigin Generic LogicalMessage`)
}
