package backup

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
)

const (
	// rangeSize is the part of a file that one worker reads at a time: small
	// enough that no file is bound to one processor, a multiple of every block
	// and chunk size.
	rangeSize = 64 << 20
	// batchSize is how many bytes of small files make one task.
	batchSize = 8 << 20
)

// file is a file to copy, and what has been copied of it.
type file struct {
	entry datadir.Entry
	block int    // size of its blocks, bytes
	base  uint32 // number in its fork of its first page, relations only
	parts []part // one for each range, filled by whoever reads it
	left  int    // ranges that are not done; guarded by copied.mu

	once     sync.Once     // for what the parent has, in an incremental backup
	replaces *catalog.File // the parent's entry of that path, or nil
	before   *before       // the same where it fits, or nil
	sparse   bool          // only reads are read: all else is as before
	reads    []extent      // in order
	failed   error
}

// part is what was read of one range of a file.
type part struct {
	start, end int64 // planned, bytes; end of the last is where the file ended
	got        int64 // bytes read
	runs       []chunk.Run
	digest     chunk.Digest
	bad        []catalog.BadPage
	inFlight   []catalog.BadPage // that were being written
	gone       bool              // the file was not there any more
}

// task is one range of a large file, or several small files.
type task struct {
	file     *file
	part     int
	from, to int // of listing.small, where file is nil
	size     int64
}

// listing is what there is to copy. Of the many small files it holds little.
type listing struct {
	dirs  []catalog.File
	small catalog.FileList
	tasks []task
	files int
	total int64 // bytes
}

// plan lists the data directory and divides the work, the largest first.
func (r *run) plan() (*listing, error) {
	l := &listing{}
	var batch task
	flush := func() {
		if batch.to = l.small.Len(); batch.to > batch.from {
			l.tasks = append(l.tasks, batch)
		}
		batch = task{from: batch.to}
	}
	err := datadir.Walk(r.DataDir, datadir.WalkOptions{
		Major: r.source.server.Version.Major(), CatalogVersion: r.source.control.CatalogVersion,
		Exclude: []string{catalog.MarkerName, datadir.ControlPath},
		Skipped: func(path, reason string) { r.Events.Warn(fmt.Sprintf("%s is left out: %s", path, reason)) },
	}, func(e datadir.Entry) error {
		if e.Kind != datadir.KindFile {
			if e.Path != "." {
				l.dirs = append(l.dirs, directory(e))
			}
			return nil
		}
		l.files++
		l.total += e.Size
		if e.Size > rangeSize {
			f := r.file(e)
			for i, p := range f.parts {
				l.tasks = append(l.tasks, task{file: f, part: i, size: p.end - p.start})
			}
			return nil
		}
		l.small.Add(catalog.File{Kind: catalog.Regular, Path: e.Path, Mode: uint32(e.Mode.Perm()), ModTime: e.ModTime, Size: uint64(e.Size), Block: chunk.SliceSize})
		if batch.size += e.Size; batch.size >= batchSize {
			flush()
		}
		return nil
	})
	flush()
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", r.DataDir, err)
	}
	sort.SliceStable(l.tasks, func(i, j int) bool { return l.tasks[i].size > l.tasks[j].size })
	return l, nil
}

// listed gives a small file, as it was listed.
func (l *listing) listed(i int) (datadir.Entry, error) {
	f, err := l.small.At(i)
	if err != nil {
		return datadir.Entry{}, err
	}
	e := datadir.Entry{Path: f.Path, Kind: datadir.KindFile, Size: int64(f.Size), Mode: os.FileMode(f.Mode), ModTime: f.ModTime}
	e.Relation, e.IsRelation = datadir.ParseRelation(f.Path)
	return e, nil
}

func directory(e datadir.Entry) catalog.File {
	f := catalog.File{Kind: catalog.Dir, Path: e.Path, Mode: uint32(e.Mode.Perm()), ModTime: e.ModTime}
	if e.Kind == datadir.KindTablespace && e.Link != "" {
		f.Kind, f.Location = catalog.TablespaceLink, e.Link
	}
	return f
}

// tablespaces notes the tablespaces that were listed, with the names the server
// gives them now: one that came or went since the server was looked at, during a
// long checkpoint say, must be in the head as it is in the file table.
func (r *run) tablespaces(ctx context.Context, dirs []catalog.File) error {
	named, err := r.Conn.Tablespaces(ctx)
	if err != nil {
		return err
	}
	names := map[pg.OID]string{}
	for _, t := range named {
		names[t.OID] = t.Name
	}
	r.head.Tablespaces = nil
	for _, d := range dirs {
		oid, ok := tablespaceOID(d.Path)
		if !ok {
			continue
		}
		location := d.Location
		if d.Kind != catalog.TablespaceLink {
			location = d.Path // in place
		}
		r.head.Tablespaces = append(r.head.Tablespaces, catalog.Tablespace{OID: oid, Name: names[oid], Location: location})
	}
	return nil
}

// databases notes which databases there are.
func (r *run) databases(ctx context.Context) error {
	all, err := r.Conn.Databases(ctx)
	for _, d := range all {
		r.head.Databases = append(r.head.Databases, catalog.Database{OID: d.OID, XMin: d.XMin})
	}
	return err
}

// tablespaceOID gives the tablespace whose link, or directory in place, the path is.
func tablespaceOID(path string) (pg.OID, bool) {
	name, ok := strings.CutPrefix(path, "pg_tblspc/")
	oid, err := strconv.ParseUint(name, 10, 32)
	return pg.OID(oid), ok && err == nil
}

func (r *run) file(e datadir.Entry) *file {
	f := &file{entry: e, block: chunk.SliceSize}
	sizes := r.source.control.Sizes
	if e.IsRelation {
		f.block = int(sizes.Block)
		f.base = e.Relation.Segment * sizes.SegmentBlocks
	}
	for at := int64(0); ; at += rangeSize {
		p := part{start: at, end: min(at+rangeSize, e.Size)}
		f.parts = append(f.parts, p)
		if p.end >= e.Size {
			break
		}
	}
	f.left = len(f.parts)
	return f
}

// Planned is what a backup would do.
type Planned struct {
	Kind   catalog.Kind
	Parent string // of an incremental backup, as far as that can be told before it begins
	Files  int
	Bytes  int64
}

// Plan says what Run would do, and changes nothing. It refuses as Run does.
func Plan(ctx context.Context, o Options) (Planned, error) {
	if err := o.validate(); err != nil {
		return Planned{}, err
	}
	src, err := look(ctx, &o)
	defer src.primary.close()
	if err != nil {
		return Planned{}, err
	}
	r := &run{Options: o, source: src, place: src.place}
	l, err := r.plan()
	if err != nil {
		return Planned{}, err
	}
	p := Planned{Kind: catalog.Full, Files: l.files, Bytes: l.total}
	parent, err := r.choose(ctx)
	if parent != nil {
		p.Kind, p.Parent = catalog.Incremental, parent.ID
	}
	return p, err
}
