package archive

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/zeebo/blake3"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
	"github.com/salvor-dr/salvor/internal/repo/seal"
	"github.com/salvor-dr/salvor/internal/wal/summary"
)

// footer reads the segment, hands its parts on, and makes the object's last frame of
// them: the digest, the index, and the summary of the blocks that it changes.
//
// Of a record that crosses the segment's end the Scanner keeps no more than
// walrec.DefaultMaxFragment, so that neither memory nor the frame grows with it. If
// more would have mattered, the summary says so when it is joined
// (summary.CutRecord). A segment that a promotion cut off has a summary up to where
// its WAL ends; what comes after it on the old timeline does no harm in a summary.
func (p *push) footer(ctx context.Context, f *os.File, parts *parts) ([]byte, error) {
	changes := summary.NewBuilder()
	scan, err := walrec.NewScanner(walrec.Options{Records: changes.Record})
	if err != nil {
		return nil, err
	}
	hash := blake3.New()
	err = parts.each(ctx, f, int64(p.size), func(b []byte) {
		_, _ = hash.Write(b) // neither ever fails
		_, _ = scan.Write(b)
	})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", p.path, err)
	}
	doc := catalog.WALFooter{Size: int64(p.size), SystemID: p.place.SystemID}
	hash.Digest().Read(doc.Digest[:])
	if doc.Index, err = scan.Finish(); err == nil {
		doc.Changes = summary.Encode(changes.Finish(p.file.Timeline, scan, doc.Index))
	} else if doc.Index, err = p.indexAlone(f, err); err != nil {
		return nil, err
	}
	if doc.Index.Ending == walrec.EndsEarly && p.file.Kind == pg.WALSegment {
		p.warn("WAL in %s ends early, at %s", p.name, doc.Index.To)
	}
	doc.Major = doc.Index.Header.Major
	return encodeFooter(doc)
}

// indexAlone makes the index of a segment that could not be summarized. It looks
// into no records but those that it needs: what is wrong in others must not keep
// a restore from finding its target.
func (p *push) indexAlone(f *os.File, why error) (walrec.Index, error) {
	scan, err := walrec.NewScanner(walrec.Options{})
	if err != nil {
		return walrec.Index{}, err
	}
	if _, err := io.Copy(scan, io.NewSectionReader(f, 0, int64(p.size))); err != nil {
		return walrec.Index{}, fmt.Errorf("reading %s: %w", p.path, err)
	}
	index, err := scan.Finish()
	if err != nil {
		p.warn("%s holds damaged WAL and is archived as it is: %v", p.name, err)
	} else {
		p.warn("%s is archived without a summary of the blocks that it changes: %v", p.name, why)
	}
	return index, nil
}

// encodeFooter leaves the summary out of a footer that no frame could hold.
func encodeFooter(doc catalog.WALFooter) ([]byte, error) {
	b, err := doc.Encode()
	if err != nil || len(b) <= seal.MaxPayload {
		return b, err
	}
	doc.Changes = nil
	return doc.Encode()
}
