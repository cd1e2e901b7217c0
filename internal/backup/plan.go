package backup

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"

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
	done  catalog.File
	gone  bool
	bad   []catalog.BadPage
}

// part is what was read of one range of a file.
type part struct {
	start, end int64 // planned, bytes; end of the last is where the file ended
	got        int64 // bytes read
	runs       []chunk.Run
	digest     chunk.Digest
	bad        []catalog.BadPage
	gone       bool // the file was not there any more
}

// task is one range, or several small files.
type task struct {
	files []*file
	part  int // of the only file, when it has several
	size  int64
}

// plan lists the data directory and divides the work, the largest first.
func (r *run) plan() (dirs []catalog.File, files []*file, tasks []task, total int64, err error) {
	var small task
	flush := func() {
		if len(small.files) > 0 {
			tasks = append(tasks, small)
		}
		small = task{}
	}
	err = datadir.Walk(r.DataDir, datadir.WalkOptions{
		Major: r.source.server.Version.Major(), CatalogVersion: r.source.control.CatalogVersion,
		Exclude: []string{catalog.MarkerName, datadir.ControlPath},
		Skipped: func(path, reason string) { r.Events.Warn(fmt.Sprintf("%s is left out: %s", path, reason)) },
	}, func(e datadir.Entry) error {
		if e.Kind != datadir.KindFile {
			if e.Path != "." {
				dirs = append(dirs, directory(e))
			}
			return nil
		}
		f := r.file(e)
		files = append(files, f)
		total += e.Size
		if len(f.parts) > 1 {
			for i, p := range f.parts {
				tasks = append(tasks, task{files: []*file{f}, part: i, size: p.end - p.start})
			}
			return nil
		}
		small.files, small.size = append(small.files, f), small.size+e.Size
		if small.size >= batchSize {
			flush()
		}
		return nil
	})
	flush()
	if err != nil {
		return nil, nil, nil, 0, fmt.Errorf("listing %s: %w", r.DataDir, err)
	}
	sort.SliceStable(tasks, func(i, j int) bool { return tasks[i].size > tasks[j].size })
	return dirs, files, tasks, total, nil
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
	Files int
	Bytes int64
}

// Plan says what Run would do, and changes nothing. It refuses as Run does.
func Plan(ctx context.Context, o Options) (Planned, error) {
	if err := o.validate(); err != nil {
		return Planned{}, err
	}
	src, err := look(ctx, &o)
	if err != nil {
		return Planned{}, err
	}
	r := &run{Options: o, source: src}
	_, files, _, total, err := r.plan()
	return Planned{Files: len(files), Bytes: total}, err
}
