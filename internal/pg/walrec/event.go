package walrec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
)

// Kind is the kind of a record that matters to a restore.
type Kind uint8

// The kinds of event. The numbers are part of the index format.
const (
	Commit             Kind = 1  // XLOG_XACT_COMMIT
	Abort              Kind = 2  // XLOG_XACT_ABORT
	CommitPrepared     Kind = 3  // XLOG_XACT_COMMIT_PREPARED
	AbortPrepared      Kind = 4  // XLOG_XACT_ABORT_PREPARED
	RestorePoint       Kind = 5  // XLOG_RESTORE_POINT
	CheckpointOnline   Kind = 6  // XLOG_CHECKPOINT_ONLINE
	CheckpointShutdown Kind = 7  // XLOG_CHECKPOINT_SHUTDOWN
	EndOfRecovery      Kind = 8  // XLOG_END_OF_RECOVERY
	ParameterChange    Kind = 9  // XLOG_PARAMETER_CHANGE
	Switch             Kind = 10 // XLOG_SWITCH
	Overwrite          Kind = 11 // XLOG_OVERWRITE_CONTRECORD
	TablespaceCreate   Kind = 12 // XLOG_TBLSPC_CREATE
)

var kindNames = [...]string{"", "commit", "abort", "commit prepared", "abort prepared", "restore point",
	"online checkpoint", "shutdown checkpoint", "end of recovery", "parameter change", "segment switch",
	"overwritten record", "creation of a tablespace"}

// String names the kind in plain words.
func (k Kind) String() string {
	if k == 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return kindNames[k]
}

// EndsTransaction says whether the kind is a commit or an abort, prepared or
// not: the records that recovery_target_xid and recovery_target_time look at.
func (k Kind) EndsTransaction() bool { return k >= Commit && k <= AbortPrepared }

// WALLevel is the wal_level a record tells.
type WALLevel uint8

// The levels; LevelUnknown where a record or a version does not tell.
const (
	LevelUnknown WALLevel = iota
	LevelMinimal
	LevelReplica
	LevelLogical
)

// String gives the setting's value.
func (l WALLevel) String() string {
	switch l {
	case LevelMinimal:
		return "minimal"
	case LevelReplica:
		return "replica"
	case LevelLogical:
		return "logical"
	}
	return "unknown"
}

// Event is one record that matters to a restore. Which fields are set depends
// on Kind; the others are zero.
type Event struct {
	Kind     Kind
	WALLevel WALLevel // ParameterChange; from 17 on also checkpoints and EndOfRecovery

	// XID is the top-level transaction that ended, as recovery_target_xid
	// counts it: of CommitPrepared and AbortPrepared the prepared transaction,
	// not the session's that ran the command. Zero if it is not known, see
	// Fragment.
	XID uint32

	LSN    pg.LSN // where the record starts
	EndLSN pg.LSN // where the next may start, PostgreSQL's EndRecPtr; of a Switch the segment's end

	// Time is when the transaction ended, the restore point was made, the
	// recovery or overwriting happened (microseconds), or the checkpoint
	// began (seconds). UTC. Not set for ParameterChange, Switch and
	// TablespaceCreate.
	Time time.Time

	Name         string      // RestorePoint
	Redo         pg.LSN      // checkpoints: where redo from it starts
	Timeline     pg.Timeline // checkpoints, EndOfRecovery: the one that goes on
	PrevTimeline pg.Timeline // the same, or the one that was left
	Overwritten  pg.LSN      // Overwrite: the record that was given up

	// Of TablespaceCreate: the tablespace, and the absolute path of its
	// directory, empty if that is in pg_tblspc itself. Replay makes the link to
	// the path anew, wherever it led (create_tablespace_directories,
	// tablespace.c). The record may be of a transaction that was aborted later.
	Tablespace pg.OID
	Location   string
	Prev       pg.LSN // TablespaceCreate: where the record before starts
}

// Resource managers and the records of theirs that are events (rmgrlist.h,
// pg_control.h, xact.h, tablespace.h).
const (
	rmgrXLOG       = 0
	rmgrXact       = 1
	rmgrTablespace = 5   // RM_TBLSPC_ID
	rmgrMaxBuiltin = 21  // RM_LOGICALMSG_ID, from 14 to 18
	rmgrMinCustom  = 128 // from 15 on

	xactOpMask  = 0x70
	xactHasInfo = 0x80
)

// kindOf tells the kind by resource manager and xl_info; 0 for no event.
func kindOf(rmgr, info byte) Kind {
	switch rmgr {
	case rmgrXLOG:
		switch info & 0xF0 {
		case 0x00:
			return CheckpointShutdown
		case 0x10:
			return CheckpointOnline
		case 0x40:
			return Switch
		case 0x60:
			return ParameterChange
		case 0x70:
			return RestorePoint
		case 0x90:
			return EndOfRecovery
		case 0xD0:
			return Overwrite
		}
	case rmgrXact:
		switch info & xactOpMask {
		case 0x00:
			return Commit
		case 0x20:
			return Abort
		case 0x30:
			return CommitPrepared
		case 0x40:
			return AbortPrepared
		}
	case rmgrTablespace:
		if info&0xF0 == 0x00 {
			return TablespaceCreate
		}
	}
	return 0
}

// Offsets in and least sizes of main data (xact.h, pg_control.h,
// xlog_internal.h, tablespace.h), on machines that align 64-bit numbers to eight bytes.
const (
	nameSize       = 64 // MAXFNAMELEN
	checkpointSize = 72 // up to and with CheckPoint.time
	recoverySize   = 16
	parameterSize  = 24
	tablespaceSize = 5 // an OID, and the end of an empty path

	maxLocation = 1023 // MAXPGPATH, less the zero at its end
)

// decode fills in what the record's bytes, of which rec are the first, tell of
// an event whose Kind is known already.
func decode(major int, rec []byte, e *Event) error {
	if e.Kind == Switch {
		return nil
	}
	main, size, err := recordParts(major, rec, nil)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrRecord, e.Kind, err)
	}
	if least := leastMain(e.Kind); len(main) < least {
		return fmt.Errorf("%w: %s has %d bytes of %d, want at least %d", ErrRecord, e.Kind, len(main), size, least)
	}
	le := binary.LittleEndian
	switch e.Kind {
	case Commit, Abort:
		e.XID = le.Uint32(rec[4:])
		e.Time = timestamp(main)
	case CommitPrepared, AbortPrepared:
		e.XID, err = preparedXID(major, rec[16], main, len(main) < size)
		e.Time = timestamp(main)
	case RestorePoint:
		e.Time = timestamp(main)
		name, _, _ := bytes.Cut(main[8:8+nameSize], []byte{0})
		e.Name = string(name)
	case CheckpointOnline, CheckpointShutdown:
		e.Redo = pg.LSN(le.Uint64(main))
		e.Timeline = pg.Timeline(le.Uint32(main[8:]))
		e.PrevTimeline = pg.Timeline(le.Uint32(main[12:]))
		if major >= 17 {
			e.WALLevel = walLevel(main[20:])
		}
		e.Time = unixTime(int64(le.Uint64(main[64:])))
	case EndOfRecovery:
		e.Time = timestamp(main)
		e.Timeline = pg.Timeline(le.Uint32(main[8:]))
		e.PrevTimeline = pg.Timeline(le.Uint32(main[12:]))
		if major >= 17 && len(main) >= recoverySize+4 {
			e.WALLevel = walLevel(main[16:])
		}
	case ParameterChange:
		e.WALLevel = walLevel(main[20:])
	case Overwrite:
		e.Overwritten = pg.LSN(le.Uint64(main))
		e.Time = timestamp(main[8:])
	case TablespaceCreate:
		e.Tablespace = pg.OID(le.Uint32(main))
		e.Prev = pg.LSN(le.Uint64(rec[8:]))
		e.Location, err = location(main[4:])
	}
	return err
}

// location reads ts_path, which ends with a zero.
func location(b []byte) (string, error) {
	path, _, ends := bytes.Cut(b, []byte{0})
	if !ends || len(path) > maxLocation {
		return "", fmt.Errorf("%w: the location of a new tablespace does not end within %d bytes", ErrRecord, len(path))
	}
	return string(path), nil
}

func leastMain(k Kind) int {
	switch k {
	case RestorePoint:
		return 8 + nameSize
	case CheckpointOnline, CheckpointShutdown:
		return checkpointSize
	case EndOfRecovery, Overwrite:
		return recoverySize
	case ParameterChange:
		return parameterSize
	case TablespaceCreate:
		return tablespaceSize
	}
	return 8
}

func walLevel(b []byte) WALLevel {
	if v := binary.LittleEndian.Uint32(b); v <= 2 {
		return WALLevel(v + 1)
	}
	return LevelUnknown
}

// epoch is PostgreSQL's, 2000-01-01 UTC, in seconds of Unix time
// (POSTGRES_EPOCH_JDATE, timestamp.h).
const epoch = 946684800

// timestamp reads a TimestampTz: microseconds since 2000-01-01 UTC.
func timestamp(b []byte) time.Time { return fromMicros(int64(binary.LittleEndian.Uint64(b))) }

func fromMicros(us int64) time.Time {
	sec, rest := us/1e6, us%1e6
	return time.Unix(sec+epoch, rest*1000).UTC()
}

func toMicros(t time.Time) int64 { return (t.Unix()-epoch)*1e6 + int64(t.Nanosecond())/1000 }

// unixTime reads a pg_time_t. Seconds that microseconds in 64 bits cannot hold
// are clamped, so that every Event survives encoding.
func unixTime(sec int64) time.Time {
	const most = 1<<63/1_000_000 - epoch - 1
	return time.Unix(min(max(sec, -most), most), 0).UTC()
}
