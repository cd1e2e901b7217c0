package datadir

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"time"

	"github.com/salvor-dr/salvor/internal/pg"
)

// ControlPath is where pg_control lies in a data directory.
const ControlPath = "global/pg_control"

// ControlFileSize is the size of pg_control in bytes, most of them unused
// (PG_CONTROL_FILE_SIZE, pg_control.h).
const ControlFileSize = 8192

// Control is the contents of pg_control (ControlFileData, pg_control.h): the
// cluster's identity, sizes, last checkpoint and recovery state. Times are UTC
// with a resolution of one second.
type Control struct {
	SystemID       pg.SystemID
	ControlVersion uint32 // layout of the file
	CatalogVersion uint32 // of the system catalogs; tells the major version

	State          State
	Time           time.Time // when the file was written last
	Checkpoint     pg.LSN    // position of the last checkpoint record
	CheckpointCopy Checkpoint
	UnloggedLSN    pg.LSN // counter of fake LSNs for unlogged relations

	// Where recovery must get to before the cluster is consistent.
	// MinRecoveryPoint is zero outside of archive recovery; the backup's points
	// are set only while recovery from a backup hasn't reached its end.
	MinRecoveryPoint         pg.LSN
	MinRecoveryPointTimeline pg.Timeline
	BackupStartPoint         pg.LSN
	BackupEndPoint           pg.LSN
	BackupEndRequired        bool

	// Settings of the server that wrote the WAL: a hot standby must have at
	// least as much of each of the Max ones.
	WALLevel             WALLevel
	WALLogHints          bool
	MaxConnections       int32
	MaxWorkerProcesses   int32
	MaxWALSenders        int32
	MaxPreparedXacts     int32
	MaxLocksPerXact      int32
	TrackCommitTimestamp bool

	Sizes               pg.Sizes
	DataChecksumVersion uint32 // zero: data checksums are off; 1: on
}

// Checkpoint is pg_control's copy of the last checkpoint record (CheckPoint,
// pg_control.h).
type Checkpoint struct {
	Redo              pg.LSN // replay begins here
	Timeline          pg.Timeline
	PrevTimeline      pg.Timeline // another one if the checkpoint began a timeline
	FullPageWrites    bool
	NextXID           uint64 // with the epoch in the upper half
	NextOID           pg.OID
	NextMulti         uint32
	NextMultiOffset   uint32
	OldestXID         uint32
	OldestXIDDB       pg.OID
	OldestMulti       uint32
	OldestMultiDB     pg.OID
	Time              time.Time
	OldestCommitTsXID uint32
	NewestCommitTsXID uint32
	OldestActiveXID   uint32 // zero for a shutdown checkpoint
}

// Major gives the major version whose catalogs the cluster has.
func (c Control) Major() int { return majorOf(c.ControlVersion, c.CatalogVersion) }

// VersionDirectory names the directory that the cluster has in each of its
// tablespaces (TABLESPACE_VERSION_DIRECTORY, relpath.h).
func (c Control) VersionDirectory() string {
	return versionDirectory(c.Major(), c.CatalogVersion)
}

func versionDirectory(major int, catalogVersion uint32) string {
	return fmt.Sprintf("PG_%d_%d", major, catalogVersion)
}

// majorOf knows the released versions, by PG_CONTROL_VERSION (pg_control.h) and
// CATALOG_VERSION_NO (catversion.h), and gives zero for any other. 14, 15 and 16
// share one layout of pg_control, so that only the catalogs tell them apart.
// Neither number changes after the first release of a major.
func majorOf(controlVersion, catalogVersion uint32) int {
	switch [2]uint32{controlVersion, catalogVersion} {
	case [2]uint32{1300, 202107181}:
		return 14
	case [2]uint32{1300, 202209061}:
		return 15
	case [2]uint32{1300, 202307071}:
		return 16
	case [2]uint32{1700, 202406281}:
		return 17
	case [2]uint32{1800, 202506291}:
		return 18
	}
	return 0
}

// Offsets of ControlFileData on machines that align eight-byte numbers to eight
// bytes. From 14 to 18 none of these moved: 17 put the checkpoint's wal_level
// into what was padding, and 18 put default_char_signedness after them, which
// moved only the CRC.
const (
	offSystemID       = 0
	offControlVersion = 8
	offCatalogVersion = 12
	offState          = 16
	offTime           = 24
	offCheckpoint     = 32
	offCheckpointCopy = 40
	offUnloggedLSN    = 128
	offMinRecovery    = 136
	offMinRecoveryTLI = 144
	offBackupStart    = 152
	offBackupEnd      = 160
	offEndRequired    = 168
	offWALLevel       = 172
	offWALLogHints    = 176
	offMaxConnections = 180
	offMaxWorkers     = 184
	offMaxSenders     = 188
	offMaxPrepared    = 192
	offMaxLocks       = 196
	offTrackCommitTs  = 200
	offMaxAlign       = 204
	offFloatFormat    = 208
	offBlock          = 216
	offSegmentBlocks  = 220
	offWALBlock       = 224
	offWALSegment     = 228
	offChecksums      = 252
	offCRC14          = 288 // 14 to 17
	offCRC18          = 292
	minControlSize    = offCRC18 + 4
)

// ParseControl reads the contents of pg_control. It returns an error that is
// ErrControlVersion for a version or byte order that is not known, and
// ErrControlCRC if the checksum (CRC-32C of all before it) does not fit, which a
// torn read also gives.
func ParseControl(data []byte) (Control, error) {
	crc, err := controlCRC(data)
	if err != nil {
		return Control{}, err
	}
	f := fields(data)
	if got := controlSum(data[:crc]); got != f.u32(crc) {
		return Control{}, fmt.Errorf("%w: %08x is stored, the contents give %08x", ErrControlCRC, f.u32(crc), got)
	}
	if a, v := f.u32(offMaxAlign), math.Float64frombits(f.u64(offFloatFormat)); a != 8 || v != 1234567 {
		return Control{}, fmt.Errorf("%w: written on a machine with alignment %d and floating-point format %v", ErrControlVersion, a, v)
	}
	c := f.control()
	if err := c.Sizes.Validate(); err != nil {
		return Control{}, fmt.Errorf("pg_control: %w", err)
	}
	return c, nil
}

// controlCRC gives the offset of the CRC, after which nothing is used.
func controlCRC(data []byte) (int, error) {
	if len(data) < minControlSize {
		return 0, fmt.Errorf("pg_control has %d bytes, too few to be one", len(data))
	}
	control, catalog := fields(data).u32(offControlVersion), fields(data).u32(offCatalogVersion)
	switch major := majorOf(control, catalog); {
	case major >= 18:
		return offCRC18, nil
	case major != 0:
		return offCRC14, nil
	case majorOf(bits.ReverseBytes32(control), bits.ReverseBytes32(catalog)) != 0:
		return 0, fmt.Errorf("%w: written by a big-endian machine", ErrControlVersion)
	}
	return 0, fmt.Errorf("%w: pg_control version %d, catalog version %d", ErrControlVersion, control, catalog)
}

// controlSum is the checksum of pg_control, CRC-32C (pg_crc32c.h).
func controlSum(data []byte) uint32 {
	return crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
}

// fields reads pg_control's numbers. Its length is checked before: at least
// minControlSize.
type fields []byte

func (f fields) u32(off int) uint32           { return binary.LittleEndian.Uint32(f[off:]) }
func (f fields) i32(off int) int32            { return int32(f.u32(off)) }
func (f fields) u64(off int) uint64           { return binary.LittleEndian.Uint64(f[off:]) }
func (f fields) lsn(off int) pg.LSN           { return pg.LSN(f.u64(off)) }
func (f fields) timeline(off int) pg.Timeline { return pg.Timeline(f.u32(off)) }
func (f fields) bool(off int) bool            { return f[off] != 0 }
func (f fields) time(off int) time.Time       { return time.Unix(int64(f.u64(off)), 0).UTC() }

func (f fields) control() Control {
	return Control{
		SystemID:                 pg.SystemID(f.u64(offSystemID)),
		ControlVersion:           f.u32(offControlVersion),
		CatalogVersion:           f.u32(offCatalogVersion),
		State:                    State(f.u32(offState)),
		Time:                     f.time(offTime),
		Checkpoint:               f.lsn(offCheckpoint),
		CheckpointCopy:           f[offCheckpointCopy:].checkpoint(),
		UnloggedLSN:              f.lsn(offUnloggedLSN),
		MinRecoveryPoint:         f.lsn(offMinRecovery),
		MinRecoveryPointTimeline: f.timeline(offMinRecoveryTLI),
		BackupStartPoint:         f.lsn(offBackupStart),
		BackupEndPoint:           f.lsn(offBackupEnd),
		BackupEndRequired:        f.bool(offEndRequired),
		WALLevel:                 WALLevel(f.i32(offWALLevel)),
		WALLogHints:              f.bool(offWALLogHints),
		MaxConnections:           f.i32(offMaxConnections),
		MaxWorkerProcesses:       f.i32(offMaxWorkers),
		MaxWALSenders:            f.i32(offMaxSenders),
		MaxPreparedXacts:         f.i32(offMaxPrepared),
		MaxLocksPerXact:          f.i32(offMaxLocks),
		TrackCommitTimestamp:     f.bool(offTrackCommitTs),
		Sizes: pg.Sizes{
			Block:         f.u32(offBlock),
			SegmentBlocks: f.u32(offSegmentBlocks),
			WALBlock:      f.u32(offWALBlock),
			WALSegment:    f.u32(offWALSegment),
		},
		DataChecksumVersion: f.u32(offChecksums),
	}
}

// checkpoint reads the checkpoint that begins at f's first byte.
func (f fields) checkpoint() Checkpoint {
	return Checkpoint{
		Redo:              f.lsn(0),
		Timeline:          f.timeline(8),
		PrevTimeline:      f.timeline(12),
		FullPageWrites:    f.bool(16),
		NextXID:           f.u64(24),
		NextOID:           pg.OID(f.u32(32)),
		NextMulti:         f.u32(36),
		NextMultiOffset:   f.u32(40),
		OldestXID:         f.u32(44),
		OldestXIDDB:       pg.OID(f.u32(48)),
		OldestMulti:       f.u32(52),
		OldestMultiDB:     pg.OID(f.u32(56)),
		Time:              f.time(64),
		OldestCommitTsXID: f.u32(72),
		NewestCommitTsXID: f.u32(76),
		OldestActiveXID:   f.u32(80),
	}
}
