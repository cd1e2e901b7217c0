package walrec

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/pg"
)

// TestRecordedWAL reads the archives in testdata, which servers of each version
// wrote; TestRealServer says how to record them anew.
func TestRecordedWAL(t *testing.T) {
	for major := pg.OldestMajor; major <= pg.NewestMajor; major++ {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			checkTruth(t, major, loadTruth(t, major))
		})
	}
}

// TestRealServer does the same with WAL that is written now. With
// SALVOR_RECORD_WAL set it records: for 15 from Debian's installation, for
// other versions from the directories that SALVOR_PG_14 and so on name.
func TestRealServer(t *testing.T) {
	if testing.Short() {
		t.Skip("runs servers for some seconds")
	}
	for _, major := range liveMajors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			tr := record(newServer(t, major))
			checkTruth(t, major, tr)
			if os.Getenv("SALVOR_RECORD_WAL") != "" {
				saveTruth(t, major, tr)
			}
		})
	}
}

func truthName(major int) string {
	return filepath.Join("testdata", fmt.Sprintf("archive-%d.tar.gz", major))
}

func saveTruth(t *testing.T, major int, tr truth) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	files := map[string][]byte{"waldump.txt": []byte(tr.waldump), "sql.txt": []byte(strings.Join(tr.sql, "\n"))}
	for n, b := range tr.files {
		files[n] = b
	}
	names := make([]string, 0, len(files))
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if err := w.WriteHeader(&tar.Header{Name: n, Mode: 0o644, Size: int64(len(files[n]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(files[n]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(truthName(major), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func loadTruth(t testing.TB, major int) truth {
	t.Helper()
	f, err := os.Open(truthName(major))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	tr := truth{files: map[string][]byte{}}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return tr
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		switch h.Name {
		case "waldump.txt":
			tr.waldump = string(b)
		case "sql.txt":
			tr.sql = strings.Fields(string(b))
		default:
			tr.files[h.Name] = b
		}
	}
}

// checkTruth reads an archive in every way there is and compares with what
// pg_waldump and SQL say.
func checkTruth(t *testing.T, major int, tr truth) {
	var all []byte
	var indexes []Index
	size, kept := 0, 0
	for _, name := range segmentNames(tr.files) {
		b := tr.files[name]
		all = append(all, b...)
		seg, err := pg.ParseSegment(name, uint32(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		h, err := ParseSegmentHeader(b)
		if err != nil || h.Check(seg, h.SystemID) != nil || h.Major != major {
			t.Fatalf("header of %s: %+v, %v, %v", name, h, err, h.Check(seg, h.SystemID))
		}
		x, err := scan(t, b, 12345, Options{})
		if err != nil || x.From != seg.Start(uint32(len(b))) || x.To != seg.End(uint32(len(b))) {
			t.Fatalf("%s: %s to %s, %s: %v", name, x.From, x.To, x.Ending, err)
		}
		enc := EncodeIndex(x)
		size += len(enc)
		for _, f := range []*Fragment{x.Head, x.Tail} {
			if f != nil {
				kept += len(f.Data)
			}
		}
		if x, err = DecodeIndex(enc); err != nil {
			t.Fatal(err)
		}
		indexes = append(indexes, x)
	}
	whole := mustScan(t, all)
	if d := cmp.Diff(whole.Events, joined(t, indexes)); d != "" {
		t.Errorf("segment by segment: %s", d)
	}
	spanning := 0
	for _, x := range indexes {
		if x.Tail != nil {
			spanning++
		}
	}
	t.Logf("%d bytes of WAL, %d segments, %d with an event over their end, %d events, %d index bytes, %d of them of fragments",
		len(all), len(indexes), spanning, len(whole.Events), size, kept)
	if spanning == 0 {
		t.Error("no event crosses segments")
	}
	if hasDump := tr.waldump != ""; hasDump != (major == 15 || major >= 17) {
		t.Errorf("pg_waldump's output is there: %v", hasDump)
	} else if hasDump {
		checkWaldump(t, whole, tr.waldump)
	}
	checkSQL(t, whole.Events, tr.sql)
	checkPartial(t, tr, whole.Events)
}

// checkPartial looks at the segment that the promotion cut off, if it left one:
// it ends early, and up to there is what the new timeline's begins with.
func checkPartial(t *testing.T, tr truth, events []Event) {
	t.Helper()
	partials := 0
	for name, b := range tr.files {
		if !strings.HasSuffix(name, ".partial") {
			continue
		}
		partials++
		x, err := scan(t, b, len(b), Options{})
		if err != nil || x.Ending != EndsEarly {
			t.Errorf("%s: %s, %v", name, x.Ending, err)
		}
		from := slices.IndexFunc(events, func(e Event) bool { return e.LSN >= x.From })
		if d := cmp.Diff(events[from:from+len(x.Events)], x.Events); d != "" || len(x.Events) == 0 {
			t.Errorf("%s: %d events: %s", name, len(x.Events), d)
		}
		next := events[from+len(x.Events)]
		if next.Kind != EndOfRecovery || next.LSN != x.To || next.PrevTimeline != x.Timeline {
			t.Errorf("%s ends at %s, the new timeline goes on with %+v", name, x.To, next)
		}
	}
	if partials != 1 {
		t.Errorf("%d partial segments", partials)
	}
}

var dumpLine = regexp.MustCompile(`^rmgr: \S+ +len \(rec/tot\): +\d+/ *(\d+), tx: +(\d+), lsn: (\S+), prev \S+, desc: (\S+) ?(.*)$`)

var dumpKinds = map[string]Kind{
	"COMMIT": Commit, "ABORT": Abort, "COMMIT_PREPARED": CommitPrepared, "ABORT_PREPARED": AbortPrepared,
	"RESTORE_POINT": RestorePoint, "CHECKPOINT_ONLINE": CheckpointOnline, "CHECKPOINT_SHUTDOWN": CheckpointShutdown,
	"END_OF_RECOVERY": EndOfRecovery, "PARAMETER_CHANGE": ParameterChange, "SWITCH": Switch,
}

var levels = map[string]WALLevel{"minimal": LevelMinimal, "replica": LevelReplica, "logical": LevelLogical}

// checkWaldump compares with PostgreSQL's own decoding, in everything it prints.
func checkWaldump(t *testing.T, x Index, dump string) {
	t.Helper()
	var want []Event
	for line := range strings.Lines(dump) {
		m := dumpLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Fatalf("pg_waldump says %q", line)
		}
		if k := dumpKinds[m[4]]; k != 0 {
			want = append(want, dumpedEvent(t, x.Header, k, m))
		}
	}
	got := slices.Clone(x.Events)
	var earliest, latest time.Time
	for i := range got {
		e := &got[i]
		if e.Kind.EndsTransaction() {
			if earliest.IsZero() {
				earliest = e.Time
			}
			latest = e.Time
		}
	}
	for i := range got {
		e := &got[i]
		switch e.Kind { // pg_waldump does not print the time of these but the last
		case RestorePoint, CheckpointOnline, CheckpointShutdown, EndOfRecovery:
			if e.Time.Before(earliest.Add(-time.Minute)) || e.Time.After(latest.Add(time.Minute)) {
				t.Errorf("%s at %s has time %s, the work was done from %s to %s", e.Kind, e.LSN, e.Time, earliest, latest)
			}
			if e.Kind != EndOfRecovery {
				e.Time = time.Time{}
			}
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	seen := map[Kind]bool{}
	for _, e := range got {
		seen[e.Kind] = true
	}
	if len(seen) != len(dumpKinds) {
		t.Errorf("only these kinds of event were made: %v", seen)
	}
}

// dumpedEvent makes the event of one line.
func dumpedEvent(t *testing.T, h SegmentHeader, k Kind, m []string) Event {
	t.Helper()
	lsn, err := pg.ParseLSN(m[3])
	if err != nil {
		t.Fatal(err)
	}
	total, _ := strconv.Atoi(m[1])
	e := Event{Kind: k, LSN: lsn, EndLSN: endOf(lsn, total, h)}
	desc := m[5]
	field := func(pattern string) string {
		f := regexp.MustCompile(pattern).FindStringSubmatch(desc)
		if f == nil {
			t.Fatalf("no %s in %q", pattern, desc)
		}
		return f[1]
	}
	number := func(s string) uint32 {
		v, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(v)
	}
	const stamp = `(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC`
	switch k {
	case Commit, Abort, CommitPrepared, AbortPrepared, EndOfRecovery:
		if e.Time, err = time.Parse("2006-01-02 15:04:05.999999", field(stamp)); err != nil {
			t.Fatal(err)
		}
	}
	switch k {
	case Commit, Abort:
		e.XID = number(m[2])
	case CommitPrepared, AbortPrepared:
		e.XID = number(field(`^(\d+): `))
	case RestorePoint:
		e.Name = desc
	case Switch:
		size := pg.LSN(h.SegmentSize)
		e.EndLSN = (e.EndLSN + size - 1) / size * size
	case ParameterChange:
		e.WALLevel = levels[field(`wal_level=(\w+)`)]
	case CheckpointOnline, CheckpointShutdown:
		if e.Redo, err = pg.ParseLSN(field(`redo ([0-9A-F/]+)`)); err != nil {
			t.Fatal(err)
		}
	}
	switch k {
	case CheckpointOnline, CheckpointShutdown, EndOfRecovery:
		e.Timeline = pg.Timeline(number(field(`tli (\d+)`)))
		e.PrevTimeline = pg.Timeline(number(field(`prev tli (\d+)`)))
		if h.Major >= 17 {
			e.WALLevel = levels[field(`wal_level (\w+)`)]
		}
	}
	return e
}

// endOf counts a record's bytes out over pages.
func endOf(lsn pg.LSN, total int, h SegmentHeader) pg.LSN {
	for {
		room := int(h.BlockSize) - int(lsn%pg.LSN(h.BlockSize))
		if total <= room {
			return lsn + pg.LSN(align8(total))
		}
		total -= room
		lsn += pg.LSN(room) + ShortHeaderSize
		if lsn%pg.LSN(h.SegmentSize) == ShortHeaderSize {
			lsn += LongHeaderSize - ShortHeaderSize
		}
	}
}

// checkSQL compares with what the server said while it was running.
func checkSQL(t *testing.T, events []Event, lines []string) {
	t.Helper()
	ended := map[string]Event{}
	times := map[int64]bool{}
	others := map[string]Event{}
	kinds := map[Kind]int{}
	for _, e := range events {
		kinds[e.Kind]++
		switch {
		case e.Kind.EndsTransaction():
			ended[fmt.Sprint(e.XID)] = e
			times[e.Time.UnixMicro()] = true
		case e.Kind == RestorePoint:
			others[e.Name+e.EndLSN.String()] = e
		default:
			others[e.LSN.String()] = e
		}
	}
	for _, k := range dumpKinds {
		if kinds[k] == 0 {
			t.Errorf("no %s", k)
		}
	}
	counted := map[string]int{}
	for _, line := range lines {
		f := strings.Split(line, "|")
		ok := false
		switch f[0] {
		case "commit":
			e, top := ended[f[1]]
			us, _ := strconv.ParseInt(f[2], 10, 64)
			// A subtransaction has no event, but the time of one.
			ok = !top && times[us] || top && us == e.Time.UnixMicro() && (e.Kind == Commit || e.Kind == CommitPrepared)
			if top {
				counted["top"]++
			}
		case "aborted":
			e, top := ended[f[1]]
			ok = !top || e.Kind == Abort || e.Kind == AbortPrepared
			if top {
				counted["top aborted"]++
			}
		case "restore":
			_, ok = others[f[1]+f[2]]
		case "checkpoint":
			e := others[f[1]]
			ok = e.Redo.String() == f[2] && fmt.Sprint(e.Timeline) == f[3] && fmt.Sprint(e.Time.Unix()) == f[4]
		}
		if !ok {
			t.Errorf("the server said %s; not so in the log", line)
		}
		counted[f[0]]++
	}
	if counted["top"] < 3000 || counted["commit"] < counted["top"]+600 || counted["top aborted"] < 8 ||
		counted["restore"] != 3 || counted["checkpoint"] != 3 {
		t.Errorf("the server said too little: %v", counted)
	}
}
