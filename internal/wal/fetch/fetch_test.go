package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/pg/pgtest"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/store/mem"
	"github.com/salvor-dr/salvor/internal/store/storetest"
	"github.com/salvor-dr/salvor/internal/wal/archive"
)

const segmentSize = 1 << 20

// shelf is segments of a real server, to be put into archives.
type shelf struct {
	dir     string
	names   []string // consecutive
	control datadir.Control
	origin  catalog.Origin
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{WALSegmentMB: 1, Settings: map[string]string{"wal_keep_size": "1GB"}})
	s := &shelf{dir: c.Dir}
	for range 5 {
		c.Exec("SELECT pg_logical_emit_message(true, 'a', repeat('b', 1000))")
		s.names = append(s.names, pgtest.QueryValue[string](c, "SELECT pg_walfile_name(pg_current_wal_lsn())"))
		c.SwitchWAL()
	}
	c.Stop("fast")
	var err error
	if s.control, err = datadir.ReadControl(c.Dir); err != nil {
		t.Fatal(err)
	}
	m := catalog.Marker{Incarnation: catalog.NewIncarnation()}
	if err := catalog.WriteMarker(c.Dir, m); err != nil {
		t.Fatal(err)
	}
	s.origin = catalog.Origin{Cluster: "main", SystemID: s.control.SystemID, Incarnation: m.Incarnation, CreatedAt: time.Now(), Sizes: s.control.Sizes}
	return s
}

func (s *shelf) data(t *testing.T, i int) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, "pg_wal", s.names[i]))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (s *shelf) start(t *testing.T, i int) pg.LSN {
	t.Helper()
	seg, err := pg.ParseSegment(s.names[i], segmentSize)
	if err != nil {
		t.Fatal(err)
	}
	return seg.Start(segmentSize)
}

// source is an archive with some of the shelf's segments.
func (s *shelf) source(t *testing.T, name string, indexes ...int) (Source, store.Store) {
	t.Helper()
	st := mem.New(mem.Options{})
	src := Source{Name: name, Objects: seal.New(st, nil), Origin: s.origin}
	if err := catalog.WriteOrigin(t.Context(), src.Objects, s.origin); err != nil {
		t.Fatal(err)
	}
	for _, i := range indexes {
		s.push(t, src, s.names[i], s.data(t, i))
	}
	return src, st
}

func (s *shelf) push(t *testing.T, to Source, name string, data []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := archive.Push(t.Context(), path, archive.Options{Cluster: "main", DataDir: s.dir, Codec: chunk.Zstd,
		Repositories: []archive.Repository{{Name: to.Name, Objects: to.Objects}}})
	if err != nil {
		t.Fatal(err)
	}
}

// history says that timeline 2 left timeline 1 at a position.
func (s *shelf) history(t *testing.T, to Source, at pg.LSN) {
	t.Helper()
	s.push(t, to, "00000002.history", fmt.Appendf(nil, "1\t%s\tno recovery target specified\n", at))
}

// serves fetches a file and compares it.
func serves(t *testing.T, name string, want []byte, sources ...Source) {
	t.Helper()
	dir := t.TempDir()
	dest := filepath.Join(dir, "RECOVERYXLOG")
	if err := os.WriteFile(dest, []byte("an older one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Fetch(t.Context(), name, dest, sources); err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	got, err := os.ReadFile(dest)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: other bytes, or %v", name, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}

// ends wants absence, or else a fault, and nothing at the destination.
func ends(t *testing.T, name string, absent bool, sources ...Source) {
	t.Helper()
	_ = fails(t, name, absent, sources...)
}

// fails is ends for who wants the error.
func fails(t *testing.T, name string, absent bool, sources ...Source) error {
	t.Helper()
	dir := t.TempDir()
	err := Fetch(t.Context(), name, filepath.Join(dir, "RECOVERYXLOG"), sources)
	if err == nil || errors.Is(err, ErrAbsent) != absent {
		t.Errorf("%s: %v, want absent: %v", name, err, absent)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
	return err
}

func TestFetch(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	const beyond = "000000010000000000000099"
	t.Run("a hole", func(t *testing.T) {
		src, _ := s.source(t, "near", 0, 1, 3)
		serves(t, s.names[1], s.data(t, 1), src)
		ends(t, s.names[2], false, src)
		serves(t, s.names[3], s.data(t, 3), src)
		ends(t, s.names[4], true, src)
		ends(t, beyond, true, src)
		ends(t, "00000002.history", true, src)
		ends(t, "letter", false, src)
		ends(t, s.names[0], false)
	})
	t.Run("history", func(t *testing.T) {
		src, _ := s.source(t, "near")
		s.history(t, src, s.start(t, 1)+100)
		serves(t, "00000002.history", fmt.Appendf(nil, "1\t%s\tno recovery target specified\n", s.start(t, 1)+100), src)
		ends(t, "00000003.history", true, src)
	})
	t.Run("a timeline that was left", func(t *testing.T) {
		// Timeline 2 goes on in the middle of segment 2. Of timeline 1 nothing is missing
		// from there on.
		src, _ := s.source(t, "near", 0, 1)
		s.history(t, src, s.start(t, 2)+100)
		s.push(t, src, s.names[2]+".partial", s.data(t, 2))
		serves(t, s.names[2], s.data(t, 2), src)
		ends(t, s.names[3], true, src)
	})
	t.Run("a hole before the fork", func(t *testing.T) {
		src, _ := s.source(t, "near", 0, 2)
		s.history(t, src, s.start(t, 3)+100)
		ends(t, s.names[1], false, src)
		ends(t, s.names[3], true, src) // its copy on timeline 2 is what counts
	})
	t.Run("beside", func(t *testing.T) {
		// The server has the segment of a hole itself: a standalone backup brought it.
		src, _ := s.source(t, "near", 0, 3)
		wal := t.TempDir()
		dest := filepath.Join(wal, "RECOVERYXLOG")
		write := func(data []byte) {
			if err := os.WriteFile(filepath.Join(wal, s.names[2]), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(s.data(t, 2))
		if err := Fetch(t.Context(), s.names[2], dest, []Source{src}); !errors.Is(err, ErrAbsent) {
			t.Errorf("beside: %v", err)
		}
		for what, data := range map[string][]byte{"another segment": s.data(t, 1), "zeros": make([]byte, segmentSize), "nothing": nil} {
			write(data)
			if err := Fetch(t.Context(), s.names[2], dest, []Source{src}); err == nil || errors.Is(err, ErrAbsent) {
				t.Errorf("beside lies %s: %v", what, err)
			}
		}
	})
	t.Run("several repositories", func(t *testing.T) {
		near, nearStore := s.source(t, "near", 0)
		far, _ := s.source(t, "far", 0, 1)
		serves(t, s.names[1], s.data(t, 1), near, far)
		ends(t, s.names[2], true, near, far)
		// One that cannot be asked proves nothing, and another may serve.
		near.Objects = seal.New(storetest.NewFaulty(nearStore, storetest.Fault{Op: storetest.OpOpen, Err: store.ErrUnavailable}), nil)
		serves(t, s.names[1], s.data(t, 1), near, far)
		if err := fails(t, s.names[2], false, near, far); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("the fault is lost: %v", err)
		}
		// A hole in one of them is a hole.
		gap, _ := s.source(t, "gap", 0, 4)
		ends(t, s.names[2], false, far, gap)
	})
	t.Run("a listing that fails", func(t *testing.T) {
		src, st := s.source(t, "near", 0)
		src.Objects = seal.New(storetest.NewFaulty(st, storetest.Fault{Op: storetest.OpList, Err: store.ErrUnavailable}), nil)
		ends(t, s.names[1], false, src)
	})
	t.Run("damage", func(t *testing.T) {
		for _, at := range []int64{2, 60, 5000} {
			src, st := s.source(t, "near", 0)
			src.Objects = seal.New(storetest.NewFaulty(st, storetest.Fault{Op: storetest.OpRead, Key: s.names[0], At: at, Flip: true}), nil)
			if err := fails(t, s.names[0], false, src); !errors.Is(err, repo.ErrDamaged) && !errors.Is(err, repo.ErrUnknownFormat) {
				t.Errorf("byte %d: %v", at, err)
			}
		}
	})
	t.Run("cut off", func(t *testing.T) {
		src, st := s.source(t, "near", 0)
		src.Objects = seal.New(storetest.NewFaulty(st, storetest.Fault{Op: storetest.OpRead, Key: s.names[0], At: 500, Err: store.ErrUnavailable}), nil)
		ends(t, s.names[0], false, src)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		whole, _ := s.source(t, "whole", 0)
		if err := Fetch(ctx, s.names[0], filepath.Join(t.TempDir(), "x"), []Source{whole}); err != nil && errors.Is(err, ErrAbsent) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

// Of the life that a takeover left, only the timelines up to there are its own: the
// original may have gone on. But that it used a number must be seen, or the number
// would be used again.
func TestFetchFromTheLifeBefore(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	own, _ := s.source(t, "own")
	before, _ := s.source(t, "before", 0, 1)
	s.history(t, before, s.start(t, 1))
	before.UpTo = 1
	serves(t, s.names[0], s.data(t, 0), own, before)
	serves(t, "00000002.history", fmt.Appendf(nil, "1\t%s\tno recovery target specified\n", s.start(t, 1)), own, before)
	if before.serves(pg.WALFile{Kind: pg.WALSegment, Timeline: 2}) || before.serves(pg.WALFile{Kind: pg.WALPartial, Timeline: 2}) {
		t.Error("a segment of a later timeline is served")
	}
}
