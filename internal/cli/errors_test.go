package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/salvor-dr/salvor/internal/backup"
	"github.com/salvor-dr/salvor/internal/catalog"
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

// TestErrorsOfEngines holds every error that an engine tells apart to the exit codes
// that are promised, however deep it is wrapped.
func TestErrorsOfEngines(t *testing.T) {
	t.Parallel()
	noServer := &conn.ConnectError{Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}}
	sql := func(state string) error { return &pgconn.PgError{Code: state, Message: "no"} }
	for _, tc := range []struct {
		err  error
		exit int
		code string
		hint bool // there is one
	}{
		{&backup.Refusal{Reason: "the server is a standby", Hint: "run the backup on the primary"}, 4, "refused", true},
		{&backup.DamagedParent{ID: "x", Err: repo.Damaged("x", "y")}, 4, "damaged_parent", true},
		{&backup.ArchiveTimeout{Segment: segment, Hint: "x"}, 1, "archive_timeout", true},
		{&restore.Refusal{Reason: "the directory is not empty", Hint: "x"}, 4, "refused", true},
		{catalog.ErrNoBackup, 5, "no_backup", true},
		{&catalog.NotCovered{Reason: "there is no backup", Possible: "make one: salvor backup"}, 5, "not_covered", true},
		{catalog.ErrNoPlace, 4, "not_initialised", true},
		{catalog.ErrNoMarker, 4, "not_initialised", true},
		{&expire.LastBackup{ID: "b1"}, 4, "last_backup", true},
		{&trial.NoRoom{Dir: "/var/tmp", Need: 2 << 30, Have: 1 << 30}, 4, "no_room", true},
		{&trial.Unfit{Dir: "/var/tmp", Reason: "x"}, 4, "scratch_unfit", true},
		{fetch.ErrAbsent, 6, "absent", false},
		{archive.ErrForeign, 1, "foreign_file", true},
		{archive.ErrCodec, 1, "codec_fault", true},
		{&archive.Conflict{File: segment, Repository: "local"}, 1, "conflict", true},
		{&archive.Unregistered{Repository: "local"}, 4, "foreign_incarnation", true},
		{&lock.Held{What: "backup"}, 4, "locked", true},
		{lock.ErrLost, 1, "lock_lost", true},
		{repo.ErrWrongKey, 7, "wrong_key", true},
		{repo.ErrUnknownFormat, 7, "unknown_format", true},
		{repo.ErrNoRepository, 7, "no_repository", true},
		{repo.Damaged("packs/1", "its checksum is wrong"), 7, "damaged", true},
		{repo.Damaged("locks/backup-orders", "it is not the JSON that was written"), 7, "damaged", true},
		{&catalog.Unreadable{ID: "b1", Err: repo.Damaged("b1/head", "it is cut short")}, 7, "damaged", true},
		{store.ErrNoSpace, 1, "no_space", true},
		{&fs.PathError{Op: "write", Path: "/data/base/1/1259", Err: syscall.ENOSPC}, 1, "no_space", true},
		{store.ErrUnavailable, 1, "store_unavailable", true},
		{fmt.Errorf("%w: %w", store.ErrPermission, syscall.EACCES), 1, "store_permission", true},
		{store.ErrNotFound, 1, "failed", false},
		{storeopen.ErrURL, 2, "url_invalid", true},
		{store.ErrUnsafe, 7, "store_unsafe", true},
		{noServer, 1, "postgres_unavailable", true},
		{conn.ErrLost, 1, "postgres_unavailable", true},
		{sql("57P03"), 1, "postgres_unavailable", true},
		{sql("28P01"), 1, "postgres_auth", true},
		{sql("42501"), 4, "postgres_privilege", true},
		{&conn.MissingPrivilege{Role: "r", What: "see", Need: "x"}, 4, "postgres_privilege", true},
		{sql("42P01"), 1, "failed", false},
		{conn.ErrRoleChanged, 1, "failed", false},
		{conn.ErrTimelineChanged, 1, "failed", false},
		{server.ErrNotFound, 4, "no_postgres", true},
		{server.ErrRunning, 4, "server_running", true},
		{server.ErrStandalone, 4, "server_running", true},
		{server.ErrOwner, 4, "wrong_owner", true},
		{&server.ExitError{DataDir: "/d", Status: "exit status 1"}, 1, "server_ended", false},
		{&os.PathError{Op: "open", Path: "/d/global/pg_control", Err: syscall.EACCES}, 1, "permission", true},
	} {
		for _, err := range []error{tc.err, fmt.Errorf("doing it: %w", tc.err), errors.Join(errors.New("and this"), fmt.Errorf("doing it: %w", tc.err))} {
			f := classify(err)
			if f.exit != tc.exit || f.code != tc.code || f.message != err.Error() || (f.hint != "") != tc.hint {
				t.Errorf("%T %v: %+v, want exit %d, code %s, a hint: %v", tc.err, err, f, tc.exit, tc.code, tc.hint)
			}
		}
	}
	// What an engine advises goes to the user.
	if f := classify(fmt.Errorf("x: %w", &backup.Refusal{Reason: "r", Hint: "set wal_level"})); f.hint != "set wal_level" {
		t.Errorf("the hint of a refusal is %q", f.hint)
	}
}
