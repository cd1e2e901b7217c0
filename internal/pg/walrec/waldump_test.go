package walrec

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/pg/walrec/walrectest"
)

const mebibyte = 1 << 20

// TestEveryRecordAsPgWaldumpShowsIt compares the block references, and the
// relations, databases and tablespaces that come, go or are cut, of every record
// with what PostgreSQL's own tools say of WAL that every resource manager wrote.
func TestEveryRecordAsPgWaldumpShowsIt(t *testing.T) {
	if testing.Short() {
		t.Skip("runs servers for some seconds")
	}
	for _, major := range []int{15, 17, 18} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, pgtest.Options{Major: major, Settings: walrectest.Settings(), WALSegmentMB: 1})
			from := walrectest.NextSegment(c, mebibyte)
			walrectest.Run(t, c, c.TempDir(t))
			to := walrectest.NextSegment(c, mebibyte)
			c.Stop("fast")
			b, names, err := walrectest.Segments(c.Dir, 1, from, to, mebibyte)
			if err != nil {
				t.Fatal(err)
			}
			var streamed []string
			seen := map[uint8]int{}
			changes := map[ChangeKind]int{}
			images := 0
			s, err := NewScanner(Options{NoEvents: true, Records: func(r *Record) {
				streamed = append(streamed, showRecord(r))
				seen[r.Manager]++
				changes[r.Change]++
				for _, b := range r.Blocks {
					if b.HasImage {
						images++
					}
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			_, _ = s.Write(b)
			if _, err := s.Finish(); err != nil {
				t.Fatal(err)
			}
			joined, _ := joinedRecords(t, b, mebibyte)
			if len(joined) != len(streamed) {
				t.Fatalf("%d records segment by segment, %d in a stream", len(joined), len(streamed))
			}
			for i := range joined {
				if got := showRecord(&joined[i]); got != streamed[i] {
					t.Fatalf("segment by segment\n%s\nin a stream\n%s", got, streamed[i])
				}
			}
			out, err := c.Command("pg_waldump", "-p", c.Dir+"/pg_wal", names[0], names[len(names)-1]).CombinedOutput()
			if err != nil {
				t.Fatalf("pg_waldump: %v\n%s", err, out)
			}
			compareDump(t, string(out), streamed)
			t.Logf("%d segments, %d records, %d images, changes %v", len(names), len(streamed), images, changes)
			for m, name := range walrectest.Managers() {
				if seen[uint8(m)] == 0 {
					t.Errorf("no record of %s", name)
				}
			}
			for k := NoChange; k < UnknownChange; k++ {
				if changes[k] == 0 && !(k == DatabaseCreated && major == 14) {
					t.Errorf("no %s", k)
				}
			}
			if changes[UnknownChange] != 0 || images < 100 {
				t.Errorf("%d unknown changes, %d images", changes[UnknownChange], images)
			}
		})
	}
}

func compareDump(t *testing.T, dump string, got []string) {
	t.Helper()
	i := 0
	for line := range strings.Lines(dump) {
		line = strings.TrimSuffix(line, "\n")
		m := recordLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("pg_waldump says %q", line)
		}
		if i == len(got) {
			t.Fatalf("one record too few: %s", line)
		}
		if want := showDumped(t, m); got[i] != want {
			t.Fatalf("pg_waldump says\n%s\nwhich is\n%s\nand not\n%s", line, want, got[i])
		}
		i++
	}
	if i != len(got) {
		t.Fatalf("%d records too many", len(got)-i)
	}
}

// showRecord writes what pg_waldump shows of a record, too.
func showRecord(r *Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", r.LSN, walrectest.Managers()[r.Manager])
	switch r.Change {
	case ForkCreated:
		fmt.Fprintf(&b, " create %s forks %d", r.Relation, r.Forks)
	case RelationTruncated:
		flags := r.Forks & (1 << ForkMain)
		if r.Forks&(1<<ForkVM) != 0 {
			flags |= 2
		}
		if r.Forks&(1<<ForkFSM) != 0 {
			flags |= 4
		}
		fmt.Fprintf(&b, " truncate %s to %d flags %d", r.Relation, r.Size, flags)
	case RelationsDropped:
		fmt.Fprintf(&b, " drop %v", r.Dropped)
	case DatabaseCopied, DatabaseCreated, DatabaseDropped:
		fmt.Fprintf(&b, " %s", r.Change)
		for _, ts := range r.Tablespaces {
			fmt.Fprintf(&b, " %d/%d", ts, r.Database)
		}
	case TablespaceCreated, TablespaceDropped:
		fmt.Fprintf(&b, " %s %d", r.Change, r.Tablespaces[0])
	}
	for _, k := range r.Blocks {
		fmt.Fprintf(&b, " #%d %s fork %d blk %d image %v", k.ID, k.RelFileLocator, k.Fork, k.Block, k.HasImage)
	}
	if r.WALLevel != LevelUnknown {
		fmt.Fprintf(&b, " level %s", r.WALLevel)
	}
	return b.String()
}

var (
	recordLine = regexp.MustCompile(`^rmgr: (\S+) +len \(rec/tot\): +\d+/ *\d+, tx: +\d+, lsn: (\S+), prev \S+, desc: (\S+) ?(.*)$`)
	blockPart  = regexp.MustCompile(`blkref #(\d+): rel (\d+/\d+/\d+)(?: fork (\w+))? blk (\d+)( \(?FPW)?`)
	dropPart   = regexp.MustCompile(`rels:((?: [^ ;]+)+)`)
	levelPart  = regexp.MustCompile(`wal_level[= ](\w+)`)
)

// showDumped writes the same of a line of pg_waldump's.
func showDumped(t *testing.T, m []string) string {
	t.Helper()
	lsn, err := pg.ParseLSN(m[2])
	if err != nil {
		t.Fatal(err)
	}
	manager, op, desc := m[1], m[3], m[4]
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", lsn, manager)
	words := strings.Fields(desc)
	switch manager + " " + op {
	case "Storage CREATE":
		l, fork := dumpedPath(t, words[0])
		fmt.Fprintf(&b, " create %s forks %d", l, 1<<fork)
	case "Storage TRUNCATE":
		l, _ := dumpedPath(t, words[0])
		fmt.Fprintf(&b, " truncate %s to %s flags %s", l, words[2], words[5])
	case "Transaction COMMIT", "Transaction ABORT", "Transaction COMMIT_PREPARED", "Transaction ABORT_PREPARED":
		if rels := dropPart.FindStringSubmatch(desc); rels != nil {
			var dropped []RelFileLocator
			for _, path := range strings.Fields(rels[1]) {
				l, _ := dumpedPath(t, path)
				dropped = append(dropped, l)
			}
			fmt.Fprintf(&b, " drop %v", dropped)
		}
	case "Database CREATE", "Database CREATE_FILE_COPY":
		fmt.Fprintf(&b, " %s %s", DatabaseCopied, words[len(words)-1])
	case "Database CREATE_WAL_LOG":
		fmt.Fprintf(&b, " %s %s", DatabaseCreated, words[len(words)-1])
	case "Database DROP":
		fmt.Fprintf(&b, " %s %s", DatabaseDropped, strings.Join(words[1:], " "))
	case "Tablespace CREATE":
		fmt.Fprintf(&b, " %s %s", TablespaceCreated, words[0])
	case "Tablespace DROP":
		fmt.Fprintf(&b, " %s %s", TablespaceDropped, words[0])
	}
	for _, k := range blockPart.FindAllStringSubmatch(desc, -1) {
		fork := max(0, slices.Index([]string{"", "fsm", "vm", "init"}, k[3]))
		fmt.Fprintf(&b, " #%s %s fork %d blk %s image %v", k[1], k[2], fork, k[4], k[5] != "")
	}
	if level := levelPart.FindStringSubmatch(desc); manager == "XLOG" && level != nil {
		fmt.Fprintf(&b, " level %s", level[1])
	}
	return b.String()
}

// dumpedPath reads the path of a relation's file.
func dumpedPath(t *testing.T, path string) (l RelFileLocator, fork uint8) {
	t.Helper()
	path = strings.TrimSuffix(path, ",")
	parts := strings.Split(path, "/")
	name, suffix, _ := strings.Cut(parts[len(parts)-1], "_")
	number := func(s string) uint32 {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			t.Fatalf("pg_waldump shows the path %q", path)
		}
		return uint32(n)
	}
	l.Number = number(name)
	switch parts[0] {
	case "base":
		l.Tablespace, l.Database = 1663, pg.OID(number(parts[1]))
	case "global":
		l.Tablespace = 1664
	default:
		l.Tablespace, l.Database = pg.OID(number(parts[1])), pg.OID(number(parts[3]))
	}
	return l, uint8(max(0, slices.Index([]string{"", "fsm", "vm", "init"}, suffix)))
}
