package datadir

import "fmt"

// State is what a cluster was doing when pg_control was written last (DBState,
// pg_control.h).
type State uint32

// The states, with PostgreSQL's numbers.
const (
	StateStartup            State = iota // DB_STARTUP
	StateShutdown                        // DB_SHUTDOWNED: stopped cleanly as a primary
	StateShutdownInRecovery              // DB_SHUTDOWNED_IN_RECOVERY: stopped cleanly as a standby
	StateShuttingDown                    // DB_SHUTDOWNING
	StateCrashRecovery                   // DB_IN_CRASH_RECOVERY
	StateArchiveRecovery                 // DB_IN_ARCHIVE_RECOVERY: standby or restore
	StateProduction                      // DB_IN_PRODUCTION: primary, or crashed as one
)

// String gives the words of pg_controldata (dbState, pg_controldata.c).
func (s State) String() string {
	switch s {
	case StateStartup:
		return "starting up"
	case StateShutdown:
		return "shut down"
	case StateShutdownInRecovery:
		return "shut down in recovery"
	case StateShuttingDown:
		return "shutting down"
	case StateCrashRecovery:
		return "in crash recovery"
	case StateArchiveRecovery:
		return "in archive recovery"
	case StateProduction:
		return "in production"
	}
	return fmt.Sprintf("unrecognized status code %d", uint32(s))
}

// WALLevel is the wal_level setting a server ran with (WalLevel, xlog.h).
type WALLevel int32

// The levels, with PostgreSQL's numbers.
const (
	WALMinimal WALLevel = iota
	WALReplica
	WALLogical
)

// String gives the word used in postgresql.conf.
func (l WALLevel) String() string {
	switch l {
	case WALMinimal:
		return "minimal"
	case WALReplica:
		return "replica"
	case WALLogical:
		return "logical"
	}
	return fmt.Sprintf("unrecognized wal_level %d", int32(l))
}
