// Package conn asks a running PostgreSQL server questions, and holds the
// session of a base backup. It is the only package that knows the driver.
//
// # Sessions
//
// A Conn is one session on one server, not a pool: a base backup lives and
// dies with its session (see StartBackup). Calls on a Conn from several
// goroutines wait for each other. A Conn whose context ends in the middle of a
// question is closed, and the server is asked to cancel the question.
//
// Every session is made independent of how the role, the database and the
// server are configured: search_path is pg_catalog alone, no timeout of the
// server may end it, no parallel workers, UTF8, times in UTC. A dead peer is
// noticed by TCP itself (keepalives, TCP_USER_TIMEOUT), not by a limit on how
// long an answer may take: the checkpoint that begins a backup may take long.
//
// Connect to the server itself. A pooler in transaction mode would give each
// question to another session.
//
// # Errors
//
// Decisions rest on SQLSTATE and on the kind of an error, never on its text,
// which the server translates. Unavailable, AuthFailed and PermissionDenied
// sort errors; no error holds a password.
package conn
