package datadir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/salvor-dr/salvor/internal/pg"
)

func readFile(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// controldata prints a Control as pg_controldata does, by name of the line.
func controldata(c Control) map[string]string {
	ck := c.CheckpointCopy
	clock := func(t time.Time) string { return t.Format("Mon Jan _2 15:04:05 2006") }
	num := func(v any) string { return fmt.Sprint(v) }
	return map[string]string{
		"pg_control version number":             num(c.ControlVersion),
		"Catalog version number":                num(c.CatalogVersion),
		"Database system identifier":            c.SystemID.String(),
		"Database cluster state":                c.State.String(),
		"pg_control last modified":              clock(c.Time),
		"Latest checkpoint location":            c.Checkpoint.String(),
		"Latest checkpoint's REDO location":     ck.Redo.String(),
		"Latest checkpoint's REDO WAL file":     pg.SegmentAt(ck.Timeline, ck.Redo, c.Sizes.WALSegment).Name(c.Sizes.WALSegment),
		"Latest checkpoint's TimeLineID":        num(ck.Timeline),
		"Latest checkpoint's PrevTimeLineID":    num(ck.PrevTimeline),
		"Latest checkpoint's full_page_writes":  onOff(ck.FullPageWrites),
		"Latest checkpoint's NextXID":           fmt.Sprintf("%d:%d", ck.NextXID>>32, uint32(ck.NextXID)),
		"Latest checkpoint's NextOID":           num(ck.NextOID),
		"Latest checkpoint's NextMultiXactId":   num(ck.NextMulti),
		"Latest checkpoint's NextMultiOffset":   num(ck.NextMultiOffset),
		"Latest checkpoint's oldestXID":         num(ck.OldestXID),
		"Latest checkpoint's oldestXID's DB":    num(ck.OldestXIDDB),
		"Latest checkpoint's oldestActiveXID":   num(ck.OldestActiveXID),
		"Latest checkpoint's oldestMultiXid":    num(ck.OldestMulti),
		"Latest checkpoint's oldestMulti's DB":  num(ck.OldestMultiDB),
		"Latest checkpoint's oldestCommitTsXid": num(ck.OldestCommitTsXID),
		"Latest checkpoint's newestCommitTsXid": num(ck.NewestCommitTsXID),
		"Time of latest checkpoint":             clock(ck.Time),
		"Fake LSN counter for unlogged rels":    c.UnloggedLSN.String(),
		"Minimum recovery ending location":      c.MinRecoveryPoint.String(),
		"Min recovery ending loc's timeline":    num(c.MinRecoveryPointTimeline),
		"Backup start location":                 c.BackupStartPoint.String(),
		"Backup end location":                   c.BackupEndPoint.String(),
		"End-of-backup record required":         yesNo(c.BackupEndRequired),
		"wal_level setting":                     c.WALLevel.String(),
		"wal_log_hints setting":                 onOff(c.WALLogHints),
		"max_connections setting":               num(c.MaxConnections),
		"max_worker_processes setting":          num(c.MaxWorkerProcesses),
		"max_wal_senders setting":               num(c.MaxWALSenders),
		"max_prepared_xacts setting":            num(c.MaxPreparedXacts),
		"max_locks_per_xact setting":            num(c.MaxLocksPerXact),
		"track_commit_timestamp setting":        onOff(c.TrackCommitTimestamp),
		"Database block size":                   num(c.Sizes.Block),
		"Blocks per segment of large relation":  num(c.Sizes.SegmentBlocks),
		"WAL block size":                        num(c.Sizes.WALBlock),
		"Bytes per WAL segment":                 num(c.Sizes.WALSegment),
		"Data page checksum version":            num(c.DataChecksumVersion),
	}
}

// notHeld are lines of pg_controldata that Control does not hold.
var notHeld = []string{
	"Maximum data alignment", "Maximum length of identifiers", "Maximum columns in an index",
	"Maximum size of a TOAST chunk", "Size of a large-object chunk", "Date/time type storage",
	"Float8 argument passing", "Default char data signedness", "Mock authentication nonce",
}

// parseControldata reads the output of pg_controldata.
func parseControldata(text []byte) map[string]string {
	lines := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			lines[key] = strings.TrimSpace(value)
		}
	}
	for _, key := range notHeld {
		delete(lines, key)
	}
	return lines
}

func TestParseControlOfRealServers(t *testing.T) {
	files, err := filepath.Glob("testdata/*.control")
	if err != nil || len(files) != 5*5 {
		t.Fatalf("testdata holds %d pg_control files, want 25 (%v)", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := ParseControl(readFile(t, file))
			if err != nil {
				t.Fatal(err)
			}
			want := parseControldata(readFile(t, strings.TrimSuffix(file, ".control")+".txt"))
			if diff := cmp.Diff(want, controldata(c)); diff != "" {
				t.Errorf("pg_controldata (-) and Control (+) differ:\n%s", diff)
			}
			if name := fmt.Sprintf("pg%d-", c.Major()); !strings.HasPrefix(filepath.Base(file), name) {
				t.Errorf("Major() = %d", c.Major())
			}
		})
	}
}

func TestVersionDirectory(t *testing.T) {
	c := Control{ControlVersion: 1300, CatalogVersion: 202209061}
	if got := c.VersionDirectory(); got != "PG_15_202209061" {
		t.Errorf("VersionDirectory() = %q", got)
	}
}

func TestStateStrings(t *testing.T) {
	var words []string
	for s := StateStartup; s <= StateProduction+1; s++ {
		words = append(words, s.String())
	}
	want := "starting up, shut down, shut down in recovery, shutting down, in crash recovery, " +
		"in archive recovery, in production, unrecognized status code 7"
	if got := strings.Join(words, ", "); got != want {
		t.Errorf("states are %s", got)
	}
	if got := fmt.Sprint(WALMinimal, WALReplica, WALLogical, WALLevel(9)); got != "minimal replica logical unrecognized wal_level 9" {
		t.Errorf("levels are %s", got)
	}
}

// Whatever byte of the used part changes, the file is refused; most changes
// show only in the CRC.
func TestParseControlRefusesEveryChangedByte(t *testing.T) {
	for _, major := range []int{15, 18} {
		data := readFile(t, fmt.Sprintf("testdata/pg%d-production.control", major))
		crc, err := controlCRC(data)
		if err != nil {
			t.Fatal(err)
		}
		for i := range crc + 4 {
			data[i] ^= 0x40
			_, err := ParseControl(data)
			want := ErrControlCRC
			if i >= offControlVersion && i < offState {
				want = ErrControlVersion
			}
			if !errors.Is(err, want) {
				t.Errorf("%d, byte %d changed: %v, want %v", major, i, err, want)
			}
			data[i] ^= 0x40
		}
	}
}

func TestParseControlOfTooFewBytes(t *testing.T) {
	data := readFile(t, "testdata/pg18-production.control")
	for n := range minControlSize {
		if _, err := ParseControl(data[:n]); err == nil {
			t.Fatalf("%d bytes are accepted", n)
		}
	}
	if _, err := ParseControl(data[:minControlSize]); err != nil {
		t.Errorf("%d bytes: %v", minControlSize, err)
	}
}

func TestParseControlNamesForeignMachines(t *testing.T) {
	data := readFile(t, "testdata/pg15-production.control")
	swapped := bytes.Clone(data)
	binary.BigEndian.PutUint32(swapped[offControlVersion:], 1300)
	binary.BigEndian.PutUint32(swapped[offCatalogVersion:], 202209061)
	_, err := ParseControl(swapped)
	if !errors.Is(err, ErrControlVersion) || !strings.Contains(err.Error(), "big-endian") {
		t.Errorf("big-endian: %v", err)
	}
	binary.LittleEndian.PutUint32(data[offMaxAlign:], 4)
	if _, err := ParseControl(withCRC(t, data)); !errors.Is(err, ErrControlVersion) {
		t.Errorf("alignment of 4: %v", err)
	}
}

func TestParseControlRefusesImpossibleSizes(t *testing.T) {
	for _, off := range []int{offBlock, offSegmentBlocks, offWALBlock, offWALSegment} {
		data := readFile(t, "testdata/pg17-production.control")
		binary.LittleEndian.PutUint32(data[off:], 0)
		if _, err := ParseControl(withCRC(t, data)); err == nil {
			t.Errorf("size at %d may be zero", off)
		}
	}
}

// withCRC makes the CRC fit after an edit.
func withCRC(t *testing.T, data []byte) []byte {
	t.Helper()
	crc, err := controlCRC(data)
	if err != nil {
		t.Fatal(err)
	}
	putCRC(data, crc)
	return data
}

// feed plays contents of pg_control, one for each read; the last one stays.
func feed(contents ...[]byte) (read func() ([]byte, error), reads *int) {
	reads = new(int)
	return func() ([]byte, error) {
		i := min(*reads, len(contents)-1)
		*reads++
		return contents[i], nil
	}, reads
}

func TestTornControlIsReadAgain(t *testing.T) {
	good := readFile(t, "testdata/pg15-production.control")
	other := readFile(t, "testdata/pg15-shutdown.control")
	torn := append(bytes.Clone(good[:100]), other[100:]...)
	torn2 := append(bytes.Clone(good[:130]), other[130:]...)
	if _, err := ParseControl(torn); !errors.Is(err, ErrControlCRC) {
		t.Fatalf("the torn file is not torn: %v", err)
	}

	read, reads := feed(torn, torn2, other)
	var slept time.Duration
	data, c, err := readControl(read, func(d time.Duration) { slept += d })
	if err != nil || c.State != StateShutdown || !bytes.Equal(data, other) || *reads != 3 || slept != 2*controlPause {
		t.Errorf("torn twice: %d reads, %v, state %v, %v", *reads, slept, c.State, err)
	}

	read, reads = feed(torn)
	if _, _, err = readControl(read, func(time.Duration) {}); !errors.Is(err, ErrControlCRC) || *reads != 2 {
		t.Errorf("corrupt for good: %d reads, %v", *reads, err)
	}

	i := 0
	always := func() ([]byte, error) {
		i++
		torn := bytes.Clone(torn)
		torn[offTime] = byte(i)
		return torn, nil
	}
	if _, _, err = readControl(always, func(time.Duration) {}); !errors.Is(err, ErrControlCRC) || i != controlTries {
		t.Errorf("torn at each read: %d reads, %v", i, err)
	}
}

func TestReadControl(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadControl(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no pg_control: %v", err)
	}
	data := readFile(t, "testdata/pg16-promoted.control")
	if err := os.Mkdir(filepath.Join(dir, "global"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "global", "pg_control"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	image, c, err := ReadControlImage(dir)
	if err != nil || c.Major() != 16 || c.CheckpointCopy.Timeline != 2 || !bytes.Equal(image, data) {
		t.Errorf("major %d, timeline %d, %d bytes, %v", c.Major(), c.CheckpointCopy.Timeline, len(image), err)
	}
}

func TestPoisonCheckpointChangesOnlyTheCheckpoint(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.control")
	for _, file := range files {
		data := readFile(t, file)
		before := bytes.Clone(data)
		poisoned, err := PoisonCheckpoint(data)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, before) {
			t.Errorf("%s: the original was changed", file)
		}
		want, _ := ParseControl(data)
		want.Checkpoint = PoisonedCheckpoint
		got, err := ParseControl(poisoned)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", file, err, diff)
		}
		changed := 0
		for i := range data {
			if data[i] != poisoned[i] {
				changed++
			}
		}
		if changed > 8+4 || len(data) != len(poisoned) {
			t.Errorf("%s: %d bytes changed, beside checkpoint and CRC", file, changed)
		}
	}
}

func TestPoisonedCheckpointPassesXRecOffIsValid(t *testing.T) {
	const longHeader = 40 // of the first page in a segment; the other is shorter
	for size := uint64(1 << 10); size <= 64<<10; size <<= 1 {
		if uint64(PoisonedCheckpoint)%size < longHeader {
			t.Errorf("with WAL blocks of %d the poison is in a page header", size)
		}
	}
	if n := pg.SegmentAt(1, PoisonedCheckpoint, 1<<20).Number; n != 0 {
		t.Errorf("the poison lies in segment %d, which can exist", n)
	}
}

func TestPoisonCheckpointRefusesATornFile(t *testing.T) {
	data := readFile(t, "testdata/pg18-shutdown.control")
	data[offTime]++
	if out, err := PoisonCheckpoint(data); !errors.Is(err, ErrControlCRC) || out != nil {
		t.Errorf("error %v, %d bytes", err, len(out))
	}
}

func TestParseControlOfNoise(t *testing.T) {
	t.Parallel()
	base := readFile(t, "testdata/pg17-production.control")[:512]
	rapid.Check(t, func(t *rapid.T) {
		data := bytes.Clone(base)
		for range rapid.IntRange(1, 40).Draw(t, "edits") {
			data[rapid.IntRange(0, offCRC14+3).Draw(t, "at")] ^= rapid.ByteRange(1, 255).Draw(t, "by")
		}
		if _, err := ParseControl(data); err == nil && !bytes.Equal(data, base) {
			t.Fatal("a damaged pg_control was accepted")
		}
	})
}

func FuzzParseControl(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.control")
	for _, file := range files {
		f.Add(readFile(f, file)[:minControlSize])
	}
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := ParseControl(data); err == nil {
			if _, err := PoisonCheckpoint(data); err != nil {
				t.Fatal(err)
			}
		}
		// Behind the CRC, which no fuzzer gets past.
		if crc, err := controlCRC(data); err == nil {
			fixed := bytes.Clone(data)
			putCRC(fixed, crc)
			if c, err := ParseControl(fixed); err == nil {
				controldata(c)
			} else if errors.Is(err, ErrControlCRC) {
				t.Fatal(err)
			}
		}
	})
}
