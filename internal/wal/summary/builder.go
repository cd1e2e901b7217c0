package summary

import (
	"fmt"
	"io"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
)

// Builder makes a Summary of the records that a walrec.Scanner gives it.
//
// It is not safe for concurrent use.
type Builder struct {
	m       *Map
	reasons reasons
	recent  [recentForks]recent
}

// recentForks is how many sets are found without the map: nearly all records are
// about few relations. A power of two. Sets that the map has dropped since, with
// their database, may be among them: nothing more needs to be noted of those.
const recentForks = 256

type recent struct {
	fork fork
	set  *blocks // nil if the slot is empty
}

// NewBuilder makes a Builder. Its method Record is for walrec.Options.Records.
func NewBuilder() *Builder { return &Builder{m: NewMap(), reasons: reasons{}} }

// Record takes in what a record says.
func (b *Builder) Record(r *walrec.Record) {
	for i := range r.Blocks {
		ref := &r.Blocks[i]
		if tracked(ref.Fork) {
			if s := b.find(fork{ref.RelFileLocator, ref.Fork}); s != nil {
				s.add(ref.Block)
			}
		}
	}
	if r.Change != walrec.NoChange {
		b.change(r)
	}
	if r.WALLevel == walrec.LevelMinimal {
		b.reasons.add(Reason{Kind: MinimalLevel, First: r.LSN, Last: r.LSN})
	}
	if r.Custom() && (len(r.Blocks) > 0 || r.Special()) {
		b.reasons.add(Reason{Kind: UnknownManager, Manager: r.Manager, First: r.LSN, Last: r.LSN})
	}
}

func (b *Builder) find(f fork) *blocks {
	slot := &b.recent[(f.Number^f.Number>>8^uint32(f.number)<<6)%recentForks]
	if slot.set == nil || slot.fork != f {
		*slot = recent{f, b.m.find(f)}
	}
	return slot.set
}

// change takes in what a record changes without a block reference.
func (b *Builder) change(r *walrec.Record) {
	switch r.Change {
	case walrec.ForkCreated:
		for fork := range uint8(8) {
			if r.Forks&(1<<fork) != 0 {
				b.m.Limit(r.Relation, fork, 0)
			}
		}
	case walrec.RelationTruncated:
		if r.Forks&(1<<walrec.ForkMain) != 0 {
			b.m.Limit(r.Relation, walrec.ForkMain, r.Size)
		}
	case walrec.RelationsDropped:
		for _, l := range r.Dropped {
			b.m.Limit(l, walrec.ForkMain, 0)
			b.m.Limit(l, walrec.ForkInit, 0)
		}
	case walrec.DatabaseCopied, walrec.DatabaseCreated, walrec.DatabaseDropped:
		for _, t := range r.Tablespaces {
			b.m.Database(t, r.Database)
		}
	case walrec.TablespaceCreated, walrec.TablespaceDropped:
		b.m.Tablespace(r.Tablespaces[0])
	default:
		b.reasons.add(Reason{Kind: UnknownChange, Manager: r.Manager, First: r.LSN, Last: r.LSN})
	}
	if r.Cut {
		b.reasons.add(Reason{Kind: CutRecord, Manager: r.Manager, First: r.LSN, Last: r.LSN})
	}
}

// Finish gives the Summary of what the Scanner read: index is what its Finish
// returned, with or without an error. The timeline is that of the segment's name,
// which is not the one its first page tells if the timeline begins in it. The
// Builder must not be used any more.
func (b *Builder) Finish(timeline pg.Timeline, scan *walrec.Scanner, index walrec.Index) Summary {
	s := Summary{
		Timeline: timeline, From: index.From, To: index.To, Map: b.m, Reasons: b.reasons.list(),
		Overwritten: index.Header.Overwritten(),
	}
	head, tail := scan.Ends()
	if head != nil {
		s.Head = []walrec.Fragment{*head}
	}
	if tail != nil {
		s.Tail = []walrec.Fragment{*tail}
	}
	return s
}

// maxPart is more than what any record has before a segment's end that matters.
const maxPart = 64 << 20

// Read makes the Summary of one segment, or of several that follow each other in
// the same timeline, from the bytes of the files. It loses nothing of records that
// cross the ends, as a pass that keeps less of them does. Damaged WAL is an error;
// WAL that ends before the bytes do is not, but Summary.To tells.
func Read(timeline pg.Timeline, r io.Reader) (Summary, error) {
	b := NewBuilder()
	scan, err := walrec.NewScanner(walrec.Options{Records: b.Record, NoEvents: true, MaxFragment: maxPart})
	if err != nil {
		return Summary{}, err
	}
	if _, err := io.Copy(scan, r); err != nil {
		return Summary{}, fmt.Errorf("summarizing WAL: %w", err)
	}
	index, err := scan.Finish()
	if err != nil {
		return Summary{}, fmt.Errorf("summarizing WAL: %w", err)
	}
	return b.Finish(timeline, scan, index), nil
}
