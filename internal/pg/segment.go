package pg

import (
	"fmt"
	"strconv"
	"strings"
)

// Segment names one WAL file: a timeline and a number that counts segments of
// the cluster's size from the beginning of the log.
type Segment struct {
	Timeline Timeline
	Number   uint64
}

// SegmentAt gives the segment that holds the byte at lsn.
func SegmentAt(tli Timeline, lsn LSN, segmentSize uint32) Segment {
	return Segment{Timeline: tli, Number: uint64(lsn) / uint64(segmentSize)}
}

// SegmentBefore gives the segment that holds the byte before lsn: the one that
// must be archived for a log that ends at lsn to be whole, also when lsn stands
// exactly on a boundary (XLByteToPrevSeg, xlog_internal.h).
func SegmentBefore(tli Timeline, lsn LSN, segmentSize uint32) Segment {
	if lsn > 0 {
		lsn--
	}
	return SegmentAt(tli, lsn, segmentSize)
}

// Start is the position of the segment's first byte.
func (s Segment) Start(segmentSize uint32) LSN { return LSN(s.Number * uint64(segmentSize)) }

// End is the position after the segment's last byte.
func (s Segment) End(segmentSize uint32) LSN { return LSN((s.Number + 1) * uint64(segmentSize)) }

// Next is the segment that follows on the same timeline.
func (s Segment) Next() Segment { return Segment{s.Timeline, s.Number + 1} }

// Name gives PostgreSQL's file name, 24 hexadecimal digits (XLogFileName,
// xlog_internal.h).
func (s Segment) Name(segmentSize uint32) string {
	perID := uint64(1<<32) / uint64(segmentSize)
	return fmt.Sprintf("%08X%08X%08X", uint32(s.Timeline), uint32(s.Number/perID), uint32(s.Number%perID))
}

// WALFileKind tells the kinds of file apart that PostgreSQL archives.
type WALFileKind int

// The kinds of file that PostgreSQL hands to archive_command or asks of
// restore_command.
const (
	WALSegment      WALFileKind = iota + 1 // 24 hexadecimal digits
	WALPartial                             // a segment cut off by a promotion: .partial
	WALHistory                             // <timeline>.history
	WALBackupMarker                        // <segment>.<offset>.backup, written by pg_backup_stop
)

// WALFile is a parsed name of a file in pg_wal.
type WALFile struct {
	Kind     WALFileKind
	Timeline Timeline
	Segment  Segment // zero for a history file
	Offset   uint32  // of the backup's start in the segment, WALBackupMarker only
}

// ParseWALFile reads the name of a segment, partial segment, history file or
// backup marker. It returns an error for anything else.
func ParseWALFile(name string, segmentSize uint32) (WALFile, error) {
	bad := func() (WALFile, error) {
		return WALFile{}, fmt.Errorf("%q is not the name of a WAL segment, history or backup history file", name)
	}
	base, suffix, _ := strings.Cut(name, ".")
	if suffix == "history" && len(base) == 8 {
		tli, err := parseUpperHex32(base)
		if err != nil || tli == 0 {
			return bad()
		}
		return WALFile{Kind: WALHistory, Timeline: Timeline(tli)}, nil
	}
	seg, err := parseSegment(base, segmentSize)
	if err != nil {
		return bad()
	}
	f := WALFile{Timeline: seg.Timeline, Segment: seg}
	switch {
	case len(name) == 24:
		f.Kind = WALSegment
	case suffix == "partial":
		f.Kind = WALPartial
	case len(suffix) == len("00000028.backup") && strings.HasSuffix(suffix, ".backup"):
		f.Kind = WALBackupMarker
		if f.Offset, err = parseUpperHex32(suffix[:8]); err != nil || f.Offset >= segmentSize {
			return bad()
		}
	default:
		return bad()
	}
	return f, nil
}

// ParseSegment reads a segment's name, 24 hexadecimal digits.
func ParseSegment(name string, segmentSize uint32) (Segment, error) {
	s, err := parseSegment(name, segmentSize)
	if err != nil {
		return Segment{}, fmt.Errorf("%q is not the name of a WAL segment of %d bytes", name, segmentSize)
	}
	return s, nil
}

var errSegmentName = fmt.Errorf("not a segment name")

func parseSegment(name string, segmentSize uint32) (Segment, error) {
	if len(name) != 24 || !ValidSegmentSize(segmentSize) {
		return Segment{}, errSegmentName
	}
	tli, err1 := parseUpperHex32(name[:8])
	id, err2 := parseUpperHex32(name[8:16])
	seg, err3 := parseUpperHex32(name[16:])
	perID := uint64(1<<32) / uint64(segmentSize)
	if err1 != nil || err2 != nil || err3 != nil || tli == 0 || uint64(seg) >= perID {
		return Segment{}, errSegmentName
	}
	return Segment{Timeline(tli), uint64(id)*perID + uint64(seg)}, nil
}

// parseUpperHex32 reads eight digits as PostgreSQL writes them: upper case.
func parseUpperHex32(s string) (uint32, error) {
	if len(s) != 8 || strings.Trim(s, "0123456789ABCDEF") != "" {
		return 0, errSegmentName
	}
	v, err := strconv.ParseUint(s, 16, 32)
	return uint32(v), err
}
