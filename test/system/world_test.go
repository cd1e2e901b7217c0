package system

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
)

// world is a cluster under load, and a model of what it holds after each commit.
//
// Clients work at the same time, each on tables of its own. Before it commits, a
// transaction increments a counter that all share, and writes the number in the
// ledger: the counter's row is locked until the commit's record is in the WAL, so
// the ledger's order is the WAL's, and positions and times between two commits are
// known. What cannot run inside a transaction is done while another session holds
// that lock.
type world struct {
	t      testing.TB
	s      *site
	seed   uint64
	spaces []space

	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	ledger []entry // entry n at n-1
	points []point
}

// entry is one committed transaction.
type entry struct {
	xid uint64
	// lsn was read when the transaction held the lock, before it committed: every
	// earlier entry's commit lies before, and its own after.
	lsn    pg.LSN
	at     time.Time // as the server wrote it into the WAL
	commit pg.LSN    // where that record begins; 0 if it is not known
	change []op
}

// point is a restore point, made while entry before held the lock.
type point struct {
	name   string
	before int
}

type space struct {
	oid      uint32
	name     string
	location string
}

// op is one change of the model.
type op struct {
	kind  string // put, del, truncate, create, drop, nextval, createdb, dropdb
	table string // or sequence, or database
	id    int64
	sum   string
}

// state is what the cluster holds.
type state struct {
	tables    map[string]map[int64]string // id: md5 of the value
	sequences map[string]int64
	databases map[string]bool
}

func (st *state) apply(o op) {
	switch o.kind {
	case "put":
		st.tables[o.table][o.id] = o.sum
	case "del":
		delete(st.tables[o.table], o.id)
	case "create", "truncate":
		st.tables[o.table] = map[int64]string{}
	case "drop":
		delete(st.tables, o.table)
	case "nextval":
		st.sequences[o.table] = o.id
	case "createdb":
		st.databases[o.table] = true
	case "dropdb":
		delete(st.databases, o.table)
	}
}

// at is the state after the first n entries.
func (w *world) at(n int) *state {
	st := &state{map[string]map[int64]string{}, map[string]int64{}, map[string]bool{}}
	for _, e := range w.ledger[:n] {
		for _, o := range e.change {
			st.apply(o)
		}
	}
	return st
}

func newWorld(t testing.TB, s *site, seed uint64) *world {
	t.Helper()
	w := &world{t: t, s: s, seed: seed}
	root := s.cluster.TempDir(t)
	// One path is the beginning of another, and one has every odd character that
	// PostgreSQL takes.
	for _, sp := range []space{{name: "plain", location: "ts"}, {name: `Sp ace "q"`, location: "ts_more"}, {name: "odd", location: `t s#=\é,;`}} {
		sp.location = filepath.Join(root, sp.location)
		if err := os.Mkdir(sp.location, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(sp.location, s.cluster.UID, s.cluster.GID); err != nil {
			t.Fatal(err)
		}
		s.cluster.Exec("CREATE TABLESPACE " + ident(sp.name) + " LOCATION '" + sp.location + "'")
		w.spaces = append(w.spaces, sp)
	}
	for i := range w.spaces {
		c := s.cluster.Conn(t)
		if err := c.Row(t.Context(), "SELECT oid FROM pg_tablespace WHERE spcname = $1", []any{w.spaces[i].name}, &w.spaces[i].oid); err != nil {
			t.Fatal(err)
		}
	}
	s.cluster.Exec(`
		CREATE TABLE counter (n int NOT NULL) WITH (fillfactor = 10);
		INSERT INTO counter VALUES (0);
		CREATE TABLE ledger (n int PRIMARY KEY, xid text NOT NULL)`)
	return w
}

func ident(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// mapTablespaces gives the arguments that put the tablespaces of a copy elsewhere.
func (w *world) mapTablespaces(t testing.TB, s *site) []string {
	t.Helper()
	root := s.cluster.TempDir(t)
	var args []string
	for _, sp := range w.spaces {
		args = append(args, "--tablespace-map", fmt.Sprintf("%d=%s", sp.oid, filepath.Join(root, filepath.Base(sp.location))))
	}
	return args
}

// position is the server's clock.
func (w *world) position() time.Time {
	var now time.Time
	if err := w.s.cluster.Conn(w.t).Row(w.t.Context(), "SELECT clock_timestamp()", nil, &now); err != nil {
		w.t.Fatal(err)
	}
	return now.UTC()
}

func (w *world) entries() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ledger)
}

func (w *world) waitFor(n int) {
	w.t.Helper()
	w.s.cluster.Eventually(fmt.Sprintf("%d entries in the ledger", n), func() bool {
		return w.entries() >= n || w.t.Failed()
	})
	if w.t.Failed() {
		w.t.FailNow()
	}
}

// begin starts so many clients, and one that does what needs a session of its own.
func (w *world) begin(clients int) {
	ctx, cancel := context.WithCancel(w.t.Context())
	w.cancel = cancel
	w.t.Cleanup(cancel)
	for i := range clients + 1 {
		c := &client{w: w, number: i, rng: rand.New(rand.NewPCG(w.seed, uint64(100+i))), model: map[string]map[int64]bool{}}
		w.done.Go(func() {
			if err := c.run(ctx); err != nil && ctx.Err() == nil {
				w.t.Errorf("client %d: %v", c.number, err)
			}
		})
	}
}

// end stops the clients and reads when the transactions were committed.
func (w *world) end() {
	w.t.Helper()
	w.cancel()
	w.done.Wait()
	if w.t.Failed() {
		w.t.FailNow()
	}
	n := 0
	err := w.s.cluster.Conn(w.t).Rows(w.t.Context(), "SELECT pg_xact_commit_timestamp(xid::xid) FROM public.ledger ORDER BY n", nil, func(scan func(...any) error) error {
		n++
		if n > len(w.ledger) {
			return fmt.Errorf("the server has more than the %d entries that it acknowledged", len(w.ledger))
		}
		err := scan(&w.ledger[n-1].at)
		w.ledger[n-1].at = w.ledger[n-1].at.UTC()
		return err
	})
	if err != nil || n != len(w.ledger) {
		w.t.Fatalf("reading the ledger, %d of %d: %v", n, len(w.ledger), err)
	}
	w.findCommits()
}

var commitLine = regexp.MustCompile(`tx: +(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), .* desc: COMMIT`)

// findCommits asks PostgreSQL's own tool where the commits lie in the WAL.
func (w *world) findCommits() {
	w.t.Helper()
	c := w.s.cluster
	if !c.Can("pg_waldump") {
		w.t.Log("this PostgreSQL has no pg_waldump: positions between commits are used")
		return
	}
	c.SwitchWAL() // what is read is flushed
	// It ends with an error, where the WAL ends.
	out, end := c.Command("pg_waldump", "--rmgr=Transaction", "--path", filepath.Join(c.Dir, "pg_wal"), "--start", w.ledger[0].lsn.String()).CombinedOutput()
	at := map[string]pg.LSN{}
	for _, m := range commitLine.FindAllStringSubmatch(string(out), -1) {
		lsn, err := pg.ParseLSN(m[2])
		if err != nil {
			w.t.Fatal(err)
		}
		at[m[1]] = lsn
	}
	for i := range w.ledger {
		e := &w.ledger[i]
		if e.commit = at[fmt.Sprint(e.xid)]; e.commit < e.lsn {
			w.t.Fatalf("entry %d began before %s and was committed at %s; pg_waldump found %d commits, and then: %v\n%s",
				i+1, e.lsn, e.commit, len(at), end, out[max(0, len(out)-500):])
		}
	}
}

// client makes transactions on tables of its own.
type client struct {
	w      *world
	number int
	rng    *rand.Rand
	conn   *conn.Conn
	model  map[string]map[int64]bool // its tables' ids, as committed
	made   int
	dbs    []string

	change []op // of the transaction under way
}

func (c *client) run(ctx context.Context) error {
	// A transaction is finished even if the load ends meanwhile.
	work := context.WithoutCancel(ctx)
	var err error
	if c.conn, err = c.open(work, "postgres"); err != nil {
		return err
	}
	defer c.conn.Close()
	if err := c.setUp(work); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if c.number == 0 && c.rng.IntN(3) > 0 {
			err = c.maintain(work)
		} else {
			err = c.transaction(work)
		}
		if err != nil {
			return err
		}
		pause(ctx, time.Duration(c.rng.IntN(10))*time.Millisecond)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (c *client) open(ctx context.Context, database string) (*conn.Conn, error) {
	cfg := c.w.s.cluster.Config()
	cfg.Database = database
	cn, err := conn.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return cn, cn.Exec(ctx, "SET search_path = public, pg_catalog")
}

func (c *client) main() string     { return fmt.Sprintf("main%d", c.number) }
func (c *client) unlogged() string { return fmt.Sprintf("unlogged%d", c.number) }
func (c *client) sequence() string { return fmt.Sprintf("seq%d", c.number) }

func (c *client) setUp(ctx context.Context) error {
	if err := c.conn.Exec(ctx, "CREATE SEQUENCE "+c.sequence()+"; CREATE UNLOGGED TABLE "+c.unlogged()+" (id int PRIMARY KEY)"); err != nil {
		return err
	}
	return c.commit(ctx, func() error { return c.create(ctx, c.main()) })
}

// transaction makes one: some changes, its place in the ledger, and its end.
func (c *client) transaction(ctx context.Context) error {
	return c.commit(ctx, func() error {
		for range 1 + c.rng.IntN(4) {
			if err := c.act(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// commit runs a transaction and writes it into the ledger. One in ten is rolled back.
func (c *client) commit(ctx context.Context, do func() error) error {
	if err := c.conn.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	before := cloneIDs(c.model)
	c.change = nil
	if err := do(); err != nil {
		return err
	}
	return c.finish(ctx, before, c.made > 0 && c.rng.IntN(10) == 0)
}

func cloneIDs(m map[string]map[int64]bool) map[string]map[int64]bool {
	out := make(map[string]map[int64]bool, len(m))
	for k, v := range m {
		out[k] = maps.Clone(v)
	}
	return out
}

// finish takes the lock and ends the transaction.
func (c *client) finish(ctx context.Context, before map[string]map[int64]bool, giveUp bool) error {
	n, e, err := c.enter(ctx)
	if err != nil {
		return err
	}
	if giveUp {
		c.model = before
		return c.conn.Exec(ctx, "ROLLBACK")
	}
	return c.leave(ctx, n, e)
}

// enter takes the lock, and a number.
func (c *client) enter(ctx context.Context) (int, entry, error) {
	var n int
	var lsn, xid string
	var e entry
	if err := c.conn.Row(ctx, "UPDATE counter SET n = n + 1 RETURNING n", nil, &n); err != nil {
		return 0, e, err
	}
	err := c.conn.Row(ctx, "SELECT pg_current_wal_insert_lsn()::text, pg_current_xact_id()::text", nil, &lsn, &xid)
	if err != nil {
		return 0, e, err
	}
	if _, err := fmt.Sscan(xid, &e.xid); err != nil {
		return 0, e, err
	}
	e.lsn, err = pg.ParseLSN(lsn)
	return n, e, err
}

// leave writes the ledger and commits.
func (c *client) leave(ctx context.Context, n int, e entry) error {
	if err := c.conn.Exec(ctx, "INSERT INTO ledger VALUES ($1, $2)", n, fmt.Sprint(e.xid)); err != nil {
		return err
	}
	pt := point{name: fmt.Sprintf("before entry %d", n), before: n}
	made := c.rng.IntN(6) == 0
	if made {
		if err := c.conn.Exec(ctx, "SELECT pg_create_restore_point($1)", pt.name); err != nil {
			return err
		}
	}
	e.change = c.change
	if err := c.conn.Exec(ctx, "COMMIT"); err != nil {
		return err
	}
	c.made++
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	for len(c.w.ledger) < n {
		c.w.ledger = append(c.w.ledger, entry{}) // who has these numbers is about to note them
	}
	c.w.ledger[n-1] = e
	if made {
		c.w.points = append(c.w.points, pt)
	}
	return nil
}

// act makes one change.
func (c *client) act(ctx context.Context) error {
	switch p := c.rng.IntN(100); {
	case p < 45:
		return c.put(ctx, c.anyTable(), false)
	case p < 60:
		return c.put(ctx, c.anyTable(), true)
	case p < 72:
		return c.del(ctx, c.anyTable())
	case p < 75:
		table := c.anyTable()
		c.note(op{kind: "truncate", table: table})
		return c.conn.Exec(ctx, "TRUNCATE "+table)
	case p < 81:
		return c.create(ctx, fmt.Sprintf("aux%d_%d", c.number, c.rng.IntN(4)))
	case p < 84:
		return c.drop(ctx)
	case p < 88:
		return c.conn.Exec(ctx, "ALTER TABLE "+c.anyTable()+" SET TABLESPACE "+c.anySpace())
	case p < 94:
		var v int64
		if err := c.conn.Row(ctx, "SELECT nextval('"+c.sequence()+"')", nil, &v); err != nil {
			return err
		}
		c.note(op{kind: "nextval", table: c.sequence(), id: v})
		return nil
	default:
		return c.conn.Exec(ctx, "INSERT INTO "+c.unlogged()+" SELECT coalesce(max(id), 0) + 1 FROM "+c.unlogged())
	}
}

// note makes a change of the model.
func (c *client) note(o op) {
	c.change = append(c.change, o)
	switch o.kind {
	case "put":
		c.model[o.table][o.id] = true
	case "del":
		delete(c.model[o.table], o.id)
	case "create", "truncate":
		c.model[o.table] = map[int64]bool{}
	case "drop":
		delete(c.model, o.table)
	}
}

func (c *client) anyTable() string {
	names := slices.Sorted(maps.Keys(c.model))
	return names[c.rng.IntN(len(names))]
}

func (c *client) anySpace() string {
	i := c.rng.IntN(len(c.w.spaces) + 1)
	if i == len(c.w.spaces) {
		return "pg_default"
	}
	return ident(c.w.spaces[i].name)
}

func (c *client) anyID(table string) (int64, bool) {
	ids := slices.Sorted(maps.Keys(c.model[table]))
	if len(ids) == 0 {
		return 0, false
	}
	return ids[c.rng.IntN(len(ids))], true
}

// put inserts some rows, or updates one; large values are stored out of line.
func (c *client) put(ctx context.Context, table string, update bool) error {
	ids := []int64{}
	if id, ok := c.anyID(table); update && ok {
		ids = append(ids, id)
	} else {
		for range 1 + c.rng.IntN(12) {
			ids = append(ids, c.rng.Int64N(1<<40))
		}
	}
	for _, id := range ids {
		raw := make([]byte, 10+c.rng.IntN(100))
		if c.rng.IntN(8) == 0 {
			raw = make([]byte, 4000+c.rng.IntN(20000))
		}
		for i := range raw {
			raw[i] = byte(c.rng.Uint32())
		}
		val := hex.EncodeToString(raw)
		err := c.conn.Exec(ctx, "INSERT INTO "+table+" VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET val = excluded.val", id, val)
		if err != nil {
			return err
		}
		sum := md5.Sum([]byte(val))
		c.note(op{kind: "put", table: table, id: id, sum: hex.EncodeToString(sum[:])})
	}
	return nil
}

func (c *client) del(ctx context.Context, table string) error {
	id, ok := c.anyID(table)
	if !ok {
		return nil
	}
	c.note(op{kind: "del", table: table, id: id})
	return c.conn.Exec(ctx, "DELETE FROM "+table+" WHERE id = $1", id)
}

// create makes a table, in any tablespace, in the place of one of that name.
func (c *client) create(ctx context.Context, table string) error {
	c.note(op{kind: "create", table: table})
	return c.conn.Exec(ctx, "DROP TABLE IF EXISTS "+table+"; CREATE TABLE "+table+
		" (id bigint PRIMARY KEY, val text NOT NULL) TABLESPACE "+c.anySpace()+
		"; CREATE INDEX ON "+table+" (md5(val))")
}

func (c *client) drop(ctx context.Context) error {
	table := c.anyTable()
	if table == c.main() {
		return nil
	}
	c.note(op{kind: "drop", table: table})
	return c.conn.Exec(ctx, "DROP TABLE "+table)
}

// maintain does what cannot run inside a transaction, while it holds the lock.
func (c *client) maintain(ctx context.Context) error {
	other, err := c.open(ctx, "template1")
	if err != nil {
		return err
	}
	other.Close() // template1 must have no session when it is copied
	if other, err = c.open(ctx, "postgres"); err != nil {
		return err
	}
	defer other.Close()
	if c.rng.IntN(4) == 0 {
		return other.Exec(ctx, "CHECKPOINT")
	}
	c.change = nil
	if err := c.conn.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	n, e, err := c.enter(ctx)
	if err != nil {
		return err
	}
	if err := c.alone(ctx, other, n); err != nil {
		return err
	}
	return c.leave(ctx, n, e)
}

func (c *client) alone(ctx context.Context, other *conn.Conn, n int) error {
	table := c.anyTable()
	switch p := c.rng.IntN(10); {
	case p < 3:
		return other.Exec(ctx, "VACUUM (FULL, ANALYZE) "+table)
	case p < 4:
		return other.Exec(ctx, "VACUUM (FREEZE) "+table)
	case p < 5:
		return other.Exec(ctx, "REINDEX TABLE "+table)
	case p < 6:
		return other.Exec(ctx, "CLUSTER "+table+" USING "+table+"_pkey")
	case p < 8 && len(c.dbs) > 0:
		name := c.dbs[0]
		c.dbs = c.dbs[1:]
		c.note(op{kind: "dropdb", table: name})
		return other.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
	}
	if len(c.dbs) > 3 {
		return nil
	}
	return c.createDB(ctx, other, fmt.Sprintf("db_%d", n))
}

func (c *client) createDB(ctx context.Context, other *conn.Conn, name string) error {
	how := ""
	if c.w.s.cluster.Major >= 15 {
		how = " STRATEGY " + []string{"wal_log", "file_copy"}[c.rng.IntN(2)]
	}
	if err := other.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE template0 TABLESPACE "+c.anySpace()+how); err != nil {
		return err
	}
	c.note(op{kind: "createdb", table: name})
	c.dbs = append(c.dbs, name)
	in, err := c.open(ctx, name)
	if err != nil {
		return err
	}
	defer in.Close()
	return in.Exec(ctx, "CREATE TABLE seed AS SELECT i FROM generate_series(1, 500) i")
}

// compare finds what a recovered server holds, and compares all of it with the
// model. It gives the number of entries in its ledger.
func (w *world) compare(t testing.TB, r *restored) int {
	t.Helper()
	n := value[int](t, r, "SELECT count(*) FROM public.ledger")
	if top := value[int](t, r, "SELECT coalesce(max(n), 0) FROM public.ledger"); top != n {
		t.Errorf("the ledger has %d entries, and the last is %d", n, top)
	}
	if counted := value[int](t, r, "SELECT n FROM public.counter"); counted != n {
		t.Errorf("the ledger has %d entries, and the counter says %d", n, counted)
	}
	if n > len(w.ledger) {
		t.Fatalf("the ledger has %d entries, and there were %d", n, len(w.ledger))
	}
	st := w.at(n)
	w.compareTables(t, r, st)
	for name, used := range st.sequences {
		if last := value[int64](t, r, "SELECT last_value FROM public."+name); last < used {
			t.Errorf("sequence %s is at %d, and %d was used", name, last, used)
		}
	}
	for i := range 5 {
		if rows := value[int](t, r, fmt.Sprintf("SELECT count(*) FROM public.unlogged%d", i)); rows != 0 {
			t.Errorf("an unlogged table has %d rows", rows)
		}
	}
	w.compareDatabases(t, r, st, n)
	return n
}

func (w *world) compareTables(t testing.TB, r *restored, st *state) {
	t.Helper()
	c := r.conn(t, "postgres")
	defer c.Close()
	var there []string
	err := c.Rows(t.Context(), "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename ~ '^(main|aux)' ORDER BY 1", nil, func(scan func(...any) error) error {
		there = append(there, "")
		return scan(&there[len(there)-1])
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := slices.Sorted(maps.Keys(st.tables)); !slices.Equal(there, want) {
		t.Fatalf("there are tables %q, want %q", there, want)
	}
	for _, table := range there {
		rows := map[int64]string{}
		err := c.Rows(t.Context(), "SELECT id, md5(val) FROM public."+table, nil, func(scan func(...any) error) error {
			var id int64
			var sum string
			err := scan(&id, &sum)
			rows[id] = sum
			return err
		})
		if err != nil {
			t.Errorf("reading %s: %v", table, err)
		} else if !maps.Equal(rows, st.tables[table]) {
			t.Errorf("%s has %d rows, which are not the %d that it had", table, len(rows), len(st.tables[table]))
		}
	}
}

// compareDatabases compares databases. That which the next entry makes or drops may
// be there or not: it does so before it commits.
func (w *world) compareDatabases(t testing.TB, r *restored, st *state, n int) {
	t.Helper()
	c := r.conn(t, "postgres")
	defer c.Close()
	there := map[string]bool{}
	err := c.Rows(t.Context(), "SELECT datname FROM pg_database WHERE datname ~ '^db_'", nil, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		there[name] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if name := w.changing(n); name != "" {
		delete(there, name)
		delete(st.databases, name)
	}
	if !maps.Equal(there, st.databases) {
		t.Fatalf("there are databases %v, want %v", there, st.databases)
	}
	for name := range there {
		in := r.conn(t, name)
		var rows int
		if err := in.Row(t.Context(), "SELECT count(*) FROM public.seed", nil, &rows); err != nil || rows != 500 {
			t.Errorf("database %s has %d rows: %v", name, rows, err)
		}
		in.Close()
	}
}

// changing is the database that the entry after the first n makes or drops.
func (w *world) changing(n int) string {
	if n < len(w.ledger) {
		for _, o := range w.ledger[n].change {
			if o.kind == "createdb" || o.kind == "dropdb" {
				return o.table
			}
		}
	}
	return ""
}
