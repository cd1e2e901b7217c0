// Package fetch hands archived WAL back: it is what restore_command runs.
//
// PostgreSQL takes almost any failure of restore_command for the end of the archive,
// and ends recovery there. So absence must be proven: every repository that may
// hold the file answered that it does not, and nothing later of the same history is
// archived either. All else is a fault, and the two never mix: ErrAbsent is
// returned for the one, any other error for the other.
//
// One hole in the archive is none: WAL that a standalone backup brought along in
// pg_wal, from before the archive began. PostgreSQL takes it from there when it is
// told that the archive lacks it.
//
// What is handed out has been checked: unsealed, size and digest compared, and the
// first page says that it is the segment asked for, of this cluster. It appears
// under its name by a rename, after it is durable.
package fetch
