package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
	"github.com/salvor-dr/salvor/internal/store/storetest"
)

// bench is a stopped server's directory with one finished segment, and repositories
// that know it.
type bench struct {
	t       *testing.T
	dir     string
	path    string // of the segment
	name    string
	data    []byte
	segment pg.Segment
	place   catalog.Place
	mu      *sync.Mutex
	warned  *[]string // guarded by mu
	o       Options
	stores  []store.Store
}

const segmentSize = 1 << 20

func newBench(t *testing.T, work ...func(*pgtest.Cluster)) *bench {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{WALSegmentMB: 1, Settings: map[string]string{"wal_keep_size": "1GB"}})
	for _, do := range work {
		do(c)
	}
	c.Exec("SELECT pg_logical_emit_message(true, 'a', repeat('b', 1000))")
	name := pgtest.QueryValue[string](c, "SELECT pg_walfile_name(pg_current_wal_lsn())")
	c.SwitchWAL()
	c.Stop("fast")
	b := &bench{t: t, dir: c.Dir, name: name, path: filepath.Join(c.Dir, "pg_wal", name)}
	var err error
	if b.data, err = os.ReadFile(b.path); err != nil {
		t.Fatal(err)
	}
	if b.segment, err = pg.ParseSegment(name, segmentSize); err != nil {
		t.Fatal(err)
	}
	control, err := datadir.ReadControl(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	m := catalog.Marker{Incarnation: catalog.NewIncarnation()}
	if err := catalog.WriteMarker(c.Dir, m); err != nil {
		t.Fatal(err)
	}
	b.place = catalog.Place{Cluster: "main", SystemID: control.SystemID, Incarnation: m.Incarnation}
	b.o = Options{Cluster: "main", DataDir: c.Dir, Codec: chunk.S2}
	for _, r := range []string{"near", "far"} {
		st := mem.New(mem.Options{})
		objects := seal.New(st, nil)
		origin := catalog.Origin{Cluster: "main", SystemID: control.SystemID, Incarnation: m.Incarnation, CreatedAt: time.Now(), Sizes: control.Sizes}
		if err := catalog.WriteOrigin(t.Context(), objects, origin); err != nil {
			t.Fatal(err)
		}
		b.stores = append(b.stores, st)
		b.o.Repositories = append(b.o.Repositories, Repository{r, objects})
	}
	return b
}

// fresh is the bench with empty repositories, for another test on the same server.
func (b *bench) fresh(t *testing.T) *bench {
	t.Helper()
	c := *b
	c.t, c.mu, c.warned, c.stores, c.o.Repositories = t, new(sync.Mutex), new([]string), nil, nil
	c.o.Warn = func(m string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		*c.warned = append(*c.warned, m)
	}
	for i, r := range b.o.Repositories {
		st := mem.New(mem.Options{})
		objects := seal.New(st, nil)
		origin, err := catalog.ReadOrigin(t.Context(), b.o.Repositories[i].Objects, b.place)
		if err != nil {
			t.Fatal(err)
		}
		if err := catalog.WriteOrigin(t.Context(), objects, origin); err != nil {
			t.Fatal(err)
		}
		c.stores = append(c.stores, st)
		c.o.Repositories = append(c.o.Repositories, Repository{r.Name, objects})
	}
	return &c
}

// file puts content under a name, and gives its path.
func (b *bench) file(name string, content []byte) string {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *bench) push(path string) ([]Result, error) { return Push(b.t.Context(), path, b.o) }

// outcome pushes and wants the same outcome everywhere.
func (b *bench) outcome(path string, want Outcome) {
	b.t.Helper()
	results, err := b.push(path)
	if err != nil {
		b.t.Errorf("%s: %v", filepath.Base(path), err)
		return
	}
	for _, r := range results {
		if r.Outcome != want {
			b.t.Errorf("%s in %s: %s, want %s", filepath.Base(path), r.Repository, r.Outcome, want)
		}
	}
}

func (b *bench) refused(path string, want any) {
	b.t.Helper()
	_, err := b.push(path)
	switch want := want.(type) {
	case error:
		if !errors.Is(err, want) {
			b.t.Errorf("%s: %v, want %v", filepath.Base(path), err, want)
		}
	default:
		if !errors.As(err, want) {
			b.t.Errorf("%s: %v, want a %T", filepath.Base(path), err, want)
		}
	}
}

// archived gives what the repositories hold of a file.
func (b *bench) archived(name string) []byte {
	b.t.Helper()
	var all [][]byte
	for _, r := range b.o.Repositories {
		wal, err := catalog.OpenWAL(b.t.Context(), r.Objects, b.place.WALName(b.segment.Timeline, name))
		if err != nil {
			b.t.Fatal(err)
		}
		data, err := io.ReadAll(wal)
		if err != nil {
			b.t.Fatal(err)
		}
		wal.Close()
		all = append(all, data)
	}
	if !bytes.Equal(all[0], all[1]) {
		b.t.Error("the repositories differ")
	}
	return all[0]
}

// changed is the segment with another byte at a place.
func (b *bench) changed(at int) []byte {
	data := slices.Clone(b.data)
	data[at] ^= 1
	return data
}

func TestPush(t *testing.T) {
	t.Parallel()
	all := newBench(t)
	t.Run("again", func(t *testing.T) {
		b := all.fresh(t)
		b.outcome(b.path, Stored)
		b.outcome(b.path, Present)
		if !bytes.Equal(b.archived(b.name), b.data) {
			t.Error("other bytes come back")
		}
		b.refused(b.file(b.name, b.changed(segmentSize-1)), new(*Conflict))
		if !bytes.Equal(b.archived(b.name), b.data) {
			t.Error("a refused push changed what was there")
		}
		if len(*b.warned) > 0 {
			t.Errorf("warnings: %q", *b.warned)
		}
	})
	t.Run("foreign", func(t *testing.T) {
		b := all.fresh(t)
		b.refused(b.file("0000000100000000000000FF", b.data), ErrForeign)         // another place
		b.refused(b.file(b.name, b.data[:segmentSize/2]), ErrForeign)             // cut short
		b.refused(b.file(b.name, append(slices.Clone(b.data), 0)), ErrForeign)    // too long
		b.refused(b.file(b.name, make([]byte, segmentSize)), ErrForeign)          // never written
		b.refused(b.file(b.name, b.changed(24)), ErrForeign)                      // another system identifier
		b.refused(b.file("letter", b.data), ErrForeign)                           // no WAL
		b.refused(b.file("00000002.history", []byte("1\tnowhere\n")), ErrForeign) // no history
		for _, st := range b.stores {
			for o, err := range st.List(t.Context(), b.place.Prefix()+"wal/", store.ListOptions{}) {
				t.Errorf("archived: %s, %v", o.Key, err)
			}
		}
	})
	t.Run("small", func(t *testing.T) {
		b := all.fresh(t)
		history := b.file("00000002.history", []byte("1\t0/3000000\tno recovery target specified\n"))
		b.outcome(history, Stored)
		b.outcome(history, Present)
		b.refused(b.file("00000002.history", []byte("1\t0/3000001\tno recovery target specified\n")), new(*Conflict))
		marker := b.file(b.name+".00000028.backup", []byte("START WAL LOCATION: 0/3000028\n"))
		b.outcome(marker, Stored)
		b.outcome(marker, Present)
	})
	t.Run("partial", func(t *testing.T) {
		b := all.fresh(t)
		b.outcome(b.file(b.name+".partial", b.data), Stored)
		b.outcome(b.file(b.name, b.changed(segmentSize-1)), Stored) // beside it
		if !bytes.Equal(b.archived(b.name+".partial"), b.data) {
			t.Error("other bytes come back")
		}
	})
	t.Run("half done", func(t *testing.T) {
		b := all.fresh(t)
		faulty := storetest.NewFaulty(b.stores[1], storetest.Fault{Op: storetest.OpCommit, Key: b.name, Nth: 1, Err: store.ErrUnavailable})
		far := b.o.Repositories[1].Objects
		b.o.Repositories[1].Objects = seal.New(faulty, nil)
		b.refused(b.path, store.ErrUnavailable)
		results, err := b.push(b.path)
		if err != nil || results[1].Outcome != Stored {
			t.Errorf("the second push: %+v, %v", results, err)
		}
		b.o.Repositories[1].Objects = far
		if !bytes.Equal(b.archived(b.name), b.data) {
			t.Error("other bytes come back")
		}
	})
	t.Run("a lost answer", func(t *testing.T) {
		b := all.fresh(t)
		b.o.Repositories[1].Objects = seal.New(storetest.NewFaulty(b.stores[1], storetest.Fault{Op: storetest.OpCommit, Nth: 1, Err: store.ErrUnavailable, Done: true}), nil)
		b.refused(b.path, store.ErrUnavailable)
		results, err := b.push(b.path)
		if err != nil || results[1].Outcome != Present {
			t.Errorf("the second push: %+v, %v", results, err)
		}
	})
	t.Run("unknown", func(t *testing.T) {
		b := all.fresh(t)
		b.o.Cluster = "another"
		b.refused(b.path, new(*Unregistered))
	})
}

// After a promotion the segment in which the timeline was left can come twice: what
// lies before the fork must be the same, what lies after it belongs to nobody.
func TestFork(t *testing.T) {
	t.Parallel()
	all := newBench(t)
	const fork = 0x4321
	for _, try := range []struct {
		name    string
		fork    int // in the segment; it may lie outside
		differs int
		want    Outcome // "" is a conflict
	}{
		{"after the fork", fork, fork + 1000, Divergent},
		{"at the fork", fork, fork, Divergent},
		{"just before the fork", fork, fork - 1, ""},
		{"long before the fork", fork, 9000, ""},
		{"at the end", fork, segmentSize - 1, Divergent},
		{"fork at the beginning", 0, 9000, Divergent},
		{"fork in an earlier segment", -segmentSize / 2, 9000, Divergent},
		{"fork in a later segment", segmentSize + 100, segmentSize - 1, ""},
		{"fork at the end", segmentSize, segmentSize - 1, ""},
	} {
		t.Run(try.name, func(t *testing.T) {
			b := all.fresh(t)
			at := pg.LSN(int64(b.segment.Start(segmentSize)) + int64(try.fork))
			b.outcome(b.path, Stored)
			other := b.file(b.name, b.changed(try.differs))
			b.refused(other, new(*Conflict)) // no fork is known yet
			b.outcome(b.file("00000002.history", fmt.Appendf(nil, "1\t%s\tno recovery target specified\n", at)), Stored)
			b.outcome(b.path, Present)
			if try.want == "" {
				b.refused(other, new(*Conflict))
			} else {
				b.outcome(other, try.want)
				if !strings.Contains(strings.Join(*b.warned, "\n"), at.String()) {
					t.Errorf("warnings: %q", *b.warned)
				}
			}
			if !bytes.Equal(b.archived(b.name), b.data) {
				t.Error("what was there first has changed")
			}
		})
	}
}
