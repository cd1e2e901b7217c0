package system

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// rounds are what the workload does between two backups, one after the other, as scripts
// of psql: what changes files and pages in every way that PostgreSQL knows. Those that
// begin with an exclamation mark are done to the server.
var rounds = []func(r *rand.Rand) string{
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE road SET pad = md5(random()::text) WHERE i %% 97 = %d; SELECT nextval('ticket') FROM generate_series(1, 50);", r.IntN(97))
	},
	func(*rand.Rand) string { return "DELETE FROM road WHERE i % 5 = 0; VACUUM road;" },
	func(*rand.Rand) string {
		return "TRUNCATE small; INSERT INTO small SELECT i FROM generate_series(1, 50000) i;"
	},
	func(*rand.Rand) string { return "BEGIN; TRUNCATE small; CREATE TABLE gone AS TABLE road; ROLLBACK;" },
	func(*rand.Rand) string { return "VACUUM FULL road; CREATE INDEX ON road (pad);" },
	func(r *rand.Rand) string {
		return fmt.Sprintf("INSERT INTO road SELECT i, md5(i::text) FROM generate_series(1, %d) i;", 1+r.IntN(20000))
	},
	func(*rand.Rand) string {
		return "DELETE FROM small WHERE i > 1000; VACUUM (TRUNCATE) small; INSERT INTO small SELECT i FROM generate_series(1, 20000) i;"
	},
	func(*rand.Rand) string { return "ALTER TABLE loose SET LOGGED; UPDATE loose SET i = i + 1;" },
	func(*rand.Rand) string { return "ALTER TABLE loose SET UNLOGGED;" },
	func(*rand.Rand) string { return "DROP TABLE IF EXISTS brief; CREATE TABLE brief AS TABLE small;" },
	func(*rand.Rand) string { return "CLUSTER road USING road_i;" },
	func(*rand.Rand) string { return "REINDEX TABLE road; ANALYZE;" },
	func(*rand.Rand) string { return "SELECT count(*) FROM road WHERE pad > 'a'; CHECKPOINT;" }, // hint bits
	func(r *rand.Rand) string {
		return fmt.Sprintf("INSERT INTO shapes SELECT %s; DELETE FROM shapes WHERE i %% 7 = %d; VACUUM shapes;", shapes, r.IntN(7))
	},
	func(*rand.Rand) string {
		return "DROP DATABASE IF EXISTS copied; CREATE DATABASE copied STRATEGY file_copy;\n\\c copied\nCREATE TABLE far AS SELECT generate_series(1, 9000) i;"
	},
	func(*rand.Rand) string {
		return "DROP DATABASE IF EXISTS logged; CREATE DATABASE logged STRATEGY wal_log;\n\\c logged\nCREATE TABLE far AS SELECT generate_series(1, 9000) i;"
	},
	func(*rand.Rand) string { return "ALTER DATABASE side SET TABLESPACE aside;" },
	func(*rand.Rand) string { return "ALTER DATABASE side SET TABLESPACE pg_default;" },
	func(*rand.Rand) string { return "ALTER TABLE road SET TABLESPACE aside;" },
	func(*rand.Rand) string {
		return "ALTER TABLE road SET TABLESPACE pg_default; DROP INDEX road_i; CREATE INDEX road_i ON road (i) TABLESPACE aside;"
	},
	func(*rand.Rand) string {
		return "SELECT lo_from_bytea(0, decode(repeat('ab', 90000), 'hex')) FROM generate_series(1, 5);"
	},
	func(*rand.Rand) string { return "!crash" },
	func(*rand.Rand) string { return "!promote" },
}

// shapes are rows for indexes of all kinds.
const shapes = "i, point(i % 100, random() * 100), ARRAY[i % 10, i % 13], md5(random()::text) FROM generate_series(1, 3000) i"

const incrementalSchema = `CREATE EXTENSION amcheck; CREATE TABLE road AS SELECT i, repeat(md5(i::text), 4) AS pad FROM generate_series(1, 60000) i;
	CREATE INDEX road_i ON road (i); CREATE TABLE small (i int); CREATE UNLOGGED TABLE loose AS SELECT i FROM generate_series(1, 5000) i;
	CREATE SEQUENCE ticket; CREATE TABLE shapes (i int, p point, a int[], t text);
	CREATE INDEX ON shapes USING gist (p); CREATE INDEX ON shapes USING spgist (p); CREATE INDEX ON shapes USING gin (a);
	CREATE INDEX ON shapes USING brin (i); CREATE INDEX ON shapes USING hash (i); CREATE INDEX ON shapes (t);
	CREATE TABLESPACE aside LOCATION ''; CREATE DATABASE side;`

// After each round of a workload an incremental backup is made, while clients go on
// changing rows. Each backup restores, to its end, to what a full one and the WAL give
// for the same moment: every page of every relation, and the rows there were.
func TestIncremental(t *testing.T) {
	t.Parallel()
	skipShort(t)
	for _, o := range []struct {
		name   string
		detect string
		pg     pgtest.Options
	}{
		{name: "wal", detect: "wal", pg: pgtest.Options{Major: 18}},
		{name: "wal without checksums", detect: "wal", pg: pgtest.Options{ChecksumsOff: true, WALSegmentMB: 1}},
		{name: "lsn without checksums", detect: "lsn", pg: pgtest.Options{ChecksumsOff: true}},
		{name: "hash without checksums", detect: "hash", pg: pgtest.Options{ChecksumsOff: true}},
	} {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			incrementals(t, o.detect, o.pg)
		})
	}
}

// roundCount is how many rounds of the workload there are, and of how many backups one
// is restored: SALVOR_TEST_ROUNDS=500 does that many, and restores all.
func roundCount(t *testing.T) (rounds, every int) {
	if v := os.Getenv("SALVOR_TEST_ROUNDS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		return n, 1
	}
	return 8, 4
}

func incrementals(t *testing.T, detect string, o pgtest.Options) {
	rng := rand.New(rand.NewPCG(seedOf(t), 4))
	o.Settings = map[string]string{"allow_in_place_tablespaces": "on"}
	s := newSite(t, siteOptions{pg: o})
	s.round(incrementalSchema)
	load := s.cluster.LightLoad(t, 2, 5*time.Millisecond)
	const sum = "SELECT coalesce(sum(hashtext(t::text)::bigint), 0)::bigint FROM (SELECT 'r', i, pad FROM public.road UNION ALL SELECT 's', i, '' FROM public.small UNION ALL SELECT 't', i, t FROM public.shapes) t"
	full := s.backup("--kind", "full")
	count, every := roundCount(t)
	var order []int
	for len(order) < count {
		order = append(order, rng.Perm(len(rounds))...)
	}
	check := func(b backup, what string, want int64) {
		moment := []string{"--timeline", strconv.Itoa(b.Timeline), "--set", "autovacuum=off"}
		one := s.restore(append(moment, "--backup", b.ID, "--immediate")...)
		two := s.restore(append(moment, "--backup", full.ID, "--lsn", b.StopLSN, "--exclusive")...)
		one.leftRecovery(t)
		two.leftRecovery(t)
		if x, y := value[int64](t, one, sum), value[int64](t, two, sum); x != want || y != want {
			t.Errorf("%s: the sum is %d, by the full backup %d, and was %d", what, x, y, want)
		}
		value[int64](t, one, "SELECT count(public.bt_index_check(c.oid, true)) FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE relkind = 'i' AND amname = 'btree' AND relpersistence = 'p'")
		if n := value[int64](t, one, "SELECT count(*) FROM pg_class c, public.verify_heapam(c.oid) WHERE relkind = 'r' AND relpersistence = 'p'"); n > 0 {
			t.Errorf("%s: %d rows are not sound", what, n)
		}
		one.stop()
		two.stop()
		sameRelations(t, what, one.dir, two.dir)
		for _, r := range []*restored{one, two} {
			if err := os.RemoveAll(r.dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	var said []string
	for n, which := range order[:count] {
		script := rounds[which](rng)
		s.round(script)
		said = append(said, script)
		want := pgtest.QueryValue[int64](s.cluster, sum)
		b := s.backup("--detect", detect)
		if b.Kind != "incremental" || b.Detector != detect {
			t.Errorf("after %q the backup is %s, by %q", script, b.Kind, b.Detector)
		}
		if n%every == every-1 || n == count-1 {
			check(b, fmt.Sprintf("backup %d, %s, after %q", n, b.ID, said[max(0, len(said)-every):]), want)
		}
	}
	// What comparing finds right after must be nothing that matters.
	load.Stop()
	s.cluster.Set("autovacuum", "off")
	found, compared := s.backup("--detect", detect), s.backup("--detect", "hash")
	sameRelations(t, "compared", s.restoreCold("--backup", found.ID).dir, s.restoreCold("--backup", compared.ID).dir)
}

// round does what a script says.
func (s *site) round(script string) {
	s.t.Helper()
	switch script {
	case "!crash":
		s.cluster.Stop("immediate")
		s.cluster.Start()
	case "!promote":
		s.cluster.Stop("fast")
		if err := os.WriteFile(filepath.Join(s.cluster.Dir, "standby.signal"), nil, 0o600); err != nil {
			s.t.Fatal(err)
		}
		s.cluster.Start()
		s.cluster.Promote()
	default:
		cmd := s.cluster.Command("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			s.t.Fatalf("psql: %v\n%s\n%s", err, script, out)
		}
	}
}

// A database that is dropped and made anew under its OID, by copying files, has pages
// with old LSNs: they are not taken for the parent's.
func TestDatabaseAnew(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	in := func(database string, statements ...string) {
		for _, sql := range statements {
			if out, err := s.cluster.Command("psql", "-X", "-q", "-d", database, "-c", sql).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", sql, err, out)
			}
		}
	}
	in("postgres", "CREATE DATABASE model", "CREATE DATABASE twice OID 50000 STRATEGY file_copy")
	in("model", "CREATE TABLE mark AS SELECT 'the second' AS which")
	in("twice", "CREATE TABLE mark AS SELECT 'the first' AS which", "CHECKPOINT")
	first := s.backup()
	in("postgres", "DROP DATABASE twice", "CREATE DATABASE twice OID 50000 TEMPLATE model STRATEGY file_copy")
	second := s.backup()
	if second.Kind != "incremental" {
		t.Errorf("the second backup is %s", second.Kind)
	}
	for id, want := range map[string]string{first.ID: "the first", second.ID: "the second"} {
		r := s.restore("--backup", id, "--immediate")
		c := r.conn(t, "twice")
		var which string
		if err := c.Row(t.Context(), "SELECT which FROM public.mark", nil, &which); err != nil || which != want {
			t.Errorf("backup %s has %q, not %q: %v", id, which, want, err)
		}
		c.Close()
		r.stop()
	}
}

// A parent that has lost something is none: the backup is full, and says why.
func TestLostParent(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec(kilometre)
	s.ends(exitNotNow, "backup", "--kind", "incremental", "-o", "json").says(t, "refused", "no earlier backup", "--kind full")
	first := s.backup()
	pack := s.objects("/packs/")[0]
	if err := os.Remove(pack); err != nil {
		t.Fatal(err)
	}
	s.ends(exitNotNow, "backup", "--kind", "incremental", "-o", "json").says(t, "refused", first.ID, "is gone", "--kind full")
	second := s.backup()
	if second.Kind != "full" {
		t.Errorf("over a parent that lost a pack the backup is %s", second.Kind)
	}
	if n := value[int](t, s.restore(), "SELECT count(*) FROM public.road"); n != 60000 {
		t.Errorf("the copy has %d rows", n)
	}
	var plan struct {
		Kind   string `json:"kind"`
		Parent string `json:"parent_id"`
	}
	s.ok("backup", "--plan", "-o", "json").decode(t, &plan)
	if plan.Kind != "incremental" || plan.Parent != second.ID {
		t.Errorf("the plan is %+v", plan)
	}
	if third := s.backup(); third.Kind != "incremental" {
		t.Errorf("the next one is %s", third.Kind)
	}
}

// Damage in the parent that is found while an incremental backup is made turns it into
// a full one.
func TestDamagedParent(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec(kilometre)
	first := s.backup()
	s.cluster.Exec("UPDATE road SET pad = 'new' WHERE i % 10 = 0")
	for _, pack := range s.objects("/packs/") { // in its footer
		f, err := os.OpenFile(pack, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err == nil {
			_, err = f.WriteAt([]byte{1, 2, 3, 4}, info.Size()-100)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	s.ends(exitNotNow, "backup", "--kind", "incremental", "-o", "json").says(t, "damaged_parent", first.ID, "packs/", "--kind full")
	res := s.ok("backup", "-o", "json")
	var b backup
	res.decode(t, &b)
	if b.Kind != "full" || !strings.Contains(res.stderr, "begun anew") {
		t.Errorf("the backup is %s; the log:\n%s", b.Kind, res.stderr)
	}
	if next := s.backup(); next.Kind != "incremental" {
		t.Errorf("the next one is %s", next.Kind)
	}
	if n := value[int](t, s.restore(), "SELECT count(*) FROM public.road WHERE pad = 'new'"); n != 6000 {
		t.Errorf("the copy has %d rows that changed", n)
	}
}

// An older backup goes while one is made that names its packs, too: they stay, and the
// backup is whole. The parent stays as long as that.
func TestDeleteBesideIncremental(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec(kilometre)
	full, parent := s.backup(), s.backup()
	r := s.begin("backup", "--detect", "lsn", "--rate-limit", "8MB", "-o", "json")
	s.cluster.Eventually("the backup runs", func() bool { return len(s.objects("/running/")) > 0 })
	s.ok("backups", "delete", full.ID, "--yes")
	s.ends(exitNotNow, "backups", "delete", parent.ID, "--yes", "--last", "-o", "json").says(t, "in_use", parent.ID, "salvor job show")
	if res := s.finish(r); res.code != exitDone {
		t.Fatalf("beside a removal the backup ended so: %s", res)
	}
	s.ok("backups", "delete", parent.ID, "--yes")
	if n := value[int](t, s.restore(), "SELECT count(*) FROM public.road"); n != 60000 {
		t.Errorf("the copy has %d rows", n)
	}
}
