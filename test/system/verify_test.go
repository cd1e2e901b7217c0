package system

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/pg/pgtest"
)

// verified is what verify says.
type verified struct {
	OK       bool      `json:"ok"`
	Level    string    `json:"level"`
	Problems []problem `json:"problems"`
	Repaired []struct {
		Object string `json:"object"`
		From   string `json:"from"`
	} `json:"repaired"`
	Backups []struct {
		ID       string    `json:"id"`
		OK       bool      `json:"ok"`
		Level    string    `json:"level"`
		Known    int       `json:"known_damaged_pages"`
		Problems []problem `json:"problems"`
	} `json:"backups"`
}

type problem struct {
	Kind   string `json:"kind"`
	Object string `json:"object"`
	File   string `json:"file"`
	Detail string `json:"detail"`
}

func (s *site) verify(code int, args ...string) verified {
	s.t.Helper()
	if !slices.Contains(args, "--level") {
		args = append(args, "--level", "data") // a restore is another test's
	}
	var v verified
	s.ends(code, append([]string{"verify", "-o", "json", "--level", "data"}, args...)...).decode(s.t, &v)
	if v.OK != (code == exitDone) {
		s.t.Errorf("it ends with %d, and says %+v", code, v)
	}
	return v
}

// drill is a damage that is done to objects of the repository.
type drill struct {
	name   string
	do     func(s *site) (objects []string) // their paths; the first is the one to be named
	level  string                           // the cheapest that finds it
	kind   string
	backup bool // it is a backup's problem, and not only one of the archive
}

// Every kind of damage is found by the cheapest level that can, and named; and of what is
// sound, nothing is said.
func TestVerifyDrill(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{pg: pgtest.Options{WALSegmentMB: 1}})
	c := s.cluster
	c.Exec(kilometre)
	first := s.backup()
	c.Exec("UPDATE road SET pad = md5(pad) WHERE i % 50 = 0")
	s.archiveAll()
	second := s.backup()
	s.archiveAll()
	c.Exec("INSERT INTO road SELECT i, 'late' FROM generate_series(1, 20000) i")
	s.archiveAll()
	for _, level := range []string{"objects", "data"} {
		if v := s.verify(exitDone, "--level", level); len(v.Backups) != 2 || v.Level != level || v.Backups[0].ID != first.ID || len(v.Problems) > 0 {
			t.Fatalf("of the sound repository: %+v", v)
		}
	}
	if v := s.verify(exitDone, "--latest"); len(v.Backups) != 1 || v.Backups[0].ID != second.ID {
		t.Errorf("the latest: %+v", v)
	}
	s.ends(exitNotFound, "verify", "20200101T000000Z-abcdef", "-o", "json").says(t, "no_backup")
	s.ends(exitUsage, "verify", first.ID, "--latest", "-o", "json")

	largest := func(part string) string {
		return slices.MaxFunc(s.objects(part), func(a, b string) int { return int(sizeOf(t, a) - sizeOf(t, b)) })
	}
	part := func(id, name string) string { return s.objects("/" + id + "/" + name)[0] }
	segment := func(after string, n int) string {
		all := slices.DeleteFunc(s.objects("/wal/00000001/"), func(p string) bool { return strings.Contains(filepath.Base(p), ".") })
		slices.Sort(all)
		start := segmentOf(t, after, 1<<20)
		return all[slices.IndexFunc(all, func(p string) bool { return strings.HasSuffix(p, start) })+n]
	}
	exchange := func(a, b string) []string {
		x, y := readFile(t, a), readFile(t, b)
		writeFile(t, a, y)
		writeFile(t, b, x)
		return []string{a, b}
	}
	flip := func(path string, at int64) []string {
		s.damage(path, int(at))
		return []string{path}
	}
	remove := func(path string) []string {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return []string{path}
	}
	for _, d := range []drill{
		{"a chunk of a pack", func(*site) []string { p := largest("/packs/"); return flip(p, sizeOf(t, p)/2) }, "data", "damaged", true},
		{"the footer of a pack", func(*site) []string { p := largest("/packs/"); return flip(p, sizeOf(t, p)-30) }, "objects", "damaged", true},
		{"the header of a pack", func(*site) []string { return flip(largest("/packs/"), 70) }, "objects", "damaged", true},
		{"a pack is gone", func(*site) []string { return remove(largest("/packs/")) }, "objects", "missing", true},
		{"a pack is cut", func(*site) []string {
			p := largest("/packs/")
			writeFile(t, p, readFile(t, p)[:sizeOf(t, p)-9])
			return []string{p}
		}, "objects", "wrong_size", true},
		{"two packs are exchanged", func(*site) []string { p := s.objects("/packs/"); return exchange(p[0], p[1]) }, "objects", "", true},
		{"a head", func(*site) []string { return flip(part(second.ID, "head"), 200) }, "objects", "damaged", true},
		{"a file table", func(*site) []string { return flip(part(first.ID, "files"), 300) }, "objects", "damaged", true},
		{"a file table is gone", func(*site) []string { return remove(part(first.ID, "files")) }, "objects", "missing", true},
		{"a list of packs", func(*site) []string { return flip(part(first.ID, "packs"), 150) }, "objects", "damaged", true},
		{"two heads are exchanged", func(*site) []string { return exchange(part(first.ID, "head"), part(second.ID, "head")) }, "objects", "damaged", true},
		{"an older file table", func(*site) []string {
			p := part(second.ID, "files")
			writeFile(t, p, readFile(t, part(first.ID, "files")))
			return []string{p}
		}, "objects", "damaged", true},
		{"the WAL of a backup is gone", func(*site) []string { return remove(segment(first.StartLSN, 0)) }, "objects", "wal_hole", true},
		{"the WAL of a backup is cut", func(*site) []string {
			p := segment(second.StartLSN, 0)
			writeFile(t, p, readFile(t, p)[:500])
			return []string{p}
		}, "objects", "wal_damaged", true},
		{"the WAL of a backup", func(*site) []string { return flip(segment(first.StartLSN, 0), 300) }, "data", "wal_damaged", true},
		{"later WAL is gone", func(*site) []string { return remove(segment(second.StopLSN, 2)) }, "objects", "wal_hole", false},
		{"later WAL", func(*site) []string { return flip(segment(second.StopLSN, 2), 300) }, "data", "wal_damaged", false},
		{"later segments are exchanged", func(*site) []string { return exchange(segment(second.StopLSN, 2), segment(second.StopLSN, 3)) }, "data", "wal_damaged", false},
		{"the origin of the place", func(*site) []string { return flip(s.objects("/origin")[0], 100) }, "objects", "damaged", true},
		{"a marker of a backup", func(*site) []string { return flip(s.objects(".backup")[0], 100) }, "data", "damaged", false},
	} {
		s.drilled(t, d)
	}
	if v := s.verify(exitDone); len(v.Backups) != 2 {
		t.Errorf("after all: %+v", v)
	}
}

// drilled does a damage, looks who finds it, and heals it.
func (s *site) drilled(t *testing.T, d drill) {
	t.Helper()
	before := map[string][]byte{}
	for _, path := range s.objects("/clusters/") {
		if !strings.Contains(path, "/proofs/") && !strings.Contains(path, "/locks/") {
			before[path] = readFile(t, path)
		}
	}
	objects := d.do(s)
	name := strings.TrimPrefix(objects[0], s.repo+"/")
	for _, level := range []string{"objects", "data"} {
		if level == "objects" && d.level == "data" {
			s.verify(exitDone, "--level", level)
			continue
		}
		if level == "data" && d.level == "objects" {
			continue // it goes through the level before
		}
		v := s.verify(exitProblem, "--level", level)
		all := slices.Clone(v.Problems)
		bad := 0
		for _, b := range v.Backups {
			if all = append(all, b.Problems...); !b.OK {
				bad++
			}
		}
		if (bad > 0) != d.backup {
			t.Errorf("%s, level %s: %d backups are called damaged: %+v", d.name, level, bad, v)
		}
		if !slices.ContainsFunc(all, func(p problem) bool { return p.Object == name && (d.kind == "" || p.Kind == d.kind) }) {
			t.Errorf("%s, level %s: nothing names %s as %s: %+v", d.name, level, name, d.kind, v)
		}
	}
	for path, data := range before {
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, data) {
			writeFile(t, path, data)
		}
	}
}

func sizeOf(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// segmentOf is the end of the name of the segment that holds a position.
func segmentOf(t testing.TB, lsn string, size uint64) string {
	t.Helper()
	var hi, lo uint64
	if _, err := fmt.Sscanf(lsn, "%X/%X", &hi, &lo); err != nil {
		t.Fatal(err)
	}
	n := (hi<<32 | lo) / size
	per := (uint64(1) << 32) / size
	return fmt.Sprintf("%08X%08X", n/per, n%per)
}

// A page that was damaged in the cluster is known to the backup, so that verify says so
// and calls nothing damaged. A backup that brings its WAL along is verified with it.
func TestVerifyKnownPage(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{noArchive: true})
	s.cluster.Exec(kilometre + "; CHECKPOINT")
	rel := pgtest.QueryValue[string](s.cluster, "SELECT pg_relation_filepath('road')")
	s.damage(filepath.Join(s.cluster.Dir, rel), 7*8192+5000)
	s.ends(exitProblem, "backup", "--with-wal")
	v := s.verify(exitDone)
	if len(v.Backups) != 1 || !v.Backups[0].OK || v.Backups[0].Known != 1 {
		t.Errorf("%+v", v)
	}
}

// While clients write as fast as they can, backups are made, and nothing in them is
// called damaged.
func TestVerifyUnderLoad(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{pg: pgtest.Options{Settings: map[string]string{"full_page_writes": "on", "checkpoint_timeout": "30s", "shared_buffers": "4MB"}}})
	s.cluster.Exec(kilometre)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				s.cluster.Exec(fmt.Sprintf("UPDATE road SET pad = md5(pad) WHERE i %% 211 = %d", n%211))
			}
		}
	}()
	defer func() { close(stop); <-done }()
	began := time.Now()
	for n := range 3 {
		s.backup()
		if v := s.verify(exitDone); len(v.Backups) != n+1 {
			t.Errorf("%d backups: %+v", n+1, v)
		}
	}
	t.Logf("took %s", time.Since(began))
}

// WAL that one repository has lost comes from the other, and is told of; then both are
// sound, and the first restores by itself.
func TestVerifyRepair(t *testing.T) {
	t.Parallel()
	skipShort(t)
	c := pgtest.New(t, pgtest.Options{WALSegmentMB: 1, Settings: map[string]string{"archive_mode": "on"}})
	s := siteOf(t, c, siteOptions{init: []string{"--repo", "far=file://" + filepath.Join(c.TempDir(t), "far")}})
	c.Set("archive_command", s.archiveCommand)
	c.Exec("CREATE TABLE note AS SELECT i FROM generate_series(1, 30000) i")
	s.backup()
	c.Exec("INSERT INTO note SELECT i FROM generate_series(1, 20000) i")
	s.archiveAll()
	s.verify(exitDone)
	segments := slices.DeleteFunc(s.objects("/wal/00000001/"), func(p string) bool { return strings.Contains(filepath.Base(p), ".") })
	slices.Sort(segments)
	lost := segments[len(segments)-3:]
	s.damage(lost[0], 500)
	writeFile(t, lost[1], readFile(t, lost[1])[:700])
	s.damage(lost[2], -3)
	if v := s.verify(exitProblem); len(v.Problems)+len(v.Backups[0].Problems) != 3 || len(v.Repaired) > 0 {
		t.Errorf("without --repair: %+v", v)
	}
	var names []string
	for _, p := range lost {
		names = append(names, strings.TrimPrefix(p, s.repo+"/"))
	}
	v := s.verify(exitProblem, "--repair")
	for _, r := range v.Repaired {
		if i := slices.Index(names, r.Object); i < 0 || r.From != "far" {
			t.Errorf("it says %+v", r)
		}
	}
	if len(v.Repaired) != len(names) || len(v.Problems) > 0 || !v.Backups[0].OK {
		t.Errorf("with --repair: %+v", v)
	}
	s.verify(exitDone)
	r := s.restore("--repo", "repo1")
	if n := value[int](t, r, "SELECT count(*) FROM public.note"); n != 50000 {
		t.Errorf("%d rows", n)
	}
}

// A backup after a verification that found a pack damaged takes nothing from it, and is
// whole, as an incremental one.
func TestVerifyThenBackup(t *testing.T) {
	t.Parallel()
	skipShort(t)
	s := newSite(t, siteOptions{})
	s.cluster.Exec(kilometre)
	s.backup()
	pack := slices.MaxFunc(s.objects("/packs/"), func(a, b string) int { return int(sizeOf(t, a) - sizeOf(t, b)) })
	s.damage(pack, int(sizeOf(t, pack)/2))
	blind := s.backup() // nobody knows of it
	if v := s.verify(exitProblem, blind.ID); len(v.Backups) != 1 || v.Backups[0].OK {
		t.Errorf("it adopted what is damaged, and %+v", v)
	}
	b := s.backup()
	if b.Kind != "incremental" || b.Stored*2 < sizeOf(t, pack) {
		t.Errorf("the backup after it was found: %+v", b)
	}
	s.verify(exitDone, b.ID)
	if again := s.backup(); again.Kind != "incremental" || again.Stored > b.Stored/2 {
		t.Errorf("the one after that stores it once more: %+v", again)
	}
}
