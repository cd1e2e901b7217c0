package backup

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/pg/page"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/wal/summary"
)

// field is a data directory whose files change at random, as a server would change
// them: a page that changes has a new LSN and checksum.
type field struct {
	t   *testing.T
	rng *rand.Rand
	dir string
	lsn pg.LSN
}

func (f *field) page(block uint32) []byte {
	p := make([]byte, 8192)
	copy(p[12:], []byte{24, 0, 0, 32, 0, 32, 4, 32})
	f.lsn += 64
	binary.LittleEndian.PutUint32(p, uint32(f.lsn>>32))
	binary.LittleEndian.PutUint32(p[4:], uint32(f.lsn))
	for i := 100; i < 8192; i += 8 + f.rng.IntN(500) {
		p[i] = byte(f.rng.Uint32())
	}
	sum := page.Checksum(p, block)
	p[8], p[9] = byte(sum), byte(sum>>8)
	return p
}

// change rewrites, grows, truncates, drops and makes files.
func (f *field) change() {
	f.t.Helper()
	for n := range 6 {
		name := filepath.Join(f.dir, fmt.Sprintf("base/1/9000%d", n))
		data, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			f.t.Fatal(err)
		}
		blocks := len(data) / 8192
		cut := data[:blocks*8192]
		action := f.rng.IntN(8)
		if action > 0 { // a block that was cut goes
			data = cut
		}
		switch action {
		case 0: // leave it
			continue
		case 1: // drop it
			if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
				f.t.Fatal(err)
			}
			continue
		case 2: // truncate it
			data = data[:f.rng.IntN(blocks+1)*8192]
		case 3: // grow it
			for range f.rng.IntN(200) {
				data = append(data, f.page(uint32(len(data)/8192))...)
			}
		case 4: // grow it by zeros, as an extension that was not used
			data = append(data, make([]byte, 8192*f.rng.IntN(40))...)
		case 6: // cut it inside of a block, as a crash of the machine may leave it
			if len(data) > 0 {
				write(f.t, name, data[:len(data)-4096])
			}
			continue
		case 5: // another file of that name
			data = nil
			for range f.rng.IntN(300) {
				data = append(data, f.page(uint32(len(data)/8192))...)
			}
		}
		for range f.rng.IntN(20) { // change pages, here and there or side by side
			if len(data) == 0 {
				break
			}
			at := f.rng.IntN(len(data) / 8192)
			for k := at; k < min(len(data)/8192, at+1+f.rng.IntN(40)); k++ {
				copy(data[k*8192:], f.page(uint32(k)))
			}
		}
		write(f.t, name, data)
	}
	write(f.t, filepath.Join(f.dir, "base/1/90001_fsm"), f.unlogged(3))
	write(f.t, filepath.Join(f.dir, "pg_xact/0000"), noise(f.rng, f.rng.IntN(600_000)))
	write(f.t, filepath.Join(f.dir, "some.conf"), fmt.Appendf(nil, "a = %d\n", f.rng.IntN(3)))
}

// unlogged is pages without an LSN, that change all the same.
func (f *field) unlogged(count int) []byte {
	var b []byte
	for i := range count {
		p := f.page(uint32(i))
		clear(p[:8])
		p[8], p[9] = 0, 0
		sum := page.Checksum(p, uint32(i))
		p[8], p[9] = byte(sum), byte(sum>>8)
		b = append(b, p...)
	}
	return b
}

// Every incremental backup restores to what the directory was, whichever detector
// found the changes; stores no page that had not changed; and counts what is live as a
// look at all maps does.
func TestIncremental(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, detect := range []catalog.Detector{catalog.ByWAL, catalog.ByLSN, catalog.ByHash} {
		t.Run(string(detect), func(t *testing.T) {
			t.Parallel()
			detects(t, detect, seed)
		})
	}
}

func detects(t *testing.T, detect catalog.Detector, seed uint64) {
	f := &field{t: t, rng: rand.New(rand.NewPCG(seed, 0)), dir: stopped(t), lsn: 1 << 32}
	f.change()
	last := newRun(t, f.dir, chunk.S2)
	last.head.StartLSN = f.lsn + 1
	last.store(t, func() {})
	for round := range 5 {
		before := tree(t, f.dir)
		f.change()
		r := last.again(t)
		r.Detect = detect
		var err error
		if r.prior, err = r.openPrior(t.Context(), last.head); err != nil {
			t.Fatal(err)
		}
		r.head.StartLSN = f.lsn + 1
		after := tree(t, f.dir)
		if detect == catalog.ByWAL {
			r.prior.changes = f.changes(before, after)
		}
		r.store(t, func() {})
		same(t, after, tree(t, r.restored(t)))
		changed := 0
		for name, data := range after {
			for at := 0; at < len(data); at += 8192 {
				old := before[name]
				if at+8192 <= len(data) && (len(old) < at+8192 || string(old[at:at+8192]) != string(data[at:at+8192])) {
					changed++
				}
			}
		}
		if stored := int(r.head.PagesStored) - int(r.head.Forwarded/8192); stored > changed {
			t.Errorf("%s, round %d: %d pages were stored, %d had changed", detect, round, stored, changed)
		}
		if d := cmp.Diff(recount(t, r), live(r)); d != "" {
			t.Errorf("%s, round %d: what is live:\n%s", detect, round, d)
		}
		last = r
	}
}

// changes is what WAL would tell of what happened: at least what differs.
func (f *field) changes(before, after map[string][]byte) *summary.Map {
	m := summary.NewMap()
	for name, data := range after {
		relation, is := datadir.ParseRelation(name)
		if !is {
			continue
		}
		l := walrec.RelFileLocator{Tablespace: relation.Tablespace, Database: relation.Database, Number: relation.Number}
		old := before[name]
		for at := 0; at+8192 <= len(data); at += 8192 { // of a cut block, it tells nothing
			if at+8192 > len(old) || !bytes.Equal(data[at:at+8192], old[at:at+8192]) || f.rng.IntN(50) == 0 {
				m.Block(l, uint8(relation.Fork), uint32(at/8192))
			}
		}
		if len(data) < len(old) {
			m.Limit(l, uint8(relation.Fork), uint32(len(data)/8192))
		}
	}
	return m
}

func live(r *run) map[repo.ID]int64 {
	all := map[repo.ID]int64{}
	for _, n := range r.names {
		all[n.ID] = int64(n.Live)
	}
	return all
}

// recount counts what is live by all of the backup's maps.
func recount(t *testing.T, r *run) map[repo.ID]int64 {
	t.Helper()
	p, err := r.openPrior(t.Context(), r.head)
	if err != nil {
		t.Fatal(err)
	}
	c := newCensus(nil)
	err = catalog.ReadFiles(t.Context(), r.Objects, r.head, func(e catalog.File) error {
		if e.Kind != catalog.Regular {
			return nil
		}
		m, err := p.blocks(t.Context(), e)
		c.count(1, m, e.MapRefs)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, n := range c.live {
		if n == 0 {
			delete(c.live, id)
		}
	}
	return c.live
}
