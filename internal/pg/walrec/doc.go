// Package walrec reads PostgreSQL's write-ahead log (WAL), versions 14 to 18:
// pages, and of the records what a restore and an incremental backup ask about.
// It answers, from one pass over each segment: which transactions end there and
// when, where restore points and checkpoints are, which tablespaces are created,
// and where WAL ends; and if it is asked to, which blocks of relations each
// record changes, and which relations, databases and tablespaces come, go or are
// cut.
//
// # Words
//
//   - A segment is a file of 1 MiB to 1 GiB of WAL; a page is XLOG_BLCKSZ bytes
//     of it, 8 KiB unless PostgreSQL was built otherwise. Both sizes are taken
//     from the header of a segment's first page.
//   - A record has a header, headers of its parts, block data, and main data,
//     in this order. It starts on a multiple of eight and may cross any number
//     of pages and segments.
//   - An Event is a record that matters to a restore; see Kind.
//   - A Fragment is the part of a record in one segment, if it crosses the
//     segment's end. Join makes an event of a record's fragments.
//   - A Record is what any record says of relations' files. A block reference
//     in it names a block that the record changes, or only depends on.
//   - An Index is all that was found in one segment. EncodeIndex makes it small.
//
// # How it works
//
// A Scanner is an io.Writer: WAL is written to it in pieces of any size. It
// works page by page. On each it checks the page's header, takes the rest of a
// record that was open, and then walks from record to record by their lengths.
// Each record's header must make sense and name the record before it, and each
// record's CRC-32C must match; what is no event is not looked at any further.
// A record that lies on one page is read in place; of one that crosses pages the
// checksum is computed as its bytes go by, and only the few bytes that decoding
// needs are kept. A Reader is a Scanner that is read from.
//
// With Options.Records the block references and the data of every record are read
// as well, which is about half as much work again. The headers of block references stand at
// a record's beginning and take less than 1 KiB. The only data that may be long
// are those of a transaction's end, where the relations that it drops stand after
// its subtransactions. A record that crosses the input's end, as when each segment
// is scanned alone, comes in two parts or more, from Scanner.Ends, and JoinRecord
// reads it.
//
// What changes relations' files without a block reference is this: forks created,
// relations truncated and dropped, databases copied and dropped, tablespaces
// dropped; the free space map, most changes of which are not logged at all; and
// bits of the visibility map, which records of the heap clear without a reference
// to it. Pages that are nothing but zeros may be added without any record. With
// wal_level=minimal a relation that the same transaction made or cut is written
// without WAL.
//
// The rules are those of PostgreSQL's own reader (xlogreader.c); the layouts
// are those of xlog_internal.h, xlogrecord.h, xact.h, storage_xlog.h,
// dbcommands_xlog.h, tablespace.h and pg_control.h, as little-endian machines with
// 64-bit alignment write them. Where versions differ: the page's magic tells the version; a compressed page image is
// flagged by bit 0x02 in 14 and by bits 0x1C from 15 on; dropped statistics
// appear in commit records with 15 and take 16 bytes instead of 12 from 18 on;
// checkpoints and end-of-recovery records tell wal_level from 17 on; custom
// resource managers exist from 15 on; databases are created through WAL from 15
// on, which gave dropping them another number.
//
// # Where WAL ends
//
// PostgreSQL writes nothing to mark the end of WAL: its reader stops at the
// first thing that is not valid. A Scanner tells the cases apart (Ending):
//
//   - bytes that were never written, or that a recycled file had before: a
//     page of zeros or of a lower address, a record header that does not
//     follow the record before. That is an end (EndsEarly), and no error. If a
//     later page does stand at its right address, it was no end but damage.
//   - bytes that PostgreSQL did write here and that have changed: a checksum
//     that does not match under a header that fits, a page header that is
//     neither right nor old. That is damage (Damaged), and an error.
//
// A crash in the middle of writing can leave the second kind at the end of the
// last segment of an abandoned timeline, and nowhere else. Of a finished segment
// PostgreSQL hands to archive_command, anything but EndsFull and EndsBySwitch
// means that it is not whole.
//
// When a server crashes between the segments of one record, the first part is
// archived and the second is never written. PostgreSQL then marks the next
// page (XLP_FIRST_IS_OVERWRITE_CONTRECORD) and starts it with a record that
// names the one given up: the Overwrite event. The open record is dropped; a
// Tail of the segment before finds no Head.
//
// # Recovery targets
//
// From the events, PostgreSQL's decision where to stop is this
// (recoveryStopsBefore and recoveryStopsAfter, xlogrecovery.c):
//
//   - recovery_target_xid looks at events that end a transaction
//     (Kind.EndsTransaction), aborts as well as commits, and compares XID for
//     equality. Subtransactions are never found. It stops after the record if
//     recovery_target_inclusive is on, else before it.
//   - recovery_target_time looks at the same events, in LSN order. It stops
//     before the first whose Time is later than the target if inclusive is on,
//     and before the first whose Time is not earlier if it is off. Times do not
//     always rise: a transaction takes its time before its place in the log.
//     Restore points, checkpoints and the rest never stop it.
//   - recovery_target_name stops after the first RestorePoint of that Name.
//   - recovery_target_lsn looks at all records, not only at events: it stops
//     after (inclusive) or before the first whose LSN is not less.
//   - If no event stops recovery before WAL ends, a server of 13 or later
//     refuses to start.
//
// # The index format, version 1
//
// Numbers called "fixed" are little-endian. A "uvarint" is seven bits to a
// byte, lowest first, with the high bit set on all but the last byte; a
// "varint" is a uvarint of the number doubled, or for a negative number of its
// complement doubled plus one (both as in Protocol Buffers). Differences are
// taken modulo 2^64, or 2^32 for transaction identifiers, and read as signed.
//
//	version             byte, 1
//	ending              byte, see Ending
//	magic, info         fixed 16 each, of the first page's header
//	segment size        byte, its binary logarithm; 0 if not known
//	page size           byte, likewise
//	system identifier   fixed 64; 0 if not known
//	first timeline      uvarint, of the first page
//	last timeline       uvarint, of the last page
//	rest length         uvarint, xlp_rem_len of the first page
//	page address        uvarint, of the first page
//	from                uvarint, LSN
//	to                  uvarint, less from
//	head, tail          a fragment each
//	count               uvarint, of events
//	events              in the order of their LSNs
//
// A fragment is a byte 0 if there is none, else:
//
//	mark                byte, 1
//	start               uvarint, LSN less the index's from
//	end                 uvarint, less start
//	length, more        uvarint each
//	sum                 fixed 32
//	data                uvarint length, and so many bytes
//
// An event is coded relative to the one before; before the first, the end is
// from, and time and transaction are 0:
//
//	tag                 byte: kind in the low four bits; in the high four the
//	                    size, which is (EndLSN - LSN) / 8, if it is from 1 to 14,
//	                    else 15
//	size                uvarint, only if the tag says 15
//	gap                 uvarint, (LSN - EndLSN of the event before) / 8
//	time                varint, microseconds since 2000-01-01 UTC, less those of
//	                    the latest event with a time; kinds 9, 10 and 12 have none
//
// and then by kind:
//
//	1 to 4              varint, XID less that of the latest event of kinds 1 to 4
//	5                   byte length, at most 63, and the name
//	6, 7                varint, LSN less Redo; then as 8
//	8                   uvarint Timeline, uvarint PrevTimeline, byte WALLevel
//	9                   byte WALLevel: 0 unknown, 1 minimal, 2 replica, 3 logical
//	10                  nothing
//	11                  varint, LSN less Overwritten
//	12                  uvarint Tablespace, varint LSN less Prev, uvarint length,
//	                    at most 1023, and the Location
//
// The usual commit takes five to seven bytes. There is no checksum: whatever
// stores an index must guard it.
package walrec
