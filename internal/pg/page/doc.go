// Package page reads one PostgreSQL data page: its header, its checksum, and
// whether both look like something PostgreSQL wrote.
//
// Words. A page (or block) is the unit in which relations are stored, of
// pg.Sizes.Block bytes: a power of two from 1 KiB to 32 KiB, always the whole
// slice handed in. A block number counts pages from the beginning of the
// relation fork, over all its segment files: page n of segment file s is block
// s*SegmentBlocks+n. The checksum contains it, so a page found at another place
// than its own fails.
//
// What is checked, and in which order (PageIsVerified, bufpage.c):
//
//  1. every byte is zero: a new page, valid (PostgreSQL extends files with them);
//  2. pd_upper is zero although the page is not: no page PostgreSQL writes;
//  3. with data checksums on: the stored checksum against the computed one;
//  4. the header: known flags, lower <= upper <= special <= page size, and
//     special on an eight-byte boundary.
//
// Only files of relation forks consist of pages; pg_filenode.map,
// pg_internal.init and everything outside of the database directories do not.
// A page that was read while the server wrote it may be torn; telling a torn
// page from a corrupt one needs a second read from disk, which is the caller's.
//
// Pages are little-endian, as on every platform this release supports. Nothing
// here allocates or changes the page.
package page
