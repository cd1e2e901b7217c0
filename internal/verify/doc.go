// Package verify looks whether backups are what they were when they were made, without
// restoring them.
//
// There are three levels, each of which includes those before it (catalog.VerifyLevel):
//
//   - objects: head, file table and list of packs are read. Every pack that they name is
//     there, of the size that the list says, and its header and footer are those of the
//     pack that the backup wrote. Every reference of every file's map leads to a chunk
//     that its pack has. Of the WAL from the backup's start to its stop every segment is
//     there, with a sound footer, which says that WAL goes on to the segment's end; and
//     the archive has no hole from there to its newest segment, on any timeline that goes
//     on from the backup. Histories are read.
//   - data: every byte of every pack is read, decrypted, decoded and hashed. Pages are
//     checked as the backup did it: checksum and header. The blocks that a file's map
//     names sum up to the file's digest. Every segment of WAL from the start of the first
//     of the backups on is read, and its records parsed, also those that cross the ends of
//     segments.
//   - restore is not done here: Run does the levels before it, and who has a server to
//     start goes on with each backup that is sound so far. See Report.
//
// # What is found
//
// A Problem names an object, and what of a data directory is lost with it. It belongs to
// every backup that needs what is damaged, and to no other: backups share packs, and a
// damaged chunk may be one that a later backup does not use any more. What belongs to
// none of the backups is a problem of the archive, or of the repository; above all WAL
// after a backup's stop: without it the backup can be restored, but not to later moments.
//
// A page that was damaged already when the backup read it is no problem of the
// repository: the backup has said so. It is counted (Backup.Known).
//
// A store that cannot be reached proves nothing: that is an error of Run.
//
// # How much is read, and held
//
// Packs that several backups name are read once. A pack does not say to which file a
// page belongs, and a page's checksum contains its number. So packs are read in windows:
// for each, the maps of all files are gone through, and what they use of the window's
// packs is noted, 16 bytes for each run. Memory is bounded by the window, by some 150
// bytes for each pack, and by the parts of WAL records that cross the ends of the
// segments in one batch.
//
// Nothing is locked, and backups may be made and removed meanwhile: of one that turns out
// to have gone, nothing is reported.
package verify
