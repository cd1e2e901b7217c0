// Package pg holds the words every other package needs to talk about
// PostgreSQL: positions in the write-ahead log, timelines, segment names,
// system identifiers, versions and the sizes a cluster was built with.
//
// It reads nothing and knows nothing of Salvor. Everything that touches a
// server or a data directory is in its child packages:
//
//   - pg/page: one data page: header sanity and checksum
//   - pg/datadir: pg_control, backup_label, which files a backup holds
//   - pg/walrec: WAL pages and records
//   - pg/conn: questions to a running server
//   - pg/server: starting and stopping one
//
// Sizes (block, WAL block, WAL segment) are parameters everywhere: they come
// from pg_control, and none is compiled in.
package pg
