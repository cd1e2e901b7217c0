package system

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// moment is a recovery target, and the entries of the ledger that must be there:
// at least the first least of them and at most the first most.
type moment struct {
	kind        string
	args        []string
	least, most int
	earliest    pg.LSN // a backup must be consistent before it to lead there
}

// Everything that changes a cluster happens while backups run; then it is recovered
// to random moments of every kind, and must hold exactly what was committed then.
func TestAnyMoment(t *testing.T) {
	t.Parallel()
	skipShort(t)
	seed := seedOf(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	s := newSite(t, siteOptions{
		pg: pgtest.Options{Settings: map[string]string{
			"track_commit_timestamp": "on",
			"wal_keep_size":          "1GB", // to look for commits in it
			"autovacuum":             "off", // its commits would not be in the ledger
			"max_wal_size":           "64MB", "checkpoint_timeout": "30s", "shared_buffers": "8MB",
		}},
		yaml: "backup: {workers: 3}",
	})
	w := newWorld(t, s, seed)
	early := w.position()
	w.begin(4)
	w.waitFor(60)
	backups := []backup{s.backup("--rate-limit", "40MB")}
	w.waitFor(w.entries() + 150)
	backups = append(backups, s.backup("--workers", "1"))
	w.waitFor(w.entries() + 60)
	w.end()
	s.archiveAll()
	t.Logf("%d entries in the ledger, backups %s to %s and %s to %s", len(w.ledger),
		backups[0].StartLSN, backups[0].StopLSN, backups[1].StartLSN, backups[1].StopLSN)

	t.Run("refused", func(t *testing.T) { outside(s.with(t), w, early) })
	for i, m := range w.moments(rng, backups, targetCount(t)) {
		t.Run(fmt.Sprintf("%02d-%s", i, m.kind), func(t *testing.T) {
			w.recover(t, s.with(t), m, rng, backups)
		})
	}
}

func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64() >> 1
	if v := os.Getenv("SALVOR_TEST_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SALVOR_TEST_SEED=%d", seed)
	return seed
}

func targetCount(t *testing.T) int {
	t.Helper()
	v := os.Getenv("SALVOR_TEST_TARGETS")
	if v == "" {
		return 9
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// outside asks for moments that nothing leads to.
func outside(s *site, w *world, early time.Time) {
	t := s.t
	window := func(r result) {
		t.Helper()
		r.says(t, "not_covered", "recovery is possible from", " to ")
	}
	dir := s.cluster.TempDir(t) + "/data"
	window(s.ends(exitNotFound, "restore", "--to", dir, "--at", early.Format(time.RFC3339Nano), "-o", "json"))
	window(s.ends(exitNotFound, "restore", "--to", dir, "--xid", fmt.Sprint(w.ledger[0].xid), "-o", "json"))
	window(s.ends(exitNotFound, "restore", "--to", dir, "--lsn", w.ledger[0].lsn.String(), "-o", "json"))
	s.ends(exitNotFound, "restore", "--to", dir, "--restore-point", "never made", "-o", "json").says(t, "not_covered")
	// What is after the last commit names it, which need not be of the ledger.
	last := w.ledger[len(w.ledger)-1]
	r := s.ends(exitNotFound, "restore", "--to", dir, "--at", last.at.Add(time.Hour).Format(time.RFC3339Nano), "-o", "json")
	r.says(t, "not_covered", "the last commit before is at "+last.at.UTC().Format("2006-"), "nothing was committed after the target", "--latest")
	s.ends(exitNotFound, "restore", "--to", dir, "--backup", "20200101T000000Z-000000", "-o", "json").says(t, "no_backup")
	s.ends(exitUsage, "restore", "--to", dir, "--at", "2026-11-24 06:51:00", "-o", "json").says(t, "time zone", "Z")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a refused restore made %s", dir)
	}
}

// moments draws targets, each kind in turn, in an order that is drawn too.
func (w *world) moments(rng *rand.Rand, backups []backup, count int) []moment {
	stop, err := pg.ParseLSN(backups[0].StopLSN)
	if err != nil {
		w.t.Fatal(err)
	}
	// Entries from this one on lie after the first backup.
	first := slices.IndexFunc(w.ledger, func(e entry) bool { return e.lsn > stop })
	last := len(w.ledger)
	if first < 0 || last-first < 100 {
		w.t.Fatalf("only %d of %d entries lie after the first backup", last-first, last)
	}
	kinds := []string{"time", "lsn", "xid", "xid-exclusive", "restore-point", "time-exclusive", "immediate", "latest", "lsn-exclusive"}
	rng.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	var out []moment
	for i := range count {
		// Entry n (counted from 1) is the last that must be there. Its own commit
		// and the beginning of n+1 are known.
		n := first + 2 + rng.IntN(last-first-4)
		m := moment{kind: kinds[i%len(kinds)], least: n, most: n}
		this, next := w.ledger[n-1], w.ledger[n]
		m.earliest = this.lsn
		gap := next.at.Sub(this.at)
		if gap < 2*time.Microsecond {
			w.t.Fatalf("entry %d was committed at %s, and the next at %s", n, this.at, next.at)
		}
		switch m.kind {
		case "time": // stops before the first commit after it
			at := this.at.Add(between(rng, gap))
			m.args = []string{"--at", at.Format(time.RFC3339Nano)}
		case "time-exclusive":
			at := next.at.Add(-between(rng, gap))
			m.args = []string{"--exclusive", "--at", at.Format(time.RFC3339Nano)}
		case "lsn":
			m.args = []string{"--lsn", cmp.Or(this.commit, next.lsn).String()}
		case "lsn-exclusive":
			m.args = []string{"--exclusive", "--lsn", cmp.Or(next.commit, next.lsn).String()}
		case "xid":
			m.args = []string{"--xid", fmt.Sprint(this.xid)}
		case "xid-exclusive":
			m.args = []string{"--exclusive", "--xid", fmt.Sprint(next.xid)}
		case "restore-point":
			point := w.points[rng.IntN(len(w.points))]
			for point.before <= first+1 {
				point = w.points[rng.IntN(len(w.points))]
			}
			m.least, m.most = point.before-1, point.before-1
			m.earliest = w.ledger[point.before-1].lsn
			m.args = []string{"--restore-point", point.name}
		case "immediate":
			m.args = []string{"--immediate"}
			m.least, m.most = w.around(backups[len(backups)-1].StopLSN)
			m.earliest = 0
		case "latest":
			m.least, m.most = last, last
			m.earliest = w.ledger[last-1].lsn
		}
		out = append(out, m)
	}
	return out
}

// between draws a time below gap; half of the time none, which is where an off-by-one
// would show.
func between(rng *rand.Rand, gap time.Duration) time.Duration {
	if rng.IntN(2) == 0 {
		return 0
	}
	return time.Duration(rng.Int64N(int64(gap/time.Microsecond))) * time.Microsecond
}

// around gives how many entries are surely, and at most, committed before a position.
func (w *world) around(lsn string) (least, most int) {
	at, err := pg.ParseLSN(lsn)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, e := range w.ledger {
		if e.lsn < at {
			most = i + 1
		}
		if i+1 < len(w.ledger) && w.ledger[i+1].lsn <= at {
			least = i + 1 // the next one had begun, holding the lock
		}
	}
	return least, most
}

// recover restores to a moment and compares everything with the world then.
func (w *world) recover(t *testing.T, s *site, m moment, rng *rand.Rand, backups []backup) {
	args := slices.Clone(m.args)
	old, err := pg.ParseLSN(backups[1].StopLSN)
	if err != nil {
		t.Fatal(err)
	}
	if m.earliest > old && rng.IntN(3) == 0 {
		args = append(args, "--backup", backups[0].ID) // the longer way leads to the same
	}
	args = append(args, "--workers", fmt.Sprint(1+rng.IntN(8)))
	args = append(args, w.mapTablespaces(t, s)...)
	t.Logf("restore %q: entries %d to %d", args, m.least, m.most)
	r := s.restore(args...)
	if !slices.Contains(args, "--backup") && m.kind != "immediate" {
		want := ""
		switch {
		case m.earliest > old:
			want = backups[1].ID
		case w.ledger[min(m.most+1, len(w.ledger)-1)].lsn <= old:
			want = backups[0].ID
		}
		if want != "" && r.res.BackupID != want {
			t.Errorf("backup %s was chosen, and %s is the newest that leads there", r.res.BackupID, want)
		}
	}
	n := w.compare(t, r)
	if n < m.least || n > m.most {
		t.Errorf("the ledger holds %d entries, want %d to %d", n, m.least, m.most)
	}
	if t.Failed() {
		t.Logf("the server's log:\n%s", r.log())
	}
	if w.changing(n) == "" {
		r.checkIndexes(t) // a database that is half made or dropped has none
	}
	r.checkPages(t)
}
