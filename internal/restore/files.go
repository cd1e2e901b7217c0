package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/pack"
)

const (
	// fetchSize is how much is fetched in one range at most, bytes as stored.
	fetchSize = 2 << 20
	// taskBytes is how many bytes of one file a worker restores at a time.
	taskBytes = 64 << 20
)

// target is a file that is being restored.
type target struct {
	catalog.File
	path   string
	out    *os.File // nil until it is created
	blocks chunk.Map
	zero   uint64            // hash of a whole block of zeros
	was    fs.FileInfo       // what was there before it was opened, nil if nothing
	digest chan chunk.Digest // one from each task
	left   atomic.Int32      // tasks that are not done
}

// piece is some runs of a file: one worker restores it.
type piece struct {
	target *target
	runs   []chunk.Run
}

// files restores everything in the file table. The table is read twice, first for the
// directories and to know that it is whole, then for the files: so that no more than a
// window of it is in memory, however many files there are. A delta restore has read it
// before, as parts, and goes through it and the directory side by side.
func (r *run) files(ctx context.Context, parts *catalog.FileParts) (err error) {
	if parts != nil {
		err = r.adapt(ctx, parts)
	} else {
		parts, err = r.index(ctx, r.make)
	}
	if err != nil {
		return err
	}
	return r.work(ctx, parts)
}

// index reads the file table, sums it up, and calls use, if it is not nil, for each
// entry.
func (r *run) index(ctx context.Context, use func(catalog.File) error) (*catalog.FileParts, error) {
	return catalog.IndexFiles(ctx, r.Objects, r.head, func(f catalog.File) error {
		if !filepath.IsLocal(f.Path) {
			return repo.Damaged(r.table(), "it names %q", f.Path)
		}
		if f.Path == "PG_VERSION" && f.Mode&0o040 != 0 {
			r.groupBits = 0o050 // the cluster allows its group to read
		}
		if f.Kind == catalog.Regular {
			r.res.Restored += f.Size
			r.res.Files++
		}
		if use == nil {
			return nil
		}
		return use(f)
	})
}

// make makes what is no regular file.
func (r *run) make(f catalog.File) error {
	switch f.Kind {
	case catalog.Dir:
		return r.directory(f)
	case catalog.TablespaceLink:
		return r.link(f)
	}
	if f.Path == "PG_VERSION" && r.groupBits != 0 {
		return os.Chmod(r.To, 0o700|r.groupBits)
	}
	return nil
}

func (r *run) directory(f catalog.File) error {
	path := filepath.Join(r.To, f.Path)
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(path, os.FileMode(f.Mode)|0o700); err != nil {
		return err
	}
	return r.owner.give(path)
}

// link makes a tablespace's link, to where its files go now.
func (r *run) link(f catalog.File) error {
	dir, err := r.leads(f)
	if err != nil {
		return err
	}
	path := filepath.Join(r.To, f.Path)
	if err := os.Symlink(dir, path); err != nil {
		return err
	}
	return r.owner.give(path)
}

// leads gives the directory that a tablespace's link leads to.
func (r *run) leads(f catalog.File) (string, error) {
	var oid uint32
	if _, err := fmt.Sscanf(strings.TrimPrefix(f.Path, "pg_tblspc/"), "%d", &oid); err != nil {
		return "", repo.Damaged(r.table(), "it names the tablespace %q", f.Path)
	}
	dir := r.location(catalog.Tablespace{OID: pg.OID(oid), Location: f.Location})
	if !slices.Contains(r.locations(), dir) {
		return "", repo.Damaged(r.table(), "it names tablespace %d, which the head does not", oid)
	}
	return dir, nil
}

// work feeds the workers.
func (r *run) work(ctx context.Context, parts *catalog.FileParts) error {
	g, ctx := errgroup.WithContext(ctx)
	queue := make(chan []piece)
	send := func(p []piece) error {
		select {
		case queue <- p:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	g.Go(func() error {
		defer close(queue)
		return r.feed(ctx, parts, send)
	})
	var n counters
	for range r.Workers {
		g.Go(func() error {
			w := worker{run: r, counters: &n}
			for p := range queue {
				if err := w.restore(ctx, p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	r.res.Written, r.res.Fetched = n.written.Load(), r.res.Fetched+n.fetched.Load()+r.footers.Fetched()
	r.res.Compared, r.res.Kept = n.compared.Load(), n.kept.Load()
	return err
}

// counters are what all workers did, in bytes.
type counters struct{ written, fetched, compared, kept, done atomic.Uint64 }

// feed reads the files of the table and sends them: a large one in pieces, so that no
// worker has a long one alone at the end; small ones by the window.
func (r *run) feed(ctx context.Context, parts *catalog.FileParts, send func([]piece) error) error {
	var scratch pack.Scratch
	var small window
	for i := range parts.Len() {
		err := parts.Read(ctx, i, func(f catalog.File) error {
			if f.Kind != catalog.Regular {
				return nil
			}
			m, err := catalog.FileMap(ctx, r.head, f, r.packs, &scratch)
			if err != nil {
				return err
			}
			t := r.target(f, m)
			switch {
			case len(f.MapRefs) > 0 || f.Size > taskBytes:
				return r.divide(t, send)
			case small.add(t):
				return small.flush(send)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return small.flush(send)
}

// divide sends a large file in pieces.
func (r *run) divide(t *target, send func([]piece) error) error {
	for _, ref := range t.MapRefs {
		r.res.Fetched += uint64(ref.Stored)
	}
	if err := t.open(r.over()); err != nil {
		return err
	}
	var ps []piece
	for runs := t.blocks.Runs; len(runs) > 0; {
		n, size := 0, uint64(0)
		for n < len(runs) && (n == 0 || size < taskBytes) {
			size += uint64(runs[n].Blocks) * uint64(t.Block)
			n++
		}
		ps = append(ps, piece{t, runs[:n]})
		runs = runs[n:]
	}
	t.expect(len(ps))
	for _, p := range ps {
		if err := send([]piece{p}); err != nil {
			return err
		}
	}
	return nil
}

// target prepares a file to be restored, with its map.
func (r *run) target(f catalog.File, m chunk.Map) *target {
	f.Map = nil // it is in m
	t := &target{File: f, path: filepath.Join(r.To, f.Path), blocks: m, zero: chunk.ZeroHash(int(f.Block))}
	if f.Path == datadir.ControlPath {
		t.path = filepath.Join(r.To, hiddenControl)
	}
	return t
}

// open makes the file at its full length, or, over what is there, gives what is there
// that length.
func (t *target) open(over bool) error {
	if over {
		err := t.reopen()
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	var err error
	if t.out, err = os.OpenFile(t.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return err
	}
	return t.out.Truncate(int64(t.Size))
}

// reopen opens a file that is there.
func (t *target) reopen() error {
	f, err := os.OpenFile(t.path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	if t.was, err = f.Stat(); err == nil && uint64(t.was.Size()) != t.Size {
		err = f.Truncate(int64(t.Size))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	t.out = f
	return nil
}

// had is how many blocks of the file were there before.
func (t *target) had() uint64 {
	if t.was == nil {
		return 0
	}
	n := min(uint64(t.was.Size()), t.Size)
	return (n + uint64(t.Block) - 1) / uint64(t.Block)
}

// length is how many bytes of the file a run is.
func (t *target) length(r chunk.Run) uint64 {
	return min(uint64(r.Blocks)*uint64(t.Block), t.Size-r.First*uint64(t.Block))
}

// zeroHash is the hash of a block if it is all zeros.
func (t *target) zeroHash(n uint64) uint64 {
	if rest := t.Size - n*uint64(t.Block); rest < uint64(t.Block) {
		return chunk.ZeroHash(int(rest))
	}
	return t.zero
}

func (t *target) expect(tasks int) {
	t.digest = make(chan chunk.Digest, tasks)
	t.left.Store(int32(tasks))
}

// table is the object of the backup's file table.
func (r *run) table() string { return catalog.FilesName(r.head.Place(), r.head.ID) }

// finish checks a file whose last piece has been written, and closes it.
func (r *run) finish(ctx context.Context, t *target) error {
	var sum chunk.Digest
	for range cap(t.digest) {
		sum.Add(<-t.digest)
	}
	if sum != t.Digest {
		return r.blame(ctx, t)
	}
	if t.Path == datadir.ControlPath {
		if err := poison(t.out); err != nil {
			return err
		}
	}
	have := t.was
	if have == nil {
		var err error
		if have, err = t.out.Stat(); err != nil {
			return err
		}
	}
	if err := r.attributes(t.path, t.Mode, have); err != nil {
		return err
	}
	return t.out.Close()
}

// blame finds out why a restored file has not the digest that it was stored with, though
// every seal was right. The footers of packs list the hash of each block as it was
// before it was compressed: where one differs, the codec is at fault, or this machine.
func (r *run) blame(ctx context.Context, t *target) error {
	block := make([]byte, t.Block)
	for _, run := range t.blocks.Runs {
		if run.Zero {
			continue
		}
		hashes, err := r.footers.Hashes(ctx, run.Ref)
		if err != nil {
			return err
		}
		for n := run.First; n < run.End(); n++ {
			b := block[:min(uint64(t.Block), t.Size-n*uint64(t.Block))]
			if _, err := t.out.ReadAt(b, int64(n)*int64(t.Block)); err != nil {
				return err
			}
			if slot := uint64(run.Slot) + n - run.First; slot >= uint64(len(hashes)) || chunk.BlockHash(b) != hashes[slot] {
				return repo.Damaged(r.head.Place().PackName(run.Ref.Pack), "block %d of %s, in its chunk %d, has not the hash that it was stored with", n, t.Path, run.Ref.Ordinal)
			}
		}
	}
	return repo.Damaged(r.table(), "the blocks of %s are those that its map names, and have not the digest %s together", t.Path, t.Digest)
}

// poison makes a pg_control useless without the backup_label that belongs to it.
func poison(f *os.File) error {
	image := make([]byte, datadir.ControlFileSize)
	n, err := f.ReadAt(image, 0)
	if n == 0 {
		return fmt.Errorf("reading the restored pg_control: %w", err)
	}
	poisoned, err := datadir.PoisonCheckpoint(image[:n])
	if err != nil {
		return err
	}
	_, err = f.WriteAt(poisoned, 0)
	return err
}
