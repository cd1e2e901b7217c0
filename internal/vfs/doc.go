// Package vfs is the file system as code sees it that must survive a crash: few
// operations, each with a known effect on what is durable. vfs.OS is the real
// one; vfstest has one in memory that can lose its power and fail on demand.
//
// What is durable when, and what code may rely on:
//
//   - the bytes and the times of a file: when File.Sync has returned
//   - that a name exists, is gone, or means another file: when Sync of the open
//     directory that holds the name has returned (SyncDir)
//   - a new directory is a name in its parent, so its parent needs a Sync too,
//     and so on upwards to a directory that is known to be durable
//
// Anything else may be lost or kept by a loss of power, each change for itself.
// An error of Sync is final for that file: the kernel may have dropped the
// dirty pages, and a second Sync that succeeds proves nothing. Write the file
// anew. (See "PostgreSQL's fsync() surprise", LWN, April 2018.)
//
// Errors are those of package os: *fs.PathError and *os.LinkError that wrap a
// syscall.Errno, to be asked by errors.Is (fs.ErrNotExist, syscall.ENOSPC, ...).
package vfs
