// Package archive puts finished WAL files into repositories: it is what
// archive_command runs.
//
// A push reports success only when every repository has the file durably. It can be
// repeated: the same name with the same content succeeds, and nothing is
// ever overwritten. The same name with other content fails, but for one case:
// after a promotion the old timeline's last segment can come twice, from the old
// primary and from the new one, the same up to the fork and different after it.
// What lies past the fork belongs to no history that is followed, so the segment
// that is there stands for both.
//
// Before a segment is stored, its first page must say that it is the segment its
// name says, of this cluster; and the data directory's marker must name an
// incarnation that the repository has a place for. So a restored copy can not
// archive into the place of its original.
//
// A segment is read once, in parts, while two goroutines work: one hashes and scans
// what it reads, the other compresses and seals. Of what was compressed the first part
// and some of the others are decompressed again and compared, before anything is
// reported stored.
//
// As the segment passes it is hashed, and an index is made of the records in it
// that matter to a restore (pg/walrec) and a summary of the blocks that they change
// (wal/summary), for incremental backups; all are stored in the same object.
package archive
