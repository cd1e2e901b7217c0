package pg

import (
	"fmt"
	"strconv"
)

// OID is a PostgreSQL object identifier.
type OID uint32

// SystemID identifies a cluster from initdb on; physical copies share it.
type SystemID uint64

// ParseSystemID reads the decimal form that pg_controldata prints.
func ParseSystemID(s string) (SystemID, error) {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || v == 0 {
		return 0, fmt.Errorf("%q is not a database system identifier", s)
	}
	return SystemID(v), nil
}

// String gives the decimal form that pg_controldata prints.
func (s SystemID) String() string { return strconv.FormatUint(uint64(s), 10) }

// MarshalText implements encoding.TextMarshaler: as JSON it is a string, since
// a number of 64 bits does not survive every reader.
func (s SystemID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *SystemID) UnmarshalText(b []byte) error {
	v, err := ParseSystemID(string(b))
	if err != nil {
		return err
	}
	*s = v
	return nil
}

// Version is server_version_num: 150018 is 15.18.
type Version int

// The major versions this release works with.
const (
	OldestMajor = 14
	NewestMajor = 18
)

// Major gives 15 for 150018.
func (v Version) Major() int { return int(v) / 10000 }

// String gives "15.18" for 150018.
func (v Version) String() string { return fmt.Sprintf("%d.%d", int(v)/10000, int(v)%10000) }

// Supported says whether this release can back up and restore the version.
func (v Version) Supported() bool { return v.Major() >= OldestMajor && v.Major() <= NewestMajor }

// Sizes are what a cluster was built or initialised with, in bytes except for
// SegmentBlocks. They are read from pg_control.
type Sizes struct {
	Block         uint32 `json:"block_bytes"`             // BLCKSZ: a data page
	SegmentBlocks uint32 `json:"relation_segment_blocks"` // RELSEG_SIZE: pages in one file of a relation
	WALBlock      uint32 `json:"wal_block_bytes"`         // XLOG_BLCKSZ: a WAL page
	WALSegment    uint32 `json:"wal_segment_bytes"`       // a WAL segment file
}

// Validate refuses sizes that no PostgreSQL can have, so that code after it
// may divide by them.
func (s Sizes) Validate() error {
	switch {
	case !powerOfTwo(s.Block) || s.Block < 1<<10 || s.Block > 32<<10:
		return fmt.Errorf("block size %d is not a power of two from 1 kB to 32 kB", s.Block)
	case s.SegmentBlocks == 0:
		return fmt.Errorf("relation segment size is zero")
	case !powerOfTwo(s.WALBlock) || s.WALBlock < 1<<10 || s.WALBlock > 64<<10:
		return fmt.Errorf("WAL block size %d is not a power of two from 1 kB to 64 kB", s.WALBlock)
	case !ValidSegmentSize(s.WALSegment):
		return fmt.Errorf("WAL segment size %d is not a power of two from 1 MB to 1 GB", s.WALSegment)
	}
	return nil
}

// ValidSegmentSize says whether PostgreSQL accepts n bytes as a WAL segment:
// a power of two from 1 MiB to 1 GiB (IsValidWalSegSize, xlog_internal.h).
func ValidSegmentSize(n uint32) bool { return powerOfTwo(n) && n >= 1<<20 && n <= 1<<30 }

func powerOfTwo(n uint32) bool { return n != 0 && n&(n-1) == 0 }
