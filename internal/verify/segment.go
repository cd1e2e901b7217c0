package verify

import (
	"context"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/pack"
)

// batchSegments is how many segments are read before their ends are compared: of each the
// parts of records that cross its ends are held until then.
const batchSegments = 64

// scanned is what a segment holds, as far as those beside it matter.
type scanned struct {
	step       catalog.Step
	problem    *catalog.Problem
	ending     walrec.Ending
	to         pg.LSN
	head, tail *walrec.Fragment
	// overwritten says that the record before it was given up after a crash.
	overwritten bool
}

// segments looks at all segments that a plan leads through, and gives the problems. At the level objects those are looked at that backups need to be consistent, by
// their footers.
func (v *verification) segments(ctx context.Context, plan *walPlan) (map[judged]catalog.Problem, error) {
	var ways [][]catalog.Step
	for _, w := range plan.backups {
		ways = append(ways, w.steps)
	}
	if v.data() {
		for _, p := range plan.paths {
			ways = append(ways, p.Steps)
		}
		// Longest first, so that the others are parts of it.
		slices.SortStableFunc(ways, func(a, b []catalog.Step) int { return len(b) - len(a) })
	}
	all := map[string]bool{}
	for _, steps := range ways {
		for _, s := range steps {
			all[s.Name(v.archive)] = true
		}
	}
	w := &walReading{v: v, found: map[judged]catalog.Problem{}, done: map[judged]bool{}, total: uint64(len(all)) * uint64(v.archive.SegmentSize)}
	for _, steps := range ways {
		if err := w.follow(ctx, steps); err != nil {
			return nil, err
		}
	}
	return w.found, nil
}

// judged is a segment as far as a way needs it: one way leaves it at a fork, another goes
// on in it.
type judged struct {
	object string
	end    pg.LSN
}

func (w *walReading) judged(s catalog.Step) judged { return judged{s.Name(w.v.archive), s.End} }

// walReading reads ways through the archive.
type walReading struct {
	v     *verification
	found map[judged]catalog.Problem
	done  map[judged]bool
	total uint64
	bytes counter
}

// follow reads the steps of a way that were not read yet, and the one before each stretch
// of them, whose end is to be compared.
func (w *walReading) follow(ctx context.Context, steps []catalog.Step) error {
	is := func(s catalog.Step) bool { return w.done[w.judged(s)] }
	for len(steps) > 0 {
		n := 0
		for n < len(steps) && is(steps[n]) {
			n++
		}
		if n == len(steps) {
			return nil
		}
		from := max(0, n-1)
		for n < len(steps) && !is(steps[n]) {
			n++
		}
		if err := w.stretch(ctx, steps[from:min(n+1, len(steps))]); err != nil {
			return err
		}
		steps = steps[n:]
	}
	return nil
}

// stretch reads steps in batches, and compares the ends of neighbours.
func (w *walReading) stretch(ctx context.Context, steps []catalog.Step) error {
	var open []walrec.Fragment // of a record that is not complete
	var last *scanned
	for batch := range slices.Chunk(steps, batchSegments) {
		results := make([]scanned, len(batch))
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(w.v.Workers)
		for i, s := range batch {
			g.Go(func() (err error) {
				if gctx.Err() != nil {
					return context.Cause(gctx)
				}
				results[i], err = w.read(gctx, s)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for i := range results {
			r := &results[i]
			if w.done[w.judged(r.step)] = true; r.problem == nil {
				r.problem = w.v.ends(*r)
			}
			if r.problem == nil {
				open, r.problem = w.v.join(open, last, *r)
			}
			if last = r; r.problem != nil {
				w.found[w.judged(r.step)], open, last = *r.problem, nil, nil
			}
		}
	}
	return nil
}

// read reads one segment: all of it, or at the level objects its footer.
func (w *walReading) read(ctx context.Context, s catalog.Step) (scanned, error) {
	r := scanned{step: s}
	name := s.Name(w.v.archive)
	var err error
	if w.v.data() {
		err = w.scan(ctx, name, &r)
	} else {
		var f catalog.WALFooter
		if f, err = catalog.ReadWALFooter(ctx, w.v.Objects, name); err == nil {
			err = w.v.index(name, s, f.Index, f.Size)
			r.ending, r.to = f.Index.Ending, f.Index.To
		}
	}
	w.v.Events.Progress(w.bytes.n.Add(uint64(w.v.archive.SegmentSize)), w.total)
	if err == nil || !unreadable(err) {
		return r, err
	}
	p, err := w.v.problem(ctx, name, err)
	if p.Kind == Damaged {
		p.Kind = WALDamaged
	}
	r.problem = &p
	return r, err
}

// scan reads the bytes of a segment and the records in it.
func (w *walReading) scan(ctx context.Context, name string, r *scanned) error {
	wal, err := catalog.OpenWAL(ctx, w.v.Objects, name)
	if err != nil {
		return err
	}
	defer wal.Close()
	index, n, err := r.from(wal, r.step.Segment.Start(w.v.archive.SegmentSize))
	w.v.read.n.Add(uint64(n))
	if err != nil {
		return err
	}
	return w.v.index(name, r.step, index, n)
}

// from scans the WAL of a segment, and gives what it says of itself.
func (r *scanned) from(in io.Reader, start pg.LSN) (walrec.Index, int64, error) {
	scan, err := walrec.NewScanner(walrec.Options{Start: start, NoEvents: true})
	if err != nil {
		return walrec.Index{}, 0, err
	}
	n, err := io.Copy(scan, in)
	if err != nil {
		return walrec.Index{}, n, err
	}
	index, _ := scan.Finish() // of damage the ending tells, and whether it matters
	r.ending, r.to = index.Ending, index.To
	r.head, r.tail = scan.Ends()
	r.overwritten = index.Header.Overwritten()
	return index, n, nil
}

// index checks that a segment is the one that its name says.
func (v *verification) index(name string, s catalog.Step, x walrec.Index, size int64) error {
	if size != int64(v.archive.SegmentSize) {
		return repo.Damaged(name, "it has %d bytes of WAL, a segment %d", size, v.archive.SegmentSize)
	}
	if x.Header.Magic == 0 {
		return nil // of that its ending tells
	}
	if err := x.Header.Check(s.Segment, v.Place.SystemID); err != nil {
		return repo.Damaged(name, "%v", err)
	}
	return nil
}

// ends says what is wrong with a segment whose records do not go as far as the way through
// it does.
func (v *verification) ends(r scanned) *catalog.Problem {
	if r.ending == walrec.EndsFull || r.ending == walrec.EndsBySwitch || r.to >= r.step.End {
		return nil
	}
	what := "its WAL ends"
	if r.ending == walrec.Damaged {
		what = "the record is damaged"
	}
	return &catalog.Problem{Kind: WALDamaged, Object: r.step.Name(v.archive), Detail: fmt.Sprintf("%s at %s, and it should go on to %s", what, r.to, r.step.End)}
}

// join completes the record that is open before a segment, and gives what is open after
// it.
func (v *verification) join(open []walrec.Fragment, last *scanned, r scanned) ([]walrec.Fragment, *catalog.Problem) {
	if !v.data() {
		return nil, nil
	}
	why := joins(open, last != nil, r)
	if why != "" {
		return nil, &catalog.Problem{Kind: WALDamaged, Object: r.step.Name(v.archive), Detail: why}
	}
	return stillOpen(open, r), nil
}

// joins says why a segment does not go on where the one before it ended; "" if it does.
func joins(open []walrec.Fragment, follows bool, r scanned) string {
	switch {
	case r.head == nil && len(open) > 0 && !r.overwritten:
		return fmt.Sprintf("the record at %s goes on in this segment, which begins with another", open[0].Start)
	case r.head != nil && len(open) == 0 && follows:
		return "it begins with the rest of a record of which the segment before has nothing"
	case r.head == nil || len(open) == 0 || r.head.More > 0:
		return ""
	}
	if _, _, err := walrec.Join(open[0], append(slices.Clone(open[1:]), *r.head)...); err != nil {
		return err.Error()
	}
	return ""
}

// includedWAL looks at the WAL that standalone backups bring along.
func (v *verification) includedWAL(ctx context.Context) error {
	for _, b := range v.backups {
		if b.head == nil || b.broken || !b.head.WALIncluded {
			continue
		}
		if err := v.ownWAL(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// ownWAL looks at the segments in a backup, from its start to its stop.
func (v *verification) ownWAL(ctx context.Context, b *backup) error {
	h, size := b.head, b.head.Sizes.WALSegment
	list, err := catalog.ReadPacks(ctx, v.Objects, *h)
	if err != nil {
		return v.breaks(ctx, b, catalog.PartNames(v.Place, b.id)[1], err)
	}
	packs := pack.NewReader(v.Objects, v.Place.PackName, catalog.PackInfos(list))
	var open []walrec.Fragment
	follows := false
	for s := pg.SegmentAt(h.Timeline, h.StartLSN, size); s.Start(size) < h.StopLSN; s = s.Next() {
		one := catalog.Problem{Kind: WALDamaged, Object: catalog.FilesName(v.Place, b.id), File: "pg_wal/" + s.Name(size)}
		i := slices.IndexFunc(b.included, func(f catalog.File) bool { return f.Path == one.File })
		if i < 0 || b.included[i].Size != uint64(size) {
			one.Kind, one.Detail = WALHole, "the backup brings its WAL along, and lacks this segment"
			b.add(walStage, one)
			open, follows = nil, false
			continue
		}
		if !v.data() {
			continue
		}
		r, why, err := v.ownSegment(ctx, b, s, b.included[i], packs)
		if err != nil {
			return err
		}
		if why == "" {
			why = joins(open, follows, r)
		}
		if follows = why == ""; !follows {
			one.Detail = why
			b.add(walStage, one)
			open = nil
			continue
		}
		open = stillOpen(open, r)
	}
	return nil
}

// ownSegment reads a segment that a backup brings along, and says what is wrong with it; ""
// if nothing is.
func (v *verification) ownSegment(ctx context.Context, b *backup, s pg.Segment, f catalog.File, packs *pack.Reader) (r scanned, why string, err error) {
	h, size := b.head, b.head.Sizes.WALSegment
	in, err := readFile(ctx, *h, f, packs)
	var index walrec.Index
	if err == nil {
		index, _, err = r.from(in, s.Start(size))
	}
	if err == nil && index.Header.Magic != 0 {
		if herr := index.Header.Check(s, h.SystemID); herr != nil {
			return r, herr.Error(), nil
		}
	}
	until := min(s.End(size), h.StopLSN)
	switch {
	case err != nil && !unreadable(err):
		return r, "", err
	case err != nil:
		return r, detail(err), nil
	case r.ending != walrec.EndsFull && r.ending != walrec.EndsBySwitch && r.to < until:
		return r, fmt.Sprintf("its WAL ends at %s, and the backup needs it to %s", r.to, until), nil
	}
	return r, "", nil
}

// stillOpen gives the parts of the record that goes on after a segment, before which open
// were those of one that went on in it.
func stillOpen(open []walrec.Fragment, r scanned) []walrec.Fragment {
	switch {
	case r.head != nil && r.head.More > 0 && len(open) > 0:
		return append(open, *r.head)
	case r.head != nil && r.head.More > 0:
		return nil
	case r.tail != nil:
		return []walrec.Fragment{*r.tail}
	}
	return nil
}

// fileReader reads a file of a backup from its beginning.
type fileReader struct {
	table string // the object of the backup's file table
	file  catalog.File
	runs  []chunk.Run
	fetch func(repo.Ref, func(plain []byte) error) error
	buf   []byte
}

// readFile makes one.
func readFile(ctx context.Context, h catalog.Head, f catalog.File, packs *pack.Reader) (*fileReader, error) {
	scratch := new(pack.Scratch)
	m, err := catalog.FileMap(ctx, h, f, packs, scratch)
	return &fileReader{table: catalog.FilesName(h.Place(), h.ID), file: f, runs: m.Runs, fetch: func(r repo.Ref, use func([]byte) error) error {
		return packs.Read(ctx, []repo.Ref{r}, scratch, func(_ int, plain []byte) error { return use(plain) })
	}}, err
}

// Read implements io.Reader.
func (r *fileReader) Read(p []byte) (int, error) {
	for len(r.buf) == 0 {
		if len(r.runs) == 0 {
			return 0, io.EOF
		}
		if err := r.next(r.runs[0]); err != nil {
			return 0, err
		}
		r.runs = r.runs[1:]
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

// next makes the buffer the bytes of a run.
func (r *fileReader) next(run chunk.Run) error {
	block := uint64(r.file.Block)
	n := min(uint64(run.Blocks)*block, r.file.Size-run.First*block)
	if run.Zero {
		r.buf = make([]byte, n)
		return nil
	}
	return r.fetch(run.Ref, func(plain []byte) error {
		from := uint64(run.Slot) * block
		if from+n > uint64(len(plain)) {
			return repo.Damaged(r.table, "the map of %s takes more of a chunk than it has", r.file.Path)
		}
		r.buf = append(r.buf[:0], plain[from:from+n]...)
		return nil
	})
}
