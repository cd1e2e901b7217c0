package walrec

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/pg"
)

var tablespaceLine = regexp.MustCompile(`len \(rec/tot\): +\d+/ *(\d+), tx: +\d+, lsn: (\S+), prev (\S+), desc: CREATE (\d+) "(.*)"`)

// TestRealServerCreatesTablespaces compares with what pg_waldump says of them.
func TestRealServerCreatesTablespaces(t *testing.T) {
	if testing.Short() {
		t.Skip("runs servers for some seconds")
	}
	for _, major := range liveMajors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			s := newServer(t, major)
			if _, err := os.Stat(filepath.Join(s.bin, "pg_waldump")); err != nil {
				t.Skip("this PostgreSQL has no pg_waldump")
			}
			s.start()
			s.switchWAL()
			paths := []string{"a", "odd =\\é", strings.Repeat("n", 250), strings.Repeat("deep/", 140) + "end"}
			for i, path := range paths {
				paths[i] = filepath.Join(s.dir, path)
				s.makeDir(paths[i])
				s.sql("create tablespace s" + strconv.Itoa(i) + " location '" + paths[i] + "'")
			}
			s.sql("drop tablespace s0; set allow_in_place_tablespaces = on; create tablespace here location ''")
			name := s.switchWAL()
			b, err := os.ReadFile(filepath.Join(s.archive, name))
			if err != nil {
				t.Fatal(err)
			}
			x := mustScan(t, b)
			var got, want []Event
			for _, e := range x.Events {
				if e.Kind == TablespaceCreate {
					got = append(got, e)
				}
			}
			for line := range strings.Lines(s.run("pg_waldump", "-r", "Tablespace", filepath.Join(s.archive, name))) {
				if m := tablespaceLine.FindStringSubmatch(line); m != nil {
					want = append(want, dumpedTablespace(t, x.Header, m))
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if len(got) != len(paths)+1 {
				t.Fatalf("%d tablespaces were created, %d are found", len(paths)+1, len(got))
			}
			for i, path := range append(paths, "") {
				if got[i].Location != path {
					t.Errorf("location %q, want %q", got[i].Location, path)
				}
			}
		})
	}
}

func dumpedTablespace(t *testing.T, h SegmentHeader, m []string) Event {
	t.Helper()
	total, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	lsn, err := pg.ParseLSN(m[2])
	if err != nil {
		t.Fatal(err)
	}
	prev, err := pg.ParseLSN(strings.TrimSuffix(m[3], ","))
	if err != nil {
		t.Fatal(err)
	}
	oid, err := strconv.ParseUint(m[4], 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return Event{Kind: TablespaceCreate, Tablespace: pg.OID(oid), Location: m[5], Prev: prev, LSN: lsn, EndLSN: endOf(lsn, total, h)}
}

// makeDir makes a directory that the server may write to.
func (s *server) makeDir(path string) {
	s.t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		s.t.Fatal(err)
	}
	if s.cred != nil {
		if err := os.Chown(path, int(s.cred.Uid), int(s.cred.Gid)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// The location is kept wherever a segment's end cuts the record.
func TestTablespaceCrossesSegments(t *testing.T) {
	t.Parallel()
	path := "/" + strings.Repeat("p", maxLocation-1)
	for before := 8; before <= 1056; before += 40 {
		w := newWriter(18, 8192, 1<<20, 1<<20)
		w.commit(1, testTime)
		w.fillTo(w.segment - before)
		want := w.createTablespace(16385, path)
		w.switchSegment()
		x, y := mustScan(t, w.out[:w.segment]), mustScan(t, w.out[w.segment:])
		if x.Tail == nil || y.Head == nil {
			t.Fatalf("%d bytes before the end: no part of it is kept", before)
		}
		if got, is, err := Join(*x.Tail, *y.Head); err != nil || !is || got != want {
			t.Fatalf("%d bytes before the end: %+v, %v, %v", before, got, is, err)
		}
	}
}

func TestTablespaceWithoutLocation(t *testing.T) {
	t.Parallel()
	for name, main := range map[string][]byte{
		"nothing":  {1, 2, 3, 4},
		"no end":   {1, 2, 3, 4, '/', 'x'},
		"too long": tablespaceBytes(1, "/"+strings.Repeat("x", maxLocation)),
	} {
		w := newWriter(15, 8192, 1<<20, 1<<20)
		w.commit(1, testTime)
		at, _ := w.add(rmgrTablespace, 0, 5, nil, nil, main)
		w.zeros()
		x, err := scan(t, w.out, len(w.out), Options{})
		if err == nil || x.Ending != Damaged || x.To != at {
			t.Errorf("%s: %s at %s, %v", name, x.Ending, x.To, err)
		}
	}
	// A tablespace that goes is no event.
	w := newWriter(15, 8192, 1<<20, 1<<20)
	w.add(rmgrTablespace, 0x10, 5, nil, nil, []byte{1, 2, 3, 4})
	w.switchSegment()
	if x := mustScan(t, w.out); len(x.Events) != 1 || x.Events[0].Kind != Switch {
		t.Errorf("%+v", x.Events)
	}
}
