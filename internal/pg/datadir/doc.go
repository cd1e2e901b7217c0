// Package datadir reads the files of a PostgreSQL data directory that a backup
// tool must understand, and says which files a backup holds.
//
// What is here:
//
//   - control.go, read.go, poison.go: global/pg_control, for PostgreSQL 14 to 18
//   - label.go, tablespacemap.go: backup_label and tablespace_map, the two files
//     that pg_backup_stop returns
//   - relation.go: which file is which segment of which fork of which relation
//   - rules.go: the one table of what is left out of a backup, and why
//   - walk.go, symlink.go: the files of a data directory, streamed in order
//
// Words. Paths are relative to the data directory, with slashes, and are bytes:
// a name need not be valid UTF-8. A version directory is the PG_<major>_<catalog
// version> directory that a cluster makes for itself inside a tablespace's
// location. An in-place tablespace is one that is a directory in pg_tblspc
// itself instead of a symbolic link.
//
// The walk (Walk). Depth first, each directory before what is in it, the names
// of a directory in the order of their bytes; the data directory itself comes
// first, as ".". Memory holds the names of the directories on the way down to
// the current one and nothing else, so it doesn't grow with the cluster, only
// with its largest directory. What follows from reading a directory that lives:
//
//   - What vanishes during the walk was dropped by the server, and WAL replay
//     will drop it again: no error.
//   - Unlogged relations are told by their init fork, from the names of the one
//     directory that is being walked.
//   - The links in pg_tblspc are entered, but only the cluster's own version
//     directory in them: servers of several majors may share a location. A
//     tablespace whose location is inside the data directory is walked once, as
//     a tablespace; that is decided by device and inode, never by comparing text.
//   - pg_wal and the directories whose contents are left out are given as
//     directories even where they are links.
//   - Another link to a file is given as the file it leads to (a postgresql.conf
//     kept elsewhere is part of the cluster). A link to a directory is entered
//     only where the server keeps its data behind that name. Every other link,
//     and sockets, pipes and devices, are skipped and reported.
//
// The files are not read here. A caller reads global/pg_control last
// (basebackup.c does): on a standby it holds the point the backup is consistent
// from.
package datadir
