package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// Repository is one place to archive to.
type Repository struct {
	Name    string
	Objects *seal.Objects
}

// Options say what to archive where.
type Options struct {
	Cluster      string
	DataDir      string // of the server that runs archive_command
	Repositories []Repository
	Codec        chunk.Codec
	// Warn is told of what does not keep a file from being archived, by several
	// goroutines.
	Warn func(message string)
}

// Outcome is what a repository did with a file.
type Outcome string

// The outcomes. All of them are success.
const (
	Stored    Outcome = "stored"
	Present   Outcome = "present"   // the same content was there
	Divergent Outcome = "divergent" // equal up to a fork, and past it no history goes
)

// Result is how a file was archived in one repository.
type Result struct {
	Repository string  `json:"repository"`
	Outcome    Outcome `json:"outcome"`
	Stored     uint64  `json:"stored_bytes"`
}

// Push archives one file of pg_wal in every repository. When it returns nil, each
// has it durably. It fails with *Conflict, *Unregistered, an error that wraps
// ErrForeign, or one of the store's; then some of the repositories may have the
// file, and the next push finds it there.
func Push(ctx context.Context, path string, o Options) ([]Result, error) {
	control, err := datadir.ReadControl(o.DataDir)
	if err != nil {
		return nil, err
	}
	marker, err := catalog.ReadMarker(o.DataDir)
	if err != nil {
		return nil, err
	}
	file, err := pg.ParseWALFile(filepath.Base(path), control.Sizes.WALSegment)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	p := &push{
		Options: o, marker: marker, file: file, name: filepath.Base(path), path: path,
		place: catalog.Place{Cluster: o.Cluster, SystemID: control.SystemID, Incarnation: marker.Incarnation},
		size:  control.Sizes.WALSegment,
	}
	results := make([]Result, len(o.Repositories))
	g, ctx := errgroup.WithContext(ctx)
	for i, r := range o.Repositories {
		g.Go(func() error {
			res, err := p.to(ctx, r)
			if err != nil {
				return fmt.Errorf("archiving %s in repository %s: %w", p.name, r.Name, err)
			}
			results[i] = res
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return results, nil
}

// push is one file on its way.
type push struct {
	Options
	marker catalog.Marker
	place  catalog.Place
	file   pg.WALFile
	name   string
	path   string
	size   uint32 // of a WAL segment of this cluster
}

func (p *push) object() string { return p.place.WALName(p.file.Timeline, p.name) }

func (p *push) to(ctx context.Context, r Repository) (Result, error) {
	if _, err := catalog.ReadOrigin(ctx, r.Objects, p.place); err != nil {
		if errors.Is(err, catalog.ErrNoPlace) {
			err = &Unregistered{Repository: r.Name, SystemID: p.place.SystemID, Marker: p.marker}
		}
		return Result{}, err
	}
	switch p.file.Kind {
	case pg.WALSegment, pg.WALPartial:
		return p.segment(ctx, r)
	default:
		return p.small(ctx, r)
	}
}

// small archives a history or backup history file.
func (p *push) small(ctx context.Context, r Repository) (Result, error) {
	const maxSmall = 1 << 20
	info, err := os.Stat(p.path)
	if err != nil {
		return Result{}, err
	}
	if info.Size() > maxSmall {
		return Result{}, fmt.Errorf("%w: it has %d bytes", ErrForeign, info.Size())
	}
	data, err := os.ReadFile(p.path)
	if err != nil {
		return Result{}, err
	}
	if p.file.Kind == pg.WALHistory {
		if _, err := pg.ParseHistory(p.file.Timeline, data); err != nil {
			return Result{}, fmt.Errorf("%w: %w", ErrForeign, err)
		}
	}
	res := Result{Repository: r.Name, Outcome: Stored, Stored: uint64(len(data))}
	err = r.Objects.Put(ctx, p.object(), seal.WALSmall, data)
	if !errors.Is(err, store.ErrExists) {
		return res, err
	}
	there, err := r.Objects.Get(ctx, p.object(), seal.WALSmall)
	if err != nil {
		return Result{}, err
	}
	if string(there) != string(data) {
		return Result{}, &Conflict{File: p.name, Repository: r.Name}
	}
	return Result{Repository: r.Name, Outcome: Present}, nil
}
