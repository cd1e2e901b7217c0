// Package summary says which blocks of relations a stretch of WAL changes, so that
// an incremental backup reads those and no others.
//
// # Words
//
//   - A Map has a set of blocks for each fork of a relation: some that are listed,
//     and all from a limit on. It also knows databases and tablespaces of which
//     everything counts as changed.
//   - A Summary is the Map of one WAL segment, or of several that were joined, with
//     the parts of the records that cross its ends.
//   - A Reason says why a Map may lack something.
//   - A Union is the Map of a range of WAL, over timelines.
//   - The parent is the backup that the Map is to be compared with: its files are
//     as they were at its redo LSN, or newer.
//
// # How it works
//
// A walrec.Scanner hands each record to a Builder. A block reference lists a block.
// What is created, cut or dropped sets a limit: from there on, nothing is as it was
// in the parent. So for a table that was truncated and grew again to the same size,
// all its blocks are in the set, also those that are nothing but zeros and that no
// record tells of. (PostgreSQL's own summarizer, walsummarizer.c, lists blocks
// beyond a limit, too. They need not be told apart from unchanged ones here, since
// the file itself is read.)
//
// All that a record does is to make a set larger. Hence the order of records does
// not matter, a Map of more WAL than needed does no harm, Merge is a union, and
// summaries of segments can be joined in any grouping.
//
// The records that begin at the parent's redo LSN or after it, and before the new
// backup's redo LSN, tell what has to be read (Union): what a page got before was
// on disk when the parent's checkpoint was complete, and what it gets later is in
// the WAL that the new backup is recovered with. Pages that changed while the
// parent was reading are among them.
//
// # What is read whole
//
// Map.Changed gives all blocks of a file of
//
//   - a free space map or a visibility map: WAL does not tell all changes of
//     either. Records of the heap clear bits of the visibility map without a
//     reference to its block.
//   - a database or tablespace that was created, copied, moved or dropped in the
//     range. Files are copied without a record of their blocks; and after a drop,
//     the same numbers may be used again.
//   - a fork that was created in the range, or that the parent does not have.
//
// It gives what lies beyond the parent's copy of a file, whether WAL tells of it or
// not: zeros may be added to a relation without a record. Files that belong to no
// relation are not in WAL in this way and must always be read.
//
// What differs all the same without being in a Map has no meaning to PostgreSQL:
// hints, where neither checksums nor wal_log_hints have them logged, and the pages
// with room that the first page of an SP-GiST index remembers.
//
// # When WAL does not tell
//
// A Map cannot be used if in its range (ReasonKind)
//
//   - wal_level was minimal. From 17 on checkpoints tell the level, before only a
//     change of it does. That is enough: the range begins with a backup, which
//     can't be taken with that level.
//   - a resource manager of an extension changed blocks. By PostgreSQL's rules its
//     records refer to all of them or say that they don't
//     (XLR_SPECIAL_REL_UPDATE), but the heap itself shows that the rule is broken
//     where it suits (see above), and here nobody has looked.
//   - a record says that it changes files in a way that is not known here.
//   - a very long record that drops relations crosses a segment's end, and not all
//     of it was kept. Read keeps it.
//
// A gap, in which the WAL or its Summary is missing, is an error of its own.
//
// # The format, version 1
//
// Numbers are uvarints as in pg/walrec, unless they are called bytes.
//
//	version             byte, 1
//	flags               byte: 1 if Overwritten
//	timeline
//	from                LSN
//	to                  less from
//	heads, tails        each: their count; for each the major version, a byte, and a
//	                    fragment as in pg/walrec, but for its mark
//	reasons             their count; for each: kind, a byte; resource manager, a
//	                    byte; first; last, less first. By kind, then manager
//	tablespaces         their count; the OID of each, rising
//	databases           their count; tablespace and database of each, rising
//	forks               their count; each as below, by tablespace, database,
//	                    relation number and fork
//
// A fork:
//
//	tag                 byte: twice the fork's number, plus 1 if tablespace and
//	                    database are those of the fork before
//	tablespace, database  unless they are the same
//	relation            number; less that of the fork before, if tablespace and
//	                    database are the same
//	limit               0 if there is none, else plus 1
//	chunks              their count; for each: its key, which is the number of its
//	                    first block divided by 65,536, less the key that would follow
//	                    the chunk before; then its blocks
//
// The blocks of a chunk, the shorter of:
//
//	count of runs; for each run of blocks the gap since the end of the run before,
//	                    and its length less 1
//	0; count of words; so many words of 64 bits, little-endian, the lowest bit the
//	                    first block; the last is not zero
//
// No listed block is at or above its fork's limit, no fork belongs to a database or
// tablespace that is listed itself, and none is a free space or visibility map.
// There is no checksum: whatever stores a Summary must guard it.
package summary
