//go:build linux

// Command peers measures Salvor beside other backup tools for PostgreSQL: on the
// same running cluster, in one run, each in the same number of repeats.
//
//	make bench-peers                      # or: go run ./bench/peers -h
//	make bench-peers SCALE=20 REPEATS=1   # a trial of a minute
//
// # What is compared
//
// Like with like: zstd against zst level 3, S2 against lz4, encrypted against
// encrypted where the peer can. A tool that is not installed is left out, by name.
//
//   - backup: a full backup of the running cluster
//   - restore: that backup into an empty directory
//   - verify: what the tool checks of the backup and its WAL without restoring it
//   - push, fetch: WAL segments one after the other, one command each, as the
//     server's archiver and its recovery run them
//
// Repeats are interleaved: every tool once, then every tool again in the opposite
// order, so that what else the machine does hits all alike. A ratio is the median,
// over the repeats, of a tool's figure divided by that of the pgBackRest
// configuration it is paired with in the same repeat.
//
// # What is measured
//
// A tool runs below a meter: this program again, as the reaper of everything that
// the tool leaves behind (PR_SET_CHILD_SUBREAPER). When the last descendant is gone
// the kernel's own accounts hold the sum over the tree, of processes that went into
// the background, too: processor time, the largest process, bytes read and written.
// See meter.go.
//
// Waits for a checkpoint and for WAL to be archived are no work of the tool. A
// checkpoint is made just before, and the tool is told to ask for a fast one; what
// it waits all the same is seen in the server's pg_stat_activity, and subtracted.
// pgBackRest is told not to wait for WAL at all, Salvor cannot be: for it the
// time that the server took to archive the last segment is subtracted.
//
// What was restored is started once for each tool, recovers with the tool's own
// restore command, and is compared with the original; WAL that was fetched is
// compared byte by byte.
package main
