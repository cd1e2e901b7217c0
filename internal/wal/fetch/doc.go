// Package fetch hands archived WAL back: it is what restore_command runs.
//
// PostgreSQL takes almost any failure of restore_command for the end of the archive,
// and ends recovery there. So absence must be proven: every repository that may
// hold the file answered that it does not, and nothing later of the same history is
// archived either. All else is a fault, and the two never mix: ErrAbsent is
// returned for the one, any other error for the other.
//
// What is handed out has been checked: unsealed, size and digest compared, and the
// first page says that it is the segment asked for, of this cluster. It appears
// under its name by a rename, after it is durable.
package fetch
