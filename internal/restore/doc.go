// Package restore rebuilds a data directory from a backup, such that starting
// PostgreSQL on it recovers to a target.
//
// The target was chosen and checked before (catalog.Life.Resolve): here it is
// only written down as recovery settings. The steps:
//
//  1. the directory must be new or empty, or hold a restore that was cut off, and
//     so must those of tablespaces: the backup's, and those that recovery creates
//  2. the directory is held, so that no second restore writes to it, and a note,
//     salvor.restoring, says that what is there is no database yet
//  3. directories and tablespace links, then files: several workers fetch ranges
//     of packs, write each block once, leave zeros as holes, and compare each
//     file's digest. In a piece of a file chunks are fetched in the order of packs,
//     each once, however many runs of the file's map use it
//  4. backup_label, recovery settings, and the incarnation
//  5. everything is made durable, then pg_control gets its name, and last the note
//     goes
//
// A delta restore (Options.Delta) is one over a directory that holds something: an
// older copy of the cluster, one that has diverged, or an unfinished restore. What is
// another's, or runs, is refused; the lists are read, so that with damaged ones nothing
// is changed; then the steps are others:
//
//  2. when the note is durable, pg_control is renamed, durably, before anything else
//  3. the file table and the directory are gone through side by side, in the order of
//     paths (tree): what the backup does not have is removed, and directories and
//     links are made. Then workers hash the blocks of the files that are there, and
//     compare them with the hashes in the packs' footers; chunks with a block that
//     differs are fetched, and those blocks written. A file's digest is a sum over the
//     hashes of its blocks, so it is whole without a second reading.
//
// Never removed are mount points, what is on one that the backup does not have, and
// what a link leads to: a link goes, except for pg_wal. Files with several names are
// made anew.
//
// Until step 5 there is no pg_control, so nothing can take the directory for a
// database; a restore that was killed is done again from the start by the same
// command, even after step 5 if no server has used what is there; a delta restore goes
// on with what is right by then. The restored pg_control leads nowhere without its
// backup_label, since a server that is started without it would be corrupt and not know.
//
// A copy is not the original: unless the restore is a takeover, it archives
// nothing, waits for no standby, follows no primary, and is an incarnation of its
// own, which no repository has a place for.
package restore
