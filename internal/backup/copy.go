package backup

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/pack"
)

// pingEvery keeps the backup's session alive, and tells early that it is lost.
const pingEvery = 10 * time.Second

// copied is what a backup has read and stored.
type copied struct {
	*listing

	census *census

	mu   sync.Mutex
	done catalog.FileList
	bad  []catalog.BadPage
	// inFlight are pages that were being written while they were read.
	inFlight []catalog.BadPage

	read, pagesRead, pagesStored atomic.Uint64
	spared                       atomic.Uint64 // bytes that were not read, since they are as before
	adopted                      atomic.Uint64 // bytes, as stored
	forwarded                    atomic.Uint64 // bytes of blocks that did not change, and were stored anew
}

// packs are the pack writers of the workers.
type packs struct {
	mu      sync.Mutex
	writers []*pack.Writer
}

func (p *packs) add(w *pack.Writer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writers = append(p.writers, w)
}

func (p *packs) abort() {
	for _, w := range p.writers {
		w.Abort() // what is left of it is invisible
	}
}

// infos lists the packs that are durable.
func (p *packs) infos() []pack.Info {
	var all []pack.Info
	for _, w := range p.writers {
		all = append(all, w.Packs()...)
	}
	return all
}

// copy reads the data directory and stores its chunks.
func (r *run) copy(ctx context.Context, b *conn.Backup) (*copied, error) {
	l, err := r.plan()
	if err != nil {
		return nil, err
	}
	if err := r.tablespaces(ctx, l.dirs); err != nil {
		return nil, err
	}
	c := &copied{listing: l, census: newCensus(r.prior)}
	// What runs beside ends with the copy, but its questions to the server don't:
	// a question that is cut off takes the session with it, and so the backup.
	session := ctx
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var beside sync.WaitGroup
	beside.Go(func() {
		if err := keepAlive(ctx, session, b); err != nil {
			stop(err)
		}
	})
	beside.Go(func() {
		if err := r.proveArchiving(ctx, session); err != nil {
			stop(err)
		}
	})
	err = r.work(ctx, c)
	if err == nil {
		err = r.control(ctx, c)
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause // the reason, not its echo
	}
	stop(nil)
	beside.Wait()
	return c, err
}

// keepAlive pings the backup's session until ctx ends.
func keepAlive(ctx, session context.Context, b *conn.Backup) error {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := b.Ping(session); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// work hands the tasks to the workers.
func (r *run) work(ctx context.Context, c *copied) error {
	g, ctx := errgroup.WithContext(ctx)
	queue := make(chan task)
	g.Go(func() error {
		defer close(queue)
		for _, t := range c.tasks {
			select {
			case queue <- t:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	limit := newLimiter(r.RateLimit, r.Clock)
	for range r.Workers {
		w, err := r.worker(c, limit)
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		g.Go(func() error {
			for t := range queue {
				if err := w.do(ctx, t); err != nil {
					return err
				}
			}
			return w.packs.Close()
		})
	}
	return g.Wait()
}

func (r *run) worker(c *copied, limit *limiter) (*worker, error) {
	out, err := pack.NewWriter(r.Objects, r.place.PackName, r.Codec, pack.DefaultSize)
	if err != nil {
		return nil, err
	}
	r.packs.add(out)
	return &worker{run: r, copied: c, limit: limit, packs: out, buf: make([]byte, chunk.MaxPlain)}, nil
}

// control stores pg_control, last of all, as it must not be older than any other
// file (basebackup.c).
func (r *run) control(ctx context.Context, c *copied) error {
	w, err := r.worker(c, nil)
	if err != nil {
		return err
	}
	image, _, err := datadir.ReadControlImage(r.DataDir)
	if err != nil {
		return err
	}
	f := r.file(datadir.Entry{Path: datadir.ControlPath, Kind: datadir.KindFile, Size: int64(len(image)), Mode: 0o600, ModTime: r.Clock.Now()})
	f.block = chunk.SliceSize
	p := &f.parts[0]
	if err := r.remember(ctx, f); err != nil {
		return err
	}
	if err := w.slice(ctx, f, p, 0, image); err != nil {
		return err
	}
	if err := w.flush(ctx, f, p); err != nil {
		return err
	}
	p.got = int64(len(image))
	c.read.Add(uint64(len(image)))
	if _, _, err := w.finish(ctx, f); err != nil {
		return err
	}
	return w.packs.Close()
}

// add takes what has been copied of a file.
func (c *copied) add(f catalog.File, bad, inFlight []catalog.BadPage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done.Add(f)
	c.bad, c.inFlight = append(c.bad, bad...), append(c.inFlight, inFlight...)
}

// table gives the file table's entries, in order.
func (c *copied) table() iter.Seq2[catalog.File, error] {
	for _, d := range c.dirs {
		c.done.Add(d)
	}
	c.done.Sort()
	return c.done.All()
}

// dropped takes from the census what only the parent has: files that are gone.
func (r *run) dropped(ctx context.Context, c *copied) error {
	if r.prior == nil {
		return nil
	}
	next, stop := iter.Pull2(c.done.All())
	defer stop()
	now, err, more := next()
	return catalog.ReadFiles(ctx, r.Objects, r.prior.head, func(f catalog.File) error {
		for more && err == nil && now.Path < f.Path {
			now, err, more = next()
		}
		if err != nil || more && now.Path == f.Path {
			return err
		}
		return r.prior.drop(ctx, c.census, f)
	})
}

// damaged lists the pages that did not check, in order.
func (c *copied) damaged() []catalog.BadPage { return sorted(c.bad) }

// sorted puts pages in the order of their files.
func sorted(pages []catalog.BadPage) []catalog.BadPage {
	slices.SortFunc(pages, func(a, b catalog.BadPage) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Block, b.Block))
	})
	return pages
}
