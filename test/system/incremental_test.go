package system

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// rounds are what the workload does between two backups, one after the other: what
// changes files and pages in every way that PostgreSQL knows.
var rounds = []func(r *rand.Rand) string{
	func(r *rand.Rand) string {
		return fmt.Sprintf("UPDATE road SET pad = md5(random()::text) WHERE i %% 97 = %d", r.IntN(97))
	},
	func(*rand.Rand) string { return "DELETE FROM road WHERE i % 5 = 0; VACUUM road" },
	func(*rand.Rand) string {
		return "TRUNCATE small; INSERT INTO small SELECT i FROM generate_series(1, 50000) i"
	},
	func(*rand.Rand) string { return "VACUUM FULL road; CREATE INDEX ON road (pad)" },
	func(r *rand.Rand) string {
		return fmt.Sprintf("INSERT INTO road SELECT i, md5(i::text) FROM generate_series(1, %d) i", 1+r.IntN(20000))
	},
	func(*rand.Rand) string {
		return "DELETE FROM small WHERE i > 1000; VACUUM (TRUNCATE) small; INSERT INTO small SELECT i FROM generate_series(1, 20000) i"
	},
	func(*rand.Rand) string { return "ALTER TABLE loose SET LOGGED; UPDATE loose SET i = i + 1" },
	func(*rand.Rand) string { return "ALTER TABLE loose SET UNLOGGED" },
	func(*rand.Rand) string { return "DROP TABLE IF EXISTS brief; CREATE TABLE brief AS TABLE small" },
	func(*rand.Rand) string { return "CLUSTER road USING road_i" },
	func(*rand.Rand) string { return "REINDEX TABLE road; ANALYZE" },
	func(*rand.Rand) string { return "SELECT count(*) FROM road WHERE pad > 'a'; CHECKPOINT" }, // hint bits
}

// After each round of a workload an incremental backup is made; every one of them is
// restored to its end, and has the rows that there were, in tables and in indexes.
func TestIncremental(t *testing.T) {
	t.Parallel()
	skipShort(t)
	for _, o := range []struct {
		name   string
		detect string
		pg     pgtest.Options
	}{
		{name: "wal", detect: "wal"},
		{name: "wal without checksums", detect: "wal", pg: pgtest.Options{ChecksumsOff: true}},
		{name: "lsn", detect: "lsn"},
		{name: "hash without checksums", detect: "hash", pg: pgtest.Options{ChecksumsOff: true}},
	} {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			incrementals(t, o.detect, o.pg)
		})
	}
}

func incrementals(t *testing.T, detect string, o pgtest.Options) {
	rng := rand.New(rand.NewPCG(seedOf(t), 4))
	s := newSite(t, siteOptions{pg: o})
	s.cluster.Exec(`CREATE EXTENSION amcheck; CREATE TABLE road AS SELECT i, repeat(md5(i::text), 4) AS pad FROM generate_series(1, 60000) i;
		CREATE INDEX road_i ON road (i); CREATE TABLE small (i int); CREATE UNLOGGED TABLE loose AS SELECT i FROM generate_series(1, 5000) i`)
	const sum = "SELECT coalesce(sum(hashtext(t::text)::bigint), 0)::bigint FROM (SELECT 'r', i, pad FROM public.road UNION ALL SELECT 's', i, '' FROM public.small) t"
	first := s.backup("--kind", "auto")
	if first.Kind != "full" {
		t.Fatalf("the first backup is %s", first.Kind)
	}
	type made struct {
		backup
		sum int64
	}
	var all []made
	order := rng.Perm(len(rounds))
	for _, n := range order {
		// A statement each: some refuse to run in a transaction.
		for _, sql := range strings.Split(rounds[n](rng), "; ") {
			s.cluster.Exec(sql)
		}
		want := pgtest.QueryValue[int64](s.cluster, sum)
		b := s.backup("--detect", detect)
		if b.Kind != "incremental" {
			t.Errorf("round %d: the backup is %s", n, b.Kind)
		}
		if b.Stored > first.Stored {
			t.Errorf("round %d: an incremental stored %d bytes, the full %d", n, b.Stored, first.Stored)
		}
		all = append(all, made{b, want})
	}
	// What hash finds right after must be nothing that matters.
	last := s.backup("--detect", "hash")
	t.Logf("order %v; the last one stored %d bytes", order, last.Stored)
	for i, b := range all {
		if i%3 != 0 && i != len(all)-1 {
			continue
		}
		r := s.restore("--backup", b.ID, "--immediate")
		if got := value[int64](t, r, sum); got != b.sum {
			t.Errorf("backup %d of %v: the copy has other rows", i, order)
		}
		value[int64](t, r, "SELECT count(public.bt_index_check(c.oid, true)) FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE relkind = 'i' AND amname = 'btree' AND relpersistence = 'p'")
		value[int64](t, r, "SELECT count(*) FROM pg_class c, public.verify_heapam(c.oid) WHERE relkind = 'r' AND relpersistence = 'p'")
		r.stop()
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
