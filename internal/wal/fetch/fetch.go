package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// ErrAbsent says that the file is proven not to be in any repository.
var ErrAbsent = errors.New("not in the archive")

// Source is a place in a repository that may hold the file.
type Source struct {
	Name    string // of the repository
	Objects *seal.Objects
	Origin  catalog.Origin
	// UpTo is the last timeline whose segments are served, 0 for all. History files
	// are served whatever their timeline: a promotion must not take a number twice.
	UpTo pg.Timeline
}

// serves says whether the file may come from this source.
func (s Source) serves(f pg.WALFile) bool {
	return s.UpTo == 0 || f.Kind == pg.WALHistory || f.Timeline <= s.UpTo
}

// Fetch writes the WAL file called name to dest, which must not be a directory; it
// replaces what is there. The first source that has it serves it; a fault of one is
// no fault if another serves. It fails with ErrAbsent if absence is proven, and if the
// server has the segment itself, beside dest: PostgreSQL looks there next.
func Fetch(ctx context.Context, name, dest string, sources []Source) error {
	if len(sources) == 0 {
		return errors.New("there is no repository to fetch from")
	}
	id := sources[0].Origin.SystemID
	file, err := pg.ParseWALFile(name, sources[0].Origin.Sizes.WALSegment)
	if err != nil {
		return err
	}
	sources = slices.DeleteFunc(slices.Clone(sources), func(s Source) bool { return !s.serves(file) })
	var faults []error
	for _, s := range sources {
		err := s.fetch(ctx, file, name, dest)
		if err == nil {
			return nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			faults = append(faults, fmt.Errorf("fetching %s from repository %s: %w", name, s.Name, err))
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	if beside(dest, file, name, id) {
		return fmt.Errorf("%s, which %s holds: %w", name, filepath.Dir(dest), ErrAbsent)
	}
	for _, s := range sources {
		if err := s.proveAbsent(ctx, file, name); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %w", name, ErrAbsent)
}

// beside says whether the segment lies, under its own name, in the directory that it
// is fetched into: that is pg_wal, where a standalone backup brings its WAL along. A
// segment that was only made ready for later use has another's first page.
func beside(dest string, file pg.WALFile, name string, id pg.SystemID) bool {
	if file.Kind != pg.WALSegment {
		return false
	}
	f, err := os.Open(filepath.Join(filepath.Dir(dest), name))
	if err != nil {
		return false
	}
	defer f.Close()
	var page [walrec.LongHeaderSize]byte
	if _, err := io.ReadFull(f, page[:]); err != nil {
		return false
	}
	h, err := walrec.ParseSegmentHeader(page[:])
	return err == nil && h.Check(file.Segment, id) == nil
}

// proveAbsent fails if WAL that comes after the segment is archived: then it is not
// the end of the archive, but a hole in it.
func (s Source) proveAbsent(ctx context.Context, file pg.WALFile, name string) error {
	if file.Kind != pg.WALSegment {
		return nil
	}
	a, err := catalog.ReadArchive(ctx, s.Objects, s.Origin)
	if err != nil {
		return fmt.Errorf("proving that %s is absent from repository %s: %w", name, s.Name, err)
	}
	if later, ok := a.After(file.Segment); ok {
		return fmt.Errorf("%s is missing in repository %s, and %s, which follows it, is there: WAL was lost",
			name, s.Name, later.Name(a.SegmentSize))
	}
	return nil
}

func (s Source) fetch(ctx context.Context, file pg.WALFile, name, dest string) error {
	object := s.Origin.Place().WALName(file.Timeline, name)
	switch file.Kind {
	case pg.WALHistory, pg.WALBackupMarker:
		data, err := s.Objects.Get(ctx, object, seal.WALSmall)
		if err != nil {
			return err
		}
		return publish(dest, func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		})
	}
	err := s.segment(ctx, file, object, dest)
	if !errors.Is(err, store.ErrNotFound) || file.Kind != pg.WALSegment {
		return err
	}
	// A promotion cut the timeline's last segment off: up to the fork it is good,
	// and recovery along the old timeline needs it.
	return s.segment(ctx, file, object+".partial", dest)
}

func (s Source) segment(ctx context.Context, file pg.WALFile, object, dest string) error {
	wal, err := catalog.OpenWAL(ctx, s.Objects, object)
	if err != nil {
		return err
	}
	defer wal.Close()
	return publish(dest, func(w io.Writer) error {
		var page [walrec.LongHeaderSize]byte
		if _, err := io.ReadFull(wal, page[:]); err != nil {
			return err
		}
		h, err := walrec.ParseSegmentHeader(page[:])
		if err == nil {
			err = h.Check(file.Segment, s.Origin.SystemID)
		}
		if err != nil {
			return fmt.Errorf("object %s: %w", object, err)
		}
		if _, err := w.Write(page[:]); err != nil {
			return err
		}
		_, err = io.CopyBuffer(onlyWriter{w}, wal, make([]byte, 256<<10))
		return err
	})
}

// onlyWriter hides ReadFrom, so that CopyBuffer uses its buffer.
type onlyWriter struct{ io.Writer }
