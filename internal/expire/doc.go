// Package expire removes backups, in an order that can be cut off anywhere, and while
// others are made.
//
// A backup exists while its head does. A removal writes a tombstone, which names what
// is to go; then removes the head; then looks at what the backups that are left need,
// and at what one under way has announced that it adopts; then removes the rest, and
// the tombstone. One that is cut off leaves its tombstone, and the next finishes it.
//
// Backups that are cut off leave packs that no head names. The next backup adopts
// what it can use of them; Sweep removes them after a grace period.
//
// Why a backup may run meanwhile: one that adopts announces it before it looks for
// tombstones, and a removal writes its tombstone before it looks for announcements
// and heads. One of the two sees the other. A backup that was taken for dead while it
// lived finds the tombstone, or something gone, after it has put its head, and takes
// it back. What a live backup has stored itself has no head yet either: Sweep, which
// is the only one to look for such packs, holds the lock of backups.
//
// The same holds for who restores a backup, or holds one: they announce it, and then look
// for tombstones. A restore's announcement counts for a time after it, since the server
// that it made needs the WAL.
//
// Run applies a policy: it surveys what there is, lets decide, and removes backups and WAL,
// all with the lock of removals held. WAL goes from its beginning on, after it was written
// up to where it goes: what is missing before that is not lost.
//
// Removals hold a lock of their own: two at once could each leave the last backup to
// the other.
package expire
