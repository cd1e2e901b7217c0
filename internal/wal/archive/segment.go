package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/store"
)

// segment archives a whole or partial segment.
func (p *push) segment(ctx context.Context, r Repository) (Result, error) {
	f, err := os.Open(p.path)
	if err != nil {
		return Result{}, err
	}
	defer f.Close()
	if err := p.check(f); err != nil {
		return Result{}, err
	}
	there, err := r.Objects.Exists(ctx, p.object())
	if err != nil {
		return Result{}, err
	}
	if !there {
		stored, err := p.store(ctx, r, f)
		if !errors.Is(err, store.ErrExists) {
			return Result{r.Name, Stored, stored}, err
		}
		// Another push of the same file was faster.
	}
	outcome, err := p.compare(ctx, r, f)
	return Result{Repository: r.Name, Outcome: outcome}, err
}

// check says whether the file is the segment that its name says.
func (p *push) check(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != int64(p.size) {
		return fmt.Errorf("%w: it has %d bytes, a segment of this cluster has %d", ErrForeign, info.Size(), p.size)
	}
	var page [walrec.LongHeaderSize]byte
	if _, err := f.ReadAt(page[:], 0); err != nil {
		return fmt.Errorf("reading %s: %w", p.path, err)
	}
	h, err := walrec.ParseSegmentHeader(page[:])
	if err == nil {
		err = h.Check(p.file.Segment, p.place.SystemID)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return nil
}

// store writes the segment's object. One goroutine reads the segment, once, and
// hashes and scans what it has read, while another compresses and seals that.
func (p *push) store(ctx context.Context, r Repository, f *os.File) (uint64, error) {
	w, err := r.Objects.Create(ctx, repo.NewID(), p.object(), seal.WALSegment)
	if err != nil {
		return 0, err
	}
	defer w.Abort() // nothing after Commit
	var footer []byte
	parts := newParts()
	g, reading := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(parts.read)
		var err error
		footer, err = p.footer(reading, f, parts)
		return err
	})
	g.Go(func() error { return p.frames(w, parts) })
	if err := g.Wait(); err != nil {
		return 0, err
	}
	if err := w.Commit(chunk.None, footer, len(footer)); err != nil {
		return 0, err
	}
	return w.Size(), nil
}

// frames writes a frame for each part of the segment.
func (p *push) frames(w *seal.Writer, parts *parts) error {
	enc, err := chunk.NewFastEncoder(p.Codec)
	if err != nil {
		return err
	}
	var check decodeCheck
	for s := range parts.read {
		codec, data := enc.Encode(s.data)
		if err := check.sample(codec, data, s.data); err != nil {
			return fmt.Errorf("compressing %s: %w", p.path, err)
		}
		if _, err := w.Frame(codec, data, len(s.data)); err != nil {
			return err
		}
		parts.release(s)
	}
	return nil
}

func (p *push) warn(format string, args ...any) {
	if p.Warn != nil {
		p.Warn(fmt.Sprintf(format, args...))
	}
}

// compare says what the segment that is there means for this one.
func (p *push) compare(ctx context.Context, r Repository, f *os.File) (Outcome, error) {
	footer, err := catalog.ReadWALFooter(ctx, r.Objects, p.object())
	if err != nil {
		return "", err
	}
	same, err := p.sameUpTo(ctx, r, f, int64(p.size), footer.Digest)
	if err != nil || same {
		return Present, err
	}
	fork, ok, err := p.fork(ctx, r)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", &Conflict{File: p.name, Repository: r.Name}
	}
	upTo := int64(0)
	if start := p.file.Segment.Start(p.size); fork > start {
		upTo = int64(fork - start)
	}
	if same, err = p.sameUpTo(ctx, r, f, upTo, catalog.Hash{}); err != nil {
		return "", err
	}
	if !same {
		return "", &Conflict{File: p.name, Repository: r.Name}
	}
	p.warn("%s differs from the archived one only after %s, where its timeline was left", p.name, fork)
	return Divergent, nil
}

// sameUpTo compares the first n bytes of the file with the archived segment's; for
// whole segments their digests tell.
func (p *push) sameUpTo(ctx context.Context, r Repository, f *os.File, n int64, digest catalog.Hash) (bool, error) {
	local := io.NewSectionReader(f, 0, n)
	if n == int64(p.size) {
		hash := blake3.New()
		if _, err := io.Copy(hash, local); err != nil {
			return false, fmt.Errorf("reading %s: %w", p.path, err)
		}
		var sum catalog.Hash
		hash.Digest().Read(sum[:])
		return sum == digest, nil
	}
	there, err := catalog.OpenWAL(ctx, r.Objects, p.object())
	if err != nil {
		return false, err
	}
	defer there.Close()
	return equal(local, io.LimitReader(there, n))
}

func equal(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(a, x)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return false, err
		}
		m, err2 := io.ReadFull(b, y)
		if err2 != nil && err2 != io.EOF && err2 != io.ErrUnexpectedEOF {
			return false, err2
		}
		if n != m || string(x[:n]) != string(y[:m]) {
			return false, nil
		}
		if err != nil {
			return true, nil
		}
	}
}

// fork gives the position where the segment's timeline was left, if that is in
// this segment or before it.
func (p *push) fork(ctx context.Context, r Repository) (pg.LSN, bool, error) {
	origin, err := catalog.ReadOrigin(ctx, r.Objects, p.place)
	if err != nil {
		return 0, false, err
	}
	a, err := catalog.ReadArchive(ctx, r.Objects, origin)
	if err != nil {
		return 0, false, err
	}
	fork, ok := a.ForkOf(p.file.Timeline)
	return fork, ok && fork < p.file.Segment.End(p.size), nil
}
