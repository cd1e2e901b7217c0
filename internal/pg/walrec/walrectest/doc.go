// Package walrectest makes real PostgreSQL clusters write WAL of every kind, for
// the tests of what reads it.
//
// Run goes through everything that any resource manager logs and that a test can
// bring about in seconds; Settings are what the cluster needs for that. Segments
// reads the WAL back from pg_wal.
package walrectest
