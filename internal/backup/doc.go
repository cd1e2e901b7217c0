// Package backup copies a running cluster's data directory into a repository.
//
// The steps, in order:
//
//  1. look: is this directory the server's, can WAL of the backup be had; of a standby,
//     who is its primary
//  2. lock the cluster's backups, mark this one as running, and gather the packs of
//     backups that were cut off
//  3. start: a checkpoint, and pg_backup_start, on a session that is held to the end; of an incremental
//     backup, put together what the WAL changed since the parent's start
//  4. copy: list the files, read of them what may have changed, in ranges, largest
//     first, several at a time; check each page; store chunks in packs, one open pack
//     for each worker, but those that are found in a gathered pack
//  5. stop: pg_backup_stop gives backup_label and the stop position
//  6. wait until every byte of WAL from start to stop is in the repository, or, for
//     a standalone backup, copy it from pg_wal
//  7. write file table and pack list; see that every pack is still there; and, last,
//     write the head: now the backup exists
//
// The directory lives while it is read. A file that grows is read to the size it
// had when it was listed if it is a relation (replay brings the rest), else to its
// end. One that shrinks is stored as far as it goes. One that vanishes is left out.
// A page that does not check is read again: if its bytes change, it was being
// written, and the full-page image in the WAL repairs it; if they stay, it is
// damaged, and recorded.
//
// A backup that fails leaves its complete packs, and its mark. The next one finds in
// them whatever has not changed meanwhile, by content and never by name or time, and
// names those packs as its own; expire removes the others.
//
// Memory is bounded by workers, buffers and the list of files, not by the size of
// the database.
package backup
