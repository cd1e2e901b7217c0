package walrec

import (
	"encoding/binary"
	"fmt"

	"github.com/salvor-dr/salvor/internal/pg"
)

// RelFileLocator names the files of a relation, as WAL does (RelFileLocator,
// relfilelocator.h; RelFileNode before 16).
type RelFileLocator struct {
	Tablespace pg.OID
	Database   pg.OID // zero for what the whole cluster shares
	Number     uint32 // relfilenode, not the OID of the table
}

// String gives the three numbers as pg_waldump does: tablespace/database/number.
func (l RelFileLocator) String() string {
	return fmt.Sprintf("%d/%d/%d", l.Tablespace, l.Database, l.Number)
}

// The forks of a relation, with PostgreSQL's numbers (ForkNumber, relpath.h).
const (
	ForkMain uint8 = iota
	ForkFSM        // free space map
	ForkVM         // visibility map
	ForkInit       // of unlogged relations
)

// BlockRef is a reference of a record to a block of a relation: the record
// changes it, or at least depends on it.
type BlockRef struct {
	RelFileLocator
	Block    uint32
	Fork     uint8 // a fork's number
	ID       uint8 // of the reference in the record, from 0 to 32
	HasImage bool  // a full-page image comes with it, to be restored or only to compare with
	WillInit bool  // replay makes the page anew, without reading it
}

// ChangeKind says how a record changes files of relations otherwise than through
// block references.
type ChangeKind uint8

// The kinds of change. The fields of Record that each sets are named there.
const (
	NoChange          ChangeKind = iota
	ForkCreated                  // XLOG_SMGR_CREATE
	RelationTruncated            // XLOG_SMGR_TRUNCATE
	RelationsDropped             // with the commit or abort of a transaction, prepared or not
	DatabaseCopied               // XLOG_DBASE_CREATE_FILE_COPY; XLOG_DBASE_CREATE in 14
	DatabaseCreated              // XLOG_DBASE_CREATE_WAL_LOG: an empty one, whose blocks follow in WAL
	DatabaseDropped              // XLOG_DBASE_DROP; also of a database that left a tablespace
	TablespaceCreated            // XLOG_TBLSPC_CREATE
	TablespaceDropped            // XLOG_TBLSPC_DROP
	UnknownChange                // one that says it does (XLR_SPECIAL_REL_UPDATE), in a way not known here
	lastChange        = UnknownChange
)

var changeNames = [...]string{"no change", "creation of a fork", "truncation of a relation", "drop of relations",
	"copy of a database", "creation of a database", "drop of a database", "creation of a tablespace",
	"drop of a tablespace", "unknown change"}

// String names the kind in plain words.
func (k ChangeKind) String() string {
	if k > lastChange {
		return fmt.Sprintf("change %d", uint8(k))
	}
	return changeNames[k]
}

// Record is what one record of WAL says of the files of relations; see
// Options.Records. Which fields are set depends on Change; the others are empty.
type Record struct {
	LSN     pg.LSN // where the record starts
	EndLSN  pg.LSN // where the next may start
	Manager uint8  // the resource manager's number (rmgrlist.h); from 128 on, one of an extension
	Info    uint8  // xl_info: the manager's own in the high four bits

	// Blocks are the record's block references, by their ID.
	Blocks []BlockRef

	Change ChangeKind
	// Relation is that of ForkCreated and RelationTruncated. Forks has a bit for
	// each fork that is meant: 1 << ForkMain and so on. Size is, in blocks, what
	// is left of the main fork of a truncated one; what is left of the maps is
	// what they need for so many.
	Relation RelFileLocator
	Forks    uint8
	Size     uint32
	// Dropped are the relations of RelationsDropped, all of whose forks go.
	Dropped []RelFileLocator
	// Database and Tablespaces: the directories that come to be or go. Copied,
	// created and dropped databases have both, tablespaces only themselves.
	Database    pg.OID
	Tablespaces []pg.OID
	// Cut is set if some of Dropped or Tablespaces are missing, since the end of a
	// very long record was not kept; see Fragment and Options.MaxFragment.
	Cut bool

	// WALLevel is what the record tells of wal_level, whatever its Change: in
	// all versions a change of parameters at a start, from 17 on also checkpoints,
	// where their redo begins, and the end of recovery.
	WALLevel WALLevel
}

// Custom says whether the record is of a resource manager that an extension brings.
func (r *Record) Custom() bool { return r.Manager >= rmgrMinCustom }

// Special says whether the record changes files of relations in ways that its
// block references do not tell (XLR_SPECIAL_REL_UPDATE, xlogrecord.h), as it says
// itself. Change tells what it is.
func (r *Record) Special() bool { return r.Info&infoSpecial != 0 }

// reset empties r for the next record. Nearly all have block references at most.
func (r *Record) reset() {
	r.Blocks = r.Blocks[:0]
	if r.Change != NoChange || r.WALLevel != LevelUnknown {
		*r = Record{Blocks: r.Blocks, Dropped: r.Dropped[:0], Tablespaces: r.Tablespaces[:0]}
	}
}

// Resource managers that change files otherwise than by block references
// (rmgrlist.h), and the bit in xl_info that is to mark such records.
const (
	rmgrStorage  = 2 // RM_SMGR_ID
	rmgrDatabase = 4 // RM_DBASE_ID

	infoSpecial = 0x01 // XLR_SPECIAL_REL_UPDATE
)

// decodeRecord fills in r, but for its place, from the record's bytes, of which
// rec are the first.
func decodeRecord(major int, rec []byte, r *Record) error {
	r.reset()
	main, size, err := recordParts(major, rec, &r.Blocks)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRecord, err)
	}
	r.Info, r.Manager = rec[16], rec[17]
	if r.Manager > rmgrTablespace {
		if r.Special() {
			r.Change = UnknownChange
		}
		return nil
	}
	m := mainReader{b: main, cut: len(main) < size}
	switch r.Manager {
	case rmgrXLOG:
		r.WALLevel = levelIn(major, r.Info, main)
	case rmgrXact:
		m.transaction(r)
	case rmgrStorage:
		m.storage(r)
	case rmgrDatabase:
		m.database(r, major)
	case rmgrTablespace:
		m.tablespace(r)
	}
	if r.Special() && r.Change == NoChange {
		r.Change = UnknownChange
	}
	r.Cut = m.short && m.cut
	if m.short && !m.cut {
		return fmt.Errorf("%w: its %d bytes are too few for the %s that it is", ErrRecord, size, r.Change)
	}
	return nil
}

// levelIn finds the wal_level that a record of the log itself tells.
func levelIn(major int, info uint8, main []byte) WALLevel {
	at := -1
	switch info & 0xF0 {
	case 0x00, 0x10: // XLOG_CHECKPOINT_SHUTDOWN, XLOG_CHECKPOINT_ONLINE
		at = 20
	case 0x90: // XLOG_END_OF_RECOVERY
		at = 16
	case 0xE0: // XLOG_CHECKPOINT_REDO
		at = 0
	}
	switch {
	case info&0xF0 == 0x60: // XLOG_PARAMETER_CHANGE
		at = 20
	case major < 17:
		return LevelUnknown
	}
	if at < 0 || len(main) < at+4 {
		return LevelUnknown
	}
	return walLevel(main[at:])
}

// mainReader takes values off the front of a record's main data. Past its end it
// gives zeros and sets short.
type mainReader struct {
	b     []byte
	cut   bool // b is not all of the main data
	short bool
}

func (m *mainReader) skip(n uint64) {
	if n > uint64(len(m.b)) {
		m.b, m.short = nil, true
		return
	}
	m.b = m.b[n:]
}

func (m *mainReader) number() uint32 {
	if len(m.b) < 4 {
		m.b, m.short = nil, true
		return 0
	}
	v := binary.LittleEndian.Uint32(m.b)
	m.b = m.b[4:]
	return v
}

func (m *mainReader) oid() pg.OID { return pg.OID(m.number()) }

func (m *mainReader) locator() RelFileLocator {
	return RelFileLocator{Tablespace: m.oid(), Database: m.oid(), Number: m.number()}
}

// transaction reads which relations a commit or abort drops (ParseCommitRecord
// and ParseAbortRecord, xactdesc.c; the layout is the same up to there).
func (m *mainReader) transaction(r *Record) {
	if kindOf(rmgrXact, r.Info) == 0 || r.Info&xactHasInfo == 0 {
		return
	}
	m.skip(8) // the time
	xinfo := m.number()
	if xinfo&xinfoRels == 0 {
		return
	}
	r.Change = RelationsDropped
	if xinfo&xinfoDatabase != 0 {
		m.skip(8)
	}
	if xinfo&xinfoSubxacts != 0 {
		m.skip(4 * uint64(m.number()))
	}
	for n := m.number(); n > 0 && !m.short; n-- {
		if l := m.locator(); !m.short {
			r.Dropped = append(r.Dropped, l)
		}
	}
}

// storage reads xl_smgr_create and xl_smgr_truncate (storage_xlog.h).
func (m *mainReader) storage(r *Record) {
	switch r.Info & 0xF0 {
	case 0x10:
		r.Change = ForkCreated
		r.Relation = m.locator()
		r.Forks = 1 << (m.number() & 7)
	case 0x20:
		r.Change = RelationTruncated
		r.Size = m.number()
		r.Relation = m.locator()
		flags := m.number()
		for bit, fork := range [...]uint8{ForkMain, ForkVM, ForkFSM} { // SMGR_TRUNCATE_HEAP, _VM, _FSM
			if flags&(1<<bit) != 0 {
				r.Forks |= 1 << fork
			}
		}
	default:
		r.Change = UnknownChange
	}
}

// database reads xl_dbase_create_rec and its successors, and xl_dbase_drop_rec
// (dbcommands_xlog.h). 15 gave the number of dropping to creating by WAL.
func (m *mainReader) database(r *Record, major int) {
	op := r.Info & 0xF0
	if major < 15 && op == 0x10 {
		op = 0x20
	}
	switch op {
	case 0x00, 0x10:
		r.Change = DatabaseCopied
		if op == 0x10 {
			r.Change = DatabaseCreated
		}
		r.Database = m.oid()
		r.Tablespaces = append(r.Tablespaces, m.oid())
	case 0x20:
		r.Change = DatabaseDropped
		r.Database = m.oid()
		for n := m.number(); n > 0 && !m.short; n-- {
			if oid := m.oid(); !m.short {
				r.Tablespaces = append(r.Tablespaces, oid)
			}
		}
	default:
		r.Change = UnknownChange
	}
}

// tablespace reads the beginning of xl_tblspc_create_rec and xl_tblspc_drop_rec
// (tablespace.h).
func (m *mainReader) tablespace(r *Record) {
	switch r.Info & 0xF0 {
	case 0x00:
		r.Change = TablespaceCreated
	case 0x10:
		r.Change = TablespaceDropped
	default:
		r.Change = UnknownChange
	}
	if r.Change != UnknownChange {
		r.Tablespaces = append(r.Tablespaces, m.oid())
	}
}
