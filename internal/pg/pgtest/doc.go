// Package pgtest gives tests real PostgreSQL clusters that are thrown away.
//
//	c := pgtest.New(t, pgtest.Options{Settings: map[string]string{"archive_mode": "on"}})
//	c.Exec("CREATE TABLE dish (id int)")
//	backup, err := c.Conn(t).StartBackup(ctx, "test", true)
//
// # What a test gets
//
//   - A running cluster on a port of its own, with data checksums, UTF8, trust
//     authentication for the superuser postgres, and fsync off. It listens on
//     127.0.0.1 and on a socket in SocketDir.
//   - As root, PostgreSQL and everything started by Command run as the user
//     postgres, or nobody if there is no such user. All directories can be
//     reached by that user: t.TempDir can't.
//   - initdb runs once for each set of options and is copied from then on. Each
//     copy gets a system identifier of its own.
//   - Everything ends and is removed with the test, also if the test program is
//     killed or panics: a watchdog process waits for that.
//
// # Where PostgreSQL comes from
//
// For major version 15: the directory in SALVOR_PG_15; what scripts/postgres has
// fetched; the places where packages put it. Without it, a
// test fails if CI=true, and else is skipped with the reason.
package pgtest
