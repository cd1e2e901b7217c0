package datadir

import "errors"

// ErrControlCRC means that the contents of pg_control don't fit its checksum.
// The server writes the file in place, so a reader beside it can see a mixture
// of old and new: read the file again before calling it corrupt. ReadControl
// does.
var ErrControlCRC = errors.New("calculated CRC does not match the value stored in pg_control")

// ErrControlVersion means that pg_control is of a PostgreSQL version, or of a
// kind of machine, whose layout this release does not know.
var ErrControlVersion = errors.New("pg_control is of a version that is not known")
