package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/store"
	"github.com/salvor-dr/salvor/internal/wal/summary"
)

// summariesAhead is how many summaries are read at once, and held until their turn.
const summariesAhead = 16

// maxCut is how far a record reaches from its LSN, in bytes, at most (XLogRecordMaxSize,
// xlogrecord.h).
const maxCut = 1020 << 20

// detect chooses how changed pages are found, where the options leave it open: by the
// WAL, if all of it tells, and else by the LSN of each page.
func (r *run) detect(ctx context.Context, b *conn.Backup) error {
	if r.Detect != "" && r.Detect != catalog.ByWAL {
		return nil
	}
	m, err := r.changes(ctx, b)
	switch {
	case err == nil:
		r.Detect, r.prior.changes = catalog.ByWAL, m
		return nil
	case ctx.Err() != nil || errors.Is(err, store.ErrUnavailable):
		return err
	case r.Detect == catalog.ByWAL:
		return refuse("let it read every page: salvor backup --detect lsn", "the WAL cannot tell what changed since backup %s: %v", r.parent.ID, err)
	}
	r.Events.Warn(fmt.Sprintf("every page is read: the WAL cannot tell what changed since backup %s: %v", r.parent.ID, err))
	r.Detect = catalog.ByLSN
	return nil
}

// changes gives what the WAL changed from the parent's start to this one's, both being
// positions from which recovery begins. Pages that changed later are in the WAL that
// the backup is recovered with; and those that the parent read while they changed,
// after its start, are among them.
func (r *run) changes(ctx context.Context, b *conn.Backup) (*summary.Map, error) {
	h := pg.History{Timeline: b.Timeline}
	if r.parent.Timeline != b.Timeline {
		var err error
		if h, err = r.history(ctx, b.Timeline); err != nil {
			return nil, err
		}
	}
	until := recordsEnd(b.StartLSN, r.source.control.Sizes)
	m, err := r.union(ctx, h, until, nil)
	var cut *summary.UnusableError
	if errors.As(err, &cut) && !slices.ContainsFunc(cut.Reasons, func(r summary.Reason) bool { return r.Kind != summary.CutRecord }) {
		return r.union(ctx, h, until, cut.Reasons)
	}
	return m, err
}

// union puts the summaries together up to a position. Around cut records, the segments
// themselves are read: their summaries do not hold all of such a record.
func (r *run) union(ctx context.Context, h pg.History, until pg.LSN, cut []summary.Reason) (*summary.Map, error) {
	u := summary.NewUnion(h, r.parent.StartLSN, until)
	size := r.source.control.Sizes.WALSegment
	last := pg.SegmentBefore(h.Timeline, until, size).Number
	for n := pg.SegmentAt(h.Timeline, r.parent.StartLSN, size).Number; n <= last; n += summariesAhead {
		some := make([]summary.Summary, min(summariesAhead, last-n+1))
		g, ctx := errgroup.WithContext(ctx)
		for i := range some {
			s := pg.Segment{Number: n + uint64(i)}
			s.Timeline = h.At(s.End(size) - 1)
			g.Go(func() (err error) {
				some[i], err = r.summarize(ctx, s, until, cut)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		for _, s := range some {
			if err := u.Add(s); err != nil {
				return nil, err
			}
		}
	}
	return u.Map()
}

// recordsEnd gives the place where the records before a record's LSN end: a page's
// header may lie between.
func recordsEnd(lsn pg.LSN, sizes pg.Sizes) pg.LSN {
	header := pg.LSN(walrec.ShortHeaderSize)
	if lsn%pg.LSN(sizes.WALSegment) < pg.LSN(sizes.WALBlock) {
		header = walrec.LongHeaderSize
	}
	if at := lsn % pg.LSN(sizes.WALBlock); at <= header {
		return lsn - at
	}
	return lsn
}

// summarize gives the summary of a segment: the one that was stored with it; or else
// one made of the segment, as the repository has it or as the server still has it.
// What is at or after until does not matter. One in which a record is cut is made anew.
func (r *run) summarize(ctx context.Context, s pg.Segment, until pg.LSN, cut []summary.Reason) (summary.Summary, error) {
	size := r.source.control.Sizes.WALSegment
	object := r.segmentObject(s)
	footer, err := catalog.ReadWALFooter(ctx, r.Objects, object)
	if errors.Is(err, store.ErrNotFound) {
		sum, missing := r.summarizeLocal(s, until)
		if !errors.Is(missing, errNowhere) || !r.source.server.InRecovery {
			return sum, missing
		}
		// A standby drops segments that its primary has yet to archive.
		if err := r.arrives(ctx, s); err != nil {
			return summary.Summary{}, err
		}
		footer, err = catalog.ReadWALFooter(ctx, r.Objects, object)
	}
	if err != nil {
		return summary.Summary{}, err
	}
	again := slices.ContainsFunc(cut, func(c summary.Reason) bool {
		return s.End(size) > c.First && s.Start(size) <= c.Last+maxCut
	})
	if len(footer.Changes) > 0 && !again {
		sum, err := summary.Decode(footer.Changes)
		if err != nil {
			err = repo.Damaged(object, "%v", err)
		}
		return sum, err
	}
	wal, err := catalog.OpenWAL(ctx, r.Objects, object)
	if err != nil {
		return summary.Summary{}, err
	}
	defer wal.Close()
	sum, err := summary.Read(s.Timeline, wal)
	if err != nil {
		err = fmt.Errorf("segment %s: %w", s.Name(size), err)
	}
	return sum, err
}

var errNowhere = errors.New("it is neither in the repository nor in pg_wal")

// arrives waits until a segment is archived. One that later ones have overtaken is lost.
func (r *run) arrives(ctx context.Context, s pg.Segment) error {
	overtaken, err := r.Objects.Exists(ctx, r.segmentObject(s.Next()))
	if err != nil {
		return err
	}
	there, err := r.Objects.Exists(ctx, r.segmentObject(s))
	if err == nil && !there && overtaken {
		err = fmt.Errorf("segment %s: %w", s.Name(r.source.control.Sizes.WALSegment), errNowhere)
	}
	if err != nil || there {
		return err
	}
	return r.await(ctx, ctx, s, conn.ArchiverStats{})
}

// summarizeLocal makes the summary of a segment that is not archived yet: at least the
// one in which the backup starts is not. What comes before its start is on disk, since
// the checkpoint there is complete.
func (r *run) summarizeLocal(s pg.Segment, until pg.LSN) (summary.Summary, error) {
	size := r.source.control.Sizes.WALSegment
	f, err := os.Open(filepath.Join(r.DataDir, "pg_wal", s.Name(size)))
	if errors.Is(err, os.ErrNotExist) {
		return summary.Summary{}, fmt.Errorf("segment %s: %w", s.Name(size), errNowhere)
	}
	if err != nil {
		return summary.Summary{}, err
	}
	defer f.Close()
	n := min(s.End(size), until) - s.Start(size)
	sum, err := summary.Read(s.Timeline, io.LimitReader(f, int64(n)))
	if err != nil {
		err = fmt.Errorf("segment %s in pg_wal: %w", s.Name(size), err)
	}
	return sum, err
}
