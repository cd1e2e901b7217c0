package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/salvor-dr/salvor/internal/backup"
	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/config"
	"github.com/salvor-dr/salvor/internal/expire"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/pg/server"
	"github.com/salvor-dr/salvor/internal/repo"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	"github.com/salvor-dr/salvor/internal/restore"
	"github.com/salvor-dr/salvor/internal/store"
	storeopen "github.com/salvor-dr/salvor/internal/store/open"
	"github.com/salvor-dr/salvor/internal/verify/trial"
	"github.com/salvor-dr/salvor/internal/wal/archive"
	"github.com/salvor-dr/salvor/internal/wal/fetch"
)

// Exit codes, which scripts and PostgreSQL depend on.
const (
	exitFailed     = 1
	exitUsage      = 2 // bad usage or configuration, or refused for want of confirmation
	exitProblem    = 3 // done, but a check found a problem
	exitNotNow     = 4 // locked, not the leader, a precondition is not met
	exitNotFound   = 5 // no such backup, the target is not covered
	exitAbsent     = 6 // WAL file proven absent
	exitRepository = 7 // repository cannot be opened
)

// failure is an error made ready for whoever ran the command.
type failure struct {
	exit    int
	code    string // stable, for programs
	message string // what failed, on what, why
	hint    string // the command or setting that helps; may be empty
}

// failed is an error that knows how the command ends.
type failed struct {
	exit int
	code string
	hint string
	err  error
}

func (e *failed) Error() string { return e.err.Error() }
func (e *failed) Unwrap() error { return e.err }

// usageError is a command line that cannot be obeyed: exit 2.
func usageError(hint, format string, args ...any) error {
	return &failed{exitUsage, "usage", hint, fmt.Errorf(format, args...)}
}

// foundProblem ends a command that did its work and printed its result, in
// which something is wrong: exit 3.
func foundProblem(hint, format string, args ...any) error {
	return &failed{exitProblem, "problem_found", hint, fmt.Errorf(format, args...)}
}

// withHint adds to an error what helps against it. Exit and code stay.
func withHint(err error, hint string) error {
	f := classify(err)
	return &failed{f.exit, f.code, hint, err}
}

// sentinel is how a command ends on an error that an engine tells apart.
type sentinel struct {
	is   error
	exit int
	code string
	hint string
}

// sentinels are tried in order.
func sentinels() []sentinel {
	return []sentinel{
		{catalog.ErrNoBackup, exitNotFound, "no_backup", "`salvor backups list` shows those that there are"},
		{catalog.ErrNoProof, exitNotFound, "no_proof", "`salvor proof list` shows those that there are"},
		{catalog.ErrNoPlace, exitNotNow, "not_initialised", "`salvor init` makes a place for the cluster in its repositories"},
		{catalog.ErrNoMarker, exitNotNow, "not_initialised", "`salvor init` makes a place for the cluster in its repositories"},
		{fetch.ErrAbsent, exitAbsent, "absent", ""},
		{archive.ErrForeign, exitFailed, "foreign_file", "does archive_command use the configuration of this cluster?"},
		{archive.ErrCodec, exitFailed, "codec_fault", "nothing was archived, and PostgreSQL tries again; if it comes again, check this machine's memory, or set wal.compression: none"},
		{lock.ErrLost, exitFailed, "lock_lost", "another process took the work over: was this one stopped for long?"},
		{storeopen.ErrURL, exitUsage, "url_invalid", "a repository's url is as file:///var/lib/salvor/repo or s3://bucket/prefix?region=eu-west-1"},
		{store.ErrUnsafe, exitRepository, "store_unsafe", "use another object store: locks and backups rely on what this one ignores"},
		{store.ErrNoSpace, exitFailed, "no_space", "make room where the repository is; `salvor backups delete` removes a backup"},
		{syscall.ENOSPC, exitFailed, "no_space", "make room on the file system that the message names, and run it again"},
		{syscall.EDQUOT, exitFailed, "no_space", "make room in the quota of the file system that the message names, and run it again"},
		{store.ErrPermission, exitFailed, "store_permission", "run it as root or as PostgreSQL's user; if it was: is the storage read-only, or may the access key not do this?"},
		{catalog.ErrHeld, exitNotNow, "held", "`salvor backups show` says by whom; `salvor backups release` ends that"},
		{catalog.ErrNotHeld, exitNotFound, "not_held", "`salvor backups list` shows which are"},
		{repo.ErrWrongKey, exitRepository, "wrong_key", "check `key` of the repository in the configuration"},
		{repo.ErrUnknownFormat, exitRepository, "unknown_format", "a newer salvor may have written it: update this one"},
		{repo.ErrNoRepository, exitRepository, "no_repository", "is its storage mounted? Only for a new repository: `salvor init` creates what is missing"},
		{repo.ErrDamaged, exitRepository, "damaged", "another repository or backup may be whole: choose it with --repo or --backup; `salvor backups list` shows what can be read"},
		{store.ErrUnavailable, exitFailed, "store_unavailable", "is the storage of the repository mounted, and can it be reached?"},
		{server.ErrNotFound, exitNotNow, "no_postgres", "set postgres.bin_dir to the directory of the server's programs"},
		{server.ErrRunning, exitNotNow, "server_running", "stop it first, or choose another directory"},
		{server.ErrStandalone, exitNotNow, "server_running", "end the single-user server first, or choose another directory"},
		{server.ErrOwner, exitNotNow, "wrong_owner", "run it as root, or as the directory's owner, who must not be root"},
		{fs.ErrPermission, exitFailed, "permission", "run it as root or as PostgreSQL's user"},
		{context.DeadlineExceeded, exitFailed, "timeout", ""},
		{context.Canceled, exitFailed, "cancelled", ""},
	}
}

// engineFailure fills f in for the typed errors of engines.
func engineFailure(err error, f *failure) bool {
	var (
		noBackup  *backup.Refusal
		noRestore *restore.Refusal
		noParent  *backup.DamagedParent
		noWAL     *backup.ArchiveTimeout
		uncovered *catalog.NotCovered
		held      *lock.Held
		cancelled *lock.Cancelled
		conflict  *archive.Conflict
		unknown   *archive.Unregistered
		last      *expire.LastBackup
		inUse     *expire.InUse
		beingRead *expire.BeingRead
		onHold    *expire.Held
		going     *catalog.BeingRemoved
		exit      *server.ExitError
		damage    *repo.Damage
		noRoom    *trial.NoRoom
		unfit     *trial.Unfit
	)
	set := func(exit int, code, hint string) bool {
		f.exit, f.code, f.hint = exit, code, hint
		return true
	}
	switch {
	case errors.As(err, &noBackup):
		return set(exitNotNow, "refused", noBackup.Hint)
	case errors.As(err, &noRestore):
		return set(exitNotNow, "refused", noRestore.Hint)
	case errors.As(err, &noParent):
		return set(exitNotNow, "damaged_parent", "make a full one: salvor backup --kind full")
	case errors.As(err, &noWAL):
		return set(exitFailed, "archive_timeout", noWAL.Hint)
	case errors.As(err, &uncovered):
		return set(exitNotFound, "not_covered", uncovered.Possible)
	case errors.As(err, &held):
		return set(exitNotNow, "locked", heldHint(held))
	case errors.As(err, &cancelled):
		return set(exitFailed, "cancelled", "nothing of it is visible; the next `salvor backup` uses what it has stored")
	case errors.As(err, &conflict):
		return set(exitFailed, "conflict", "do two clusters archive into one place? `salvor doctor` looks for the cause")
	case errors.As(err, &unknown):
		return set(exitNotNow, "foreign_incarnation", "`salvor init` makes a place for it; a restored copy becomes a cluster of its own by that")
	case errors.As(err, &last):
		return set(exitNotNow, "last_backup", "make another backup first, or give --last")
	case errors.As(err, &damage) && strings.HasPrefix(damage.Object, "locks/"):
		return set(exitRepository, "damaged", "it is only a lock: if no backup or removal of this cluster runs on any host, remove that object from the repository")
	case errors.As(err, &onHold):
		return set(exitNotNow, "held", "`salvor backups release "+onHold.BackupID+"` ends that")
	case errors.As(err, &beingRead):
		return set(exitNotNow, "in_use", "wait until it has ended, and its server has replayed what it needs: until "+formatTime(beingRead.Until)+" it counts as in use")
	case errors.As(err, &going):
		return set(exitNotNow, "being_removed", "choose another backup, or run this again when the removal has ended")
	case errors.As(err, &inUse):
		return set(exitNotNow, "in_use", "wait until it has ended: salvor job show "+inUse.By)
	case errors.As(err, &noRoom):
		return set(exitNotNow, "no_room", "make room there, or name another directory: verify.scratch_dir")
	case errors.As(err, &unfit):
		return set(exitNotNow, "scratch_unfit", "name another directory: verify.scratch_dir")
	case errors.As(err, &exit):
		return set(exitFailed, "server_ended", "")
	case conn.Unavailable(err):
		return set(exitFailed, "postgres_unavailable", "is the server running, and do postgres.host and postgres.port lead to it?")
	case conn.PermissionDenied(err):
		return set(exitNotNow, "postgres_privilege", "`salvor doctor` prints the SQL that grants what the role lacks")
	case conn.AuthFailed(err):
		return set(exitFailed, "postgres_auth", "check postgres.user and postgres.password, and the server's pg_hba.conf")
	}
	return false
}

// classify says how a command ends on err. It is the only place that does.
func classify(err error) failure {
	f := failure{exit: exitFailed, code: "failed", message: err.Error()}
	var (
		known    *failed
		invalid  *config.Error
		noConfig *config.NotFoundError
		bug      *panicError
	)
	switch {
	case errors.As(err, &known):
		f.exit, f.code, f.hint = known.exit, known.code, known.hint
		return f
	case errors.As(err, &invalid):
		f.exit, f.code, f.hint = exitUsage, "config_invalid", "every key is in docs/reference/configuration.md; `salvor config validate` checks again"
		return f
	case errors.As(err, &noConfig):
		f.exit, f.code, f.hint = exitUsage, "config_not_found", noConfig.Hint()
		return f
	case engineFailure(err, &f):
		return f
	case errors.As(err, &bug):
		f.code, f.hint = "internal", "this is a bug in salvor; run it again with --log-level debug and report what it prints"
		return f
	}
	for _, s := range sentinels() {
		if errors.Is(err, s.is) {
			f.exit, f.code, f.hint = s.exit, s.code, s.hint
			return f
		}
	}
	return f
}
