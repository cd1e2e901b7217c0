// Package s3test gives tests a real S3 server, and a network that fails on demand.
//
//   - Server is versitygw, a server of S3 over a directory, on a loopback port of
//     its own. It is a program and not a fake inside the test: fakes accept
//     conditions, checksums and signatures without looking at them, which are just
//     what tests of a backup are about. tools/versitygw builds it. Without it a
//     test fails if CI=true, and else is skipped with the reason.
//   - Proxy stands between a client and a server, and does to chosen connections
//     what networks do: cut them, reset them, slow them down, or swallow
//     everything. It is a hundred lines instead of toxiproxy, because the tests
//     need faults at an exact byte of an exact connection, and toxiproxy's begin
//     and end with a call from outside, somewhere in the traffic.
//
// A server ends with its test. When the test program is killed a shell that waits
// for that ends it, by its process id, and removes its directory.
package s3test
