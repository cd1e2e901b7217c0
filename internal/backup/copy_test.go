package backup

import (
	"bytes"
	"context"
	"encoding/binary"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/pg/page"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/restore"
	"github.com/salvor-dr/salvor/internal/store/mem"
)

// newRun prepares a backup of a directory whose server does not run: everything but
// what is asked of the server.
func newRun(t *testing.T, dir string, codec chunk.Codec) *run {
	t.Helper()
	control, err := datadir.ReadControl(dir)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Cluster: "main", DataDir: dir, Objects: seal.New(mem.New(mem.Options{}), nil), Codec: codec, Workers: 3, Clock: clock.System()}
	o.Events = Events{Phase: func(string) {}, Progress: func(_, _ uint64) {}, Warn: func(m string) { t.Log(m) }}
	r := &run{Options: o, id: catalog.NewBackupID(time.Now())}
	r.source.control, r.source.server.Version = control, pg.Version(150000)
	r.source.owner, err = ownerOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	r.place = catalog.Place{Cluster: "main", SystemID: control.SystemID, Incarnation: catalog.NewIncarnation()}
	r.begin(&conn.Backup{StartedAt: time.Now(), StartLSN: control.Checkpoint, Timeline: 1})
	r.head.Label = "a label"
	return r
}

// store reads the directory; meanwhile is done after it is listed.
func (r *run) store(t *testing.T, meanwhile func()) *copied {
	t.Helper()
	l, err := r.plan()
	if err != nil {
		t.Fatal(err)
	}
	meanwhile()
	c := &copied{listing: l, census: newCensus(r.prior)}
	if err := r.work(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := r.control(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := r.lists(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

// restored restores the backup, and gives the new directory.
func (r *run) restored(t *testing.T) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	_, err := restore.Run(t.Context(), restore.Options{
		Choice: catalog.Choice{Backup: r.head}, Objects: r.Objects, To: to, Action: restore.Promote,
		Incarnation: catalog.NewIncarnation(), Workers: 3, Clock: r.Clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// stopped gives the data directory of a server that does not run.
func stopped(t *testing.T) string {
	t.Helper()
	return pgtest.New(t, pgtest.Options{Stopped: true}).Dir
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// noise is bytes that do not compress, in pages of which some are zero.
func noise(rng *rand.Rand, size int) []byte {
	b := make([]byte, size)
	for i := 0; i < size; i += 8192 {
		p := b[i:min(i+8192, size)]
		if rng.IntN(3) == 0 {
			continue
		}
		for len(p) > 0 {
			p = p[copy(p, binary.LittleEndian.AppendUint64(nil, rng.Uint64())):]
		}
	}
	return b
}

// tree reads all regular files but those that a restore makes its own.
func tree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		all[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, own := range []string{"global/pg_control", "postgresql.auto.conf", "backup_label", "recovery.signal", catalog.MarkerName, "postmaster.pid", "postmaster.opts"} {
		delete(all, own)
	}
	for name := range all {
		if strings.HasPrefix(name, "pg_wal/") || strings.HasSuffix(name, "/pg_internal.init") || strings.HasPrefix(name, "pg_subtrans/") || strings.HasPrefix(name, "pg_notify/") {
			delete(all, name)
		}
	}
	return all
}

func same(t *testing.T, want, got map[string][]byte) {
	t.Helper()
	for name, data := range want {
		if there, ok := got[name]; !ok || !bytes.Equal(there, data) {
			t.Errorf("%s: restored with %d bytes (there: %v), want %d", name, len(there), ok, len(data))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s was never there", name)
		}
	}
}

// Files of every size around the edges of blocks, chunks and ranges come back as they were.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	dir := stopped(t)
	rng := rand.New(rand.NewPCG(1, 2))
	sizes := []int{0, 1, 8191, 8192, 8193, chunk.MaxPlain - 1, chunk.MaxPlain, chunk.MaxPlain + 1, 3*chunk.MaxPlain + 8192, batchSize + 5, rangeSize - 1, rangeSize, rangeSize + 8192}
	if testing.Short() {
		sizes = sizes[:len(sizes)-3] // those of more than one range
	} else {
		write(t, filepath.Join(dir, "pg_twophase", "zeros"), make([]byte, rangeSize+chunk.MaxPlain+7))
	}
	for i, size := range sizes {
		write(t, filepath.Join(dir, "pg_logical", "x"+string(rune('a'+i))), noise(rng, size))
	}
	write(t, filepath.Join(dir, "odd name = # \\ é\nü"), []byte("odd"))
	if err := os.Mkdir(filepath.Join(dir, "empty directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, codec := range []chunk.Codec{chunk.S2, chunk.None, chunk.Zstd} {
		want := tree(t, dir)
		r := newRun(t, dir, codec)
		r.store(t, func() {})
		to := r.restored(t)
		same(t, want, tree(t, to))
		if _, err := os.Stat(filepath.Join(to, "empty directory")); err != nil {
			t.Error(err)
		}
		if r.head.Size < batchSize || r.head.Stored == 0 || len(r.head.Damaged) > 0 {
			t.Errorf("the head says: size %d, stored %d, damaged %v", r.head.Size, r.head.Stored, r.head.Damaged)
		}
		for name, data := range want {
			if len(data) >= rangeSize-1 { // once is enough
				os.Remove(filepath.Join(dir, name))
			}
		}
	}
}

// pages makes relation pages that check, each with its number in it.
func pages(first uint32, count int) []byte {
	b := make([]byte, count*8192)
	for i := range count {
		p := b[i*8192 : (i+1)*8192]
		copy(p[12:], []byte{24, 0, 0, 32, 0, 32, 4, 32}) // lower, upper, special, size and version
		copy(p[100:], []byte{byte(i), byte(i >> 8), byte(i >> 16), 1})
		sum := page.Checksum(p, first+uint32(i))
		p[8], p[9] = byte(sum), byte(sum>>8)
	}
	return b
}

// A relation is read as far as it was listed, any other file to its end; what is cut
// off is stored as far as it goes, and what vanishes is left out.
func TestFilesThatChange(t *testing.T) {
	t.Parallel()
	dir := stopped(t)
	cut := int64(rangeSize)
	if testing.Short() {
		cut = chunk.MaxPlain
	}
	many := int(cut+1<<20) / 8192
	file := func(name string) string { return filepath.Join(dir, name) }
	large := pages(0, many)
	some := pages(0, 300)
	write(t, file("base/1/90003"), large)
	write(t, file("base/1/90004"), large)
	for _, name := range []string{"base/1/90001", "base/1/90002", "base/1/90005"} {
		write(t, file(name), some)
	}
	write(t, file("base/1/90006"), some[:80*8192])
	write(t, file("base/1/90007"), some[:80*8192])
	write(t, file("grows.conf"), []byte("short"))
	write(t, file("shrinks.conf"), bytes.Repeat([]byte("long "), 100000))
	write(t, file("gone.conf"), []byte("x"))
	want := tree(t, dir)
	r := newRun(t, dir, chunk.S2)
	c := r.store(t, func() {
		truncate := func(name string, size int64) {
			if err := os.Truncate(file(name), size); err != nil {
				t.Fatal(err)
			}
			want[name] = want[name][:size]
		}
		remove := func(name string) {
			if err := os.Remove(file(name)); err != nil {
				t.Fatal(err)
			}
			delete(want, name)
		}
		truncate("base/1/90001", 0)
		truncate("base/1/90002", 5*8192)
		truncate("base/1/90003", cut)
		truncate("base/1/90006", 3*8192)
		truncate("shrinks.conf", 12345)
		remove("base/1/90004")
		remove("base/1/90007")
		remove("gone.conf")
		write(t, file("base/1/90005"), append(bytes.Clone(some), pages(300, 10)...)) // grew: the WAL brings the rest
		want["grows.conf"] = bytes.Repeat([]byte("much longer "), 200000)
		write(t, file("grows.conf"), want["grows.conf"])
		write(t, file("new.conf"), []byte("not listed"))
	})
	if bad := c.damaged(); len(bad) > 0 {
		t.Errorf("damage: %v", bad)
	}
	same(t, want, tree(t, r.restored(t)))
}

// A page that stays bad is damage, one that changes was being written.
func TestDamagedPages(t *testing.T) {
	t.Parallel()
	dir := stopped(t)
	data := pages(0, 40)
	data[7*8192+5000] ^= 1
	data[39*8192+14] = 7 // a header that makes no sense
	write(t, filepath.Join(dir, "base/1/90001"), data)
	segment := pages(131072, 3)
	segment[2*8192+5000] ^= 1
	write(t, filepath.Join(dir, "base/1/90001.1"), segment)
	r := newRun(t, dir, chunk.S2)
	c := r.store(t, func() {})
	var got []catalog.BadPage
	for _, b := range r.head.Damaged {
		b.Why = ""
		got = append(got, b)
	}
	want := []catalog.BadPage{{Path: "base/1/90001", Block: 7}, {Path: "base/1/90001", Block: 39}, {Path: "base/1/90001.1", Block: 2}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(c.damaged()) != 3 {
		t.Error("the damage is not counted")
	}
	back := tree(t, r.restored(t))
	if !bytes.Equal(back["base/1/90001"], data) || !bytes.Equal(back["base/1/90001.1"], segment) {
		t.Error("damaged pages are not stored as they are")
	}

	good := pages(0, 40)
	torn := append(bytes.Clone(good[3*8192:3*8192+4096]), make([]byte, 4096)...)
	torn[20] ^= 1
	for name, change := range map[string]func(path string){
		"written meanwhile":   func(path string) { write(t, path, good) },
		"dropped meanwhile":   func(path string) { os.Remove(path) },
		"truncated meanwhile": func(path string) { write(t, path, good[:3*8192]) },
		"written by halves":   func(path string) { write(t, path, append(bytes.Clone(good[:3*8192+100]), torn[100:]...)) },
	} {
		e := datadir.Entry{Path: "base/1/90009", Kind: datadir.KindFile, Size: int64(len(good)), IsRelation: true}
		write(t, filepath.Join(dir, e.Path), good)
		f := r.file(e)
		w, err := r.worker(&copied{census: newCensus(nil)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		change(filepath.Join(dir, e.Path))
		b := bytes.Clone(torn)
		b[200] ^= 1
		w.check(t.Context(), f, &f.parts[0], 3, b)
		if len(f.parts[0].bad) > 0 {
			t.Errorf("%s: damage: %v", name, f.parts[0].bad)
		}
		if name == "written meanwhile" && !bytes.Equal(b, good[3*8192:4*8192]) {
			t.Errorf("%s: the bytes are not those of the last reading", name)
		}
	}
}

func TestTablespaceOID(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]pg.OID{
		"pg_tblspc/16384": 16384, "pg_tblspc": 0, "pg_tblspc/": 0, "pg_tblspc/x": 0, "pg_tblspc/16384/PG_15_202209061": 0, "base/16384": 0, "pg_tblspc/4294967296": 0,
	} {
		if oid, ok := tablespaceOID(path); oid != want && ok || ok != (want != 0) {
			t.Errorf("%q: %d, %v", path, oid, ok)
		}
	}
}

// All workers together keep to the rate, and time that was not used is not saved up.
func TestLimiter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1<<20, clock.System())
		time.Sleep(time.Hour)
		began := time.Now()
		var done sync.WaitGroup
		for range 4 {
			done.Go(func() {
				for range 16 {
					if err := l.wait(t.Context(), 256<<10); err != nil {
						t.Error(err)
					}
				}
			})
		}
		done.Wait()
		if took := time.Since(began); took < 15*time.Second || took > 16*time.Second {
			t.Errorf("16 MiB at 1 MiB a second took %s", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = l.wait(ctx, 1<<30) // whatever it says, the next must wait for it
		if err := l.wait(ctx, 1); err == nil {
			t.Error("a cancelled wait waits")
		}
	})
	var none *limiter
	if newLimiter(0, clock.System()) != nil || none.wait(t.Context(), 1<<40) != nil {
		t.Error("without a rate there is a limit")
	}
}
