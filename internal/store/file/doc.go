// Package file is a store in a directory: one file an object, the key its path.
//
//	<root>/<key>            objects
//	<root>/.tmp/<random>    objects being written, and leftovers of killed writers
//	<root>/.locks/<2 hex>   locks for replacing and deleting, one for 1/64 of the keys
//	<folder>/.durable       says that the names of the folder and of those above it are
//	                        durable
//
// Keys never begin a part with a dot, so the hidden folders cannot meet an
// object. The root is one file system: rename does not cross into another.
//
// How an object becomes durable (the order is the proof; storetest.Crash takes
// the power away between any two steps):
//
//  1. the bytes go to a new file in .tmp; on long ones the kernel is asked to
//     begin writing early, so that the sync at the end is short
//  2. the modification time is set, the file synced and closed, each checked
//  3. the folder is made where it is missing
//  4. the file is renamed to its key: with IfAbsent by a rename that replaces
//     nothing, else under the key's lock after comparing versions
//  5. the folder is synced, and every folder above it up to the root, unless
//     this process has seen them durable before, or a mark in the folder says that
//     another one has
//
// Step 5 is not only for folders made in step 3: another process may have made
// one a moment ago and not have synced it, or have been killed before it could. A
// folder counts as seen when it is the very inode that this store holds open; a
// folder that was removed and made again is another one. A mark is left only after
// the folders above were synced, and tells which folder it is for (mark.go). A writer
// that loses IfAbsent does step 5 too, so ErrExists means that the winner's object is
// durable.
//
// Delete removes the file under the key's lock, syncs the folder, and then
// removes the folders that have become empty. A Commit that finds its folder
// gone makes it again.
//
// Version is the size and the modification time, which Commit sets itself, in
// nanoseconds of its own clock, and under the lock always later than that of
// the object it replaces. So along a chain of replacements no version comes
// twice, whatever the clock does and however coarse the times of the file
// system are. The inode number is left out: it is used again at once by ext4,
// and not stable on FUSE and overlays. What remains: an object deleted and
// created again with the same size within one tick of the file system's times
// (a nanosecond on all usual ones, up to two seconds on FAT) may get the
// version it had. Bytes changed by other hands with the time put back are not
// seen; the layer above seals its objects for that.
//
// Absent is proven: where a path is not found, the root must still be the
// directory that was opened, else it is ErrUnavailable. (A repository on a disk
// that was unmounted is not an empty repository.)
//
// Files are made 0640 and directories 0750, less the umask. When the process
// is root and the root directory belongs to somebody else, what is made belongs
// to that user too, so that one command run by root does not lock the database's
// user out.
//
// Symbolic links, hidden names and names that are no keys are not objects: List
// does not show them.
package file
