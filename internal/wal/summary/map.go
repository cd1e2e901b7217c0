package summary

import (
	"iter"

	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/pg/walrec"
)

// Map says what a stretch of WAL changes: of each fork of a relation, a set of
// blocks; and which databases and tablespaces are new, or may be.
//
// Several goroutines may read it at a time, with Changed; nothing else may then be
// done with it.
type Map struct {
	forks       map[fork]*blocks
	databases   map[database]struct{}
	tablespaces map[pg.OID]struct{}
}

type fork struct {
	walrec.RelFileLocator
	number uint8
}

// database is one database in one tablespace: a directory.
type database struct{ tablespace, oid pg.OID }

// NewMap makes an empty Map.
func NewMap() *Map {
	return &Map{forks: map[fork]*blocks{}, databases: map[database]struct{}{}, tablespaces: map[pg.OID]struct{}{}}
}

// tracked says whether changes of a fork are kept. The free space map and the
// visibility map are not: WAL does not tell all of theirs.
func tracked(fork uint8) bool { return fork != walrec.ForkFSM && fork != walrec.ForkVM }

// find gives the set of a fork, which it makes if need be. It is nil for what is
// not tracked, and for what is all changed since its database is.
func (m *Map) find(f fork) *blocks {
	if !tracked(f.number) || m.whole(f.Tablespace, f.Database) {
		return nil
	}
	s := m.forks[f]
	if s == nil {
		s = newBlocks()
		m.forks[f] = s
	}
	return s
}

// whole says whether all of a database in a tablespace counts as changed.
func (m *Map) whole(tablespace, oid pg.OID) bool {
	if len(m.databases) == 0 && len(m.tablespaces) == 0 {
		return false
	}
	if _, is := m.tablespaces[tablespace]; is {
		return true
	}
	_, is := m.databases[database{tablespace, oid}]
	return is
}

// Block notes that a block of a fork was changed.
func (m *Map) Block(l walrec.RelFileLocator, number uint8, block uint32) {
	if s := m.find(fork{l, number}); s != nil {
		s.add(block)
	}
}

// Limit notes that a fork had no more than so many blocks at some time: it was
// cut, made or removed. Nothing from there on has been there from before.
func (m *Map) Limit(l walrec.RelFileLocator, number uint8, blocks uint32) {
	if s := m.find(fork{l, number}); s != nil {
		s.cut(blocks)
	}
}

// Database notes that a database in a tablespace was made, removed or moved:
// nothing of it has been there from before.
func (m *Map) Database(tablespace, oid pg.OID) {
	if m.whole(tablespace, oid) {
		return
	}
	m.databases[database{tablespace, oid}] = struct{}{}
	m.forget(func(f fork) bool { return f.Tablespace == tablespace && f.Database == oid })
}

// Tablespace notes that a tablespace was made or removed: nothing in it has been
// there from before.
func (m *Map) Tablespace(oid pg.OID) {
	if _, is := m.tablespaces[oid]; is {
		return
	}
	m.tablespaces[oid] = struct{}{}
	for d := range m.databases {
		if d.tablespace == oid {
			delete(m.databases, d)
		}
	}
	m.forget(func(f fork) bool { return f.Tablespace == oid })
}

// forget drops what is now said of a whole database.
func (m *Map) forget(covered func(fork) bool) {
	for f := range m.forks {
		if covered(f) {
			delete(m.forks, f)
		}
	}
}

// Merge adds what o says, of any other stretch of WAL: the order of stretches does
// not matter. It takes over parts of o, which must not be used then.
func (m *Map) Merge(o *Map) {
	for t := range o.tablespaces {
		m.Tablespace(t)
	}
	for d := range o.databases {
		m.Database(d.tablespace, d.oid)
	}
	for f, theirs := range o.forks {
		if ours := m.forks[f]; ours != nil {
			ours.merge(theirs)
		} else if !m.whole(f.Tablespace, f.Database) {
			m.forks[f] = theirs
		}
	}
}

// Forks is how many forks of relations the Map has something to say of.
func (m *Map) Forks() int { return len(m.forks) }

// Listed is how many blocks are listed one by one. Those of databases and forks
// that are changed as a whole, or from a limit on, are not among them.
func (m *Map) Listed() uint64 {
	n := uint64(0)
	for _, s := range m.forks {
		n += s.count()
	}
	return n
}

// File is a file of a relation, of which a parent backup has a copy.
type File struct {
	Relation datadir.Relation
	// First is the number in its fork of the file's first block:
	// Relation.Segment times pg.Sizes.SegmentBlocks.
	First uint64
	// Had is how many blocks of it the parent has: zero if it has no such file.
	Had uint32
	// Has is how many there are now.
	Has uint32
}

// Changed gives the blocks of a file that must be read, since they may not be as
// the parent has them: those that the Map lists, those that were not there all the
// time, and those beyond the parent's copy. All others are as they were, but for
// what WAL does not tell of and which has no meaning, as hint bits.
func (m *Map) Changed(f File) Blocks {
	all := Blocks{tail: 0, has: f.Has}
	r := f.Relation
	if !tracked(uint8(r.Fork)) || m.whole(r.Tablespace, r.Database) || f.Had == 0 {
		return all
	}
	b := Blocks{first: f.First, tail: min(f.Had, f.Has), has: f.Has}
	b.set = m.forks[fork{walrec.RelFileLocator{Tablespace: r.Tablespace, Database: r.Database, Number: r.Number}, uint8(r.Fork)}]
	if b.set != nil && b.set.limit != noLimit {
		b.tail = uint32(min(uint64(b.tail), uint64(b.set.limit)-min(f.First, uint64(b.set.limit))))
	}
	return b
}

// Blocks are blocks of one file, numbered from the file's beginning. They are a
// view of the Map they came from, which must not be changed meanwhile.
type Blocks struct {
	set   *blocks // of the fork; nil if nothing is listed
	first uint64  // number in the fork of the file's first block
	tail  uint32  // from here on, all are meant
	has   uint32  // in the file
}

// All says whether these are all blocks of the file, so that nothing of an earlier
// copy is of use.
func (b Blocks) All() bool { return b.tail == 0 }

// Runs walks the runs of neighbouring blocks, from the file's beginning: the
// first block of each, and how many there are.
func (b Blocks) Runs() iter.Seq2[uint32, uint32] {
	return func(yield func(first, count uint32) bool) {
		tail := uint64(b.tail)
		if b.set != nil {
			more := b.set.runs(b.first, b.first+uint64(b.tail), func(first, end uint64) bool {
				first, end = first-b.first, end-b.first
				if end == uint64(b.tail) { // it goes on in the tail
					tail = first
					return true
				}
				return yield(uint32(first), uint32(end-first))
			})
			if !more {
				return
			}
		}
		if tail < uint64(b.has) {
			yield(uint32(tail), b.has-uint32(tail))
		}
	}
}

// Count is how many blocks there are.
func (b Blocks) Count() uint32 {
	n := uint32(0)
	for _, count := range b.Runs() {
		n += count
	}
	return n
}

// Has says whether block n of the file is among them.
func (b Blocks) Has(n uint32) bool {
	return n < b.has && (n >= b.tail || b.set != nil && b.set.has(uint32(b.first+uint64(n))))
}
