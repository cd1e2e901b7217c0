// Package chaos kills salvor, hundreds of times, wherever it may be, and looks at
// what is left.
//
// # What a run is
//
// One cluster under a small load, whose every committed change is known, archives
// into two repositories, near and far. Then come rounds. Each draws from its seed
// an operation, or two at once, and an end for it: kill -9, SIGTERM or SIGINT, of
// the whole process group, at a moment drawn evenly from the time that the
// operation usually takes, or right after a step, such as the third pack, the head,
// the restore's pg_control. Steps are objects and files that come and go; inotify
// tells of them (step_test.go).
//
// # What must hold after each
//
//   - A backup that was reported done is listed, and all its objects are there. One
//     that is listed without having been reported is whole: it restores.
//   - WAL that was reported archived is in both repositories, byte for byte.
//   - The server goes on archiving, and no attempt of it fails.
//   - Half a restore does not start. A whole one has every change that it must
//     have, and none that it must not.
//   - The same command, run again at once, succeeds, and nobody had to clean up.
//   - No session, slot, lock, mark or temporary file outlives its purpose.
//
// Now and then, and at the end, every backup is restored and compared with the
// ledger. At the very end, what killed operations have left is made old, and must
// be gone after the next backups: then every pack is one that some backup names.
//
// Invariants are about outcomes, not about which objects make them. There is one
// test, TestChaos, and a failure tells the round, its seed and how it was killed.
//
// # How long
//
// Without more words the rounds end after some forty seconds. SALVOR_CHAOS_ROUNDS
// gives a number of rounds instead, and SALVOR_TEST_SEED the first seed; round n
// has that seed plus n. A round repeats its draws, not the microseconds: run it a
// few times. make chaos ROUNDS=500 SEED=7 does both.
package chaos
