// Package server starts, watches and stops one PostgreSQL postmaster.
//
// # What it promises
//
//   - A postmaster that Start began is nobody's child: it has a session of its
//     own and goes on after this program ends. "pg_ctl stop -D DIR" ends it, as
//     it ends any other. Only one that is guarded (StartOptions.Guarded) ends
//     with this program, however that ends.
//   - Nothing passes through a shell. Settings go to postgres as arguments
//     (-c name=value), one argument each, so no value needs quoting.
//   - As root, programs run as the owner of the data directory, with that
//     user's groups: PostgreSQL refuses root, and a key file may be readable by
//     a group alone.
//   - A server counts as running only if the process named in postmaster.pid
//     is alive, is no zombie, is PostgreSQL, and works in this very data
//     directory. A pid file left by a crash, and a pid that some other process
//     got since, are no server.
//
// # How a server is recognised
//
// The postmaster writes postmaster.pid, a file of eight lines (pidfile.h):
// pid, data directory, start time, port, socket directory, listen address,
// shared memory key, status. The status is "starting", "ready" (connections are
// welcome, on a hot standby too), "standby" (in recovery, no connections) or
// "stopping". Whether recovery is over stands in pg_control alone. A postmaster changes its working
// directory to the data directory, so /proc/PID/cwd tells whose it is, whatever
// name the directory has now. Where /proc/PID/cwd may not be read, because the
// server belongs to another user, the start time of the process is compared
// with the start time in the file.
//
// The server must be in the same pid namespace as this program.
//
// Signals are sent through a pidfd where the kernel has them, so a pid that is
// reused between looking and signalling can't be hit.
package server
