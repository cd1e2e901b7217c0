package walrec

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// truth is what is known of recorded WAL without this package.
type truth struct {
	files   map[string][]byte // as archived, by name
	waldump string            // pg_waldump's output; empty where it was not to be had
	sql     []string          // what SQL said, see record
}

const subtransactions = `do $$ begin
	for i in 1..%d loop
		begin insert into t values (i, 'sub'); exception when others then null; end;
	end loop;
end $$;`

// commitsOverBoundary fills the segment up to some pages before its end and
// then commits so many empty transactions that they go beyond it: most likely
// the boundary cuts one.
const commitsOverBoundary = `
select pg_logical_emit_message(false, 'fill', repeat('x',
	(1024*1024 - 24576 - (pg_current_wal_insert_lsn() - '0/0'::pg_lsn) % (1024*1024))::int))
where (pg_current_wal_insert_lsn() - '0/0'::pg_lsn) % (1024*1024) < 1000000 \g /dev/null
do $$ begin for i in 1..1000 loop perform pg_current_xact_id(); commit; end loop; end $$;
`

// record runs a server through everything that makes an event, a promotion
// included, and returns its archive from some switch on. The lines of truth.sql
// are
//
//	commit|XID|MICROSECONDS       of every committed transaction, subtransactions too
//	aborted|XID                   of every aborted one
//	restore|NAME|ENDLSN
//	checkpoint|LSN|REDO|TLI|SECONDS  some
func record(s *server) truth {
	s.start()
	s.sql("create table t (i int, s text); create table gone as select generate_series(1, 100);")
	first := s.switchWAL()
	from := s.sql("select pg_current_xact_id()")[0]
	var sql []string
	note := func(text string) { sql = append(sql, s.sql(text)...) }
	checkpoint := `select 'checkpoint', checkpoint_lsn, redo_lsn, timeline_id,
		extract(epoch from checkpoint_time)::bigint from pg_control_checkpoint();`
	restore := func(name string) {
		note(fmt.Sprintf("select 'restore', '%s', pg_create_restore_point('%s')", name, name))
	}

	s.sql(`select 'insert into t values (' || g || ', ''x'')' from generate_series(1, 200) g \gexec`)
	restore("before_trouble")
	for range 5 {
		s.sql("begin; insert into t values (1, 'no'); rollback;")
	}
	s.sql(fmt.Sprintf(subtransactions, 300))
	s.sql("begin;" + fmt.Sprintf(subtransactions, 70) + "rollback;")
	note("checkpoint; " + checkpoint)

	s.sql(`begin; insert into t values (1, 'prepared'); prepare transaction 'one'; commit prepared 'one';
		begin; create table p (i int); savepoint a; insert into p values (1); prepare transaction 'two'; rollback prepared 'two';
		begin; drop table gone; create table p (i int primary key); savepoint a; insert into p values (1);`)
	s.sql("begin; drop table gone; create table p (i int primary key, s text);" + fmt.Sprintf(subtransactions, 400) +
		"prepare transaction 'three'; insert into t values (2, 'between'); commit prepared 'three';")
	s.sql("create index on t (i); truncate t; alter table t add column c int default 5; vacuum full t; drop table p;")
	s.sql("select pg_logical_emit_message(true, 'large', repeat('y', 2500000)) \\g /dev/null")
	for range 3 {
		s.sql(commitsOverBoundary)
	}
	restore(strings.Repeat("n", 63))

	s.stop()
	s.configure("max_connections = 25\nwal_level = logical\n")
	s.start()
	s.sql("insert into t values (1, 'logical')")
	note(checkpoint)
	s.switchWAL()
	s.sql("insert into t values (1, 'before promotion')")

	s.stop()
	if err := os.WriteFile(filepath.Join(s.data, "standby.signal"), nil, 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.start()
	s.run("pg_ctl", "promote", "-w", "-D", s.data)
	s.sql("insert into t values (1, 'after promotion')")
	note("checkpoint; " + checkpoint)
	s.switchWAL()
	restore("end")
	last2 := s.switchWAL()

	to := s.sql("select pg_current_xact_id()")[0]
	note(fmt.Sprintf(`select 'commit', g, (extract(epoch from pg_xact_commit_timestamp(g::text::xid)) * 1000000)::bigint
		from generate_series(%s, %s - 1) g where pg_xact_status(g::text::xid8) = 'committed';
		select 'aborted', g from generate_series(%s, %s - 1) g where pg_xact_status(g::text::xid8) = 'aborted'`, from, to, from, to))
	s.stop()
	return s.collect(first, last2, sql)
}

// collect reads the archive after segment first, and what pg_waldump says of it.
func (s *server) collect(first, last2 string, sql []string) truth {
	tr := truth{files: map[string][]byte{}, sql: sql}
	entries, err := os.ReadDir(s.archive)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		n := e.Name()
		if len(n) >= 24 && n[8:24] <= first[8:] || len(n) == 24 && n > last2 || strings.HasSuffix(n, ".tmp") {
			continue
		}
		if tr.files[n], err = os.ReadFile(filepath.Join(s.archive, n)); err != nil {
			s.t.Fatal(err)
		}
	}
	if len(tr.files) < 8 {
		s.t.Fatalf("only %d files were archived", len(tr.files))
	}
	if _, err := os.Stat(filepath.Join(s.bin, "pg_waldump")); err != nil {
		return tr
	}
	names := segmentNames(tr.files)
	fork := slices.IndexFunc(names, func(n string) bool { return n[:8] == "00000002" })
	for _, span := range [][2]string{{names[0], names[fork-1]}, {names[fork], last2}} {
		out := s.run("pg_waldump", "-p", s.archive, span[0], span[1])
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, "rmgr: XLOG ") || strings.HasPrefix(line, "rmgr: Transaction ") {
				tr.waldump += line
			}
		}
	}
	return tr
}

// segmentNames lists the whole segments, in order of their place in the log.
func segmentNames(files map[string][]byte) []string {
	var names []string
	for n := range files {
		if len(n) == 24 {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(a[8:]+a[:8], b[8:]+b[:8]) })
	return names
}
