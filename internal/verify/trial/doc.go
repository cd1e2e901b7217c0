// Package trial proves a backup by restoring it: into a scratch directory, with a
// server started on it that recovers to the newest WAL, and whose tables, indexes,
// catalogues and contents are then looked at.
//
// The steps:
//
//  1. scratch directories that dead runs left are removed (Sweep), and room is looked
//     for: with too little, nothing is begun (*NoRoom)
//  2. the restore, by the Restorer that the caller hands over
//  3. the replay: a server recovers with the very restore_command of a real restore,
//     and is promoted. It listens on no network, loads no library, starts no worker,
//     archives nothing, and takes no connection before it is promoted (hot_standby is
//     off): so nothing of what the cluster holds is executed, and what is measured is
//     what a real recovery takes
//  4. it is shut down, and where the cluster has checksums every page is compared with
//     its own (pg_checksums)
//  5. it is started once more, now with a network namespace of its own where the
//     system allows one: functions of indexes and checks may run from here on, and
//     reach nothing. amcheck looks at every heap and every B-tree, with
//     heapallindexed; pg_dump reads every database, to nothing; the operator's own
//     checks run, each in its time
//  6. the server is ended, and the scratch directory removed
//
// # What it says
//
// A Problem is something wrong with what was restored. A Check that is not OK and has
// no problem could not be made, for a reason that lies with this host, and is Skipped:
// nothing is called sound that was not looked at. An error of Run says that nothing was
// found out.
//
// # What it leaves
//
// Nothing. The directory is held by a lock that dies with this process (flock(2)), and
// the server is tied to it (server.StartOptions.Guarded), so what a killed run leaves is
// a directory that nobody holds, which the next run removes.
package trial
