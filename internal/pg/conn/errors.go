package conn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrLost: the session is gone, and what depended on it (a backup) with it.
	ErrLost = errors.New("the connection to PostgreSQL is lost")
	// ErrNoRow: a query that should give a row gave none.
	ErrNoRow = errors.New("the query gave no row")
	// ErrRoleChanged: the server was promoted, or is no longer a primary, since
	// the backup began. The backup is worthless.
	ErrRoleChanged = errors.New("the server changed between standby and primary")
	// ErrTimelineChanged: the server moved to another timeline since the backup
	// began, or had not yet made a checkpoint on its timeline when it began.
	ErrTimelineChanged = errors.New("the server's timeline changed")
	// ErrOtherCluster: the answers come from another cluster than before.
	ErrOtherCluster = errors.New("the server has another system identifier")
	// ErrInconsistent: what the server says of a backup's start does not fit together.
	ErrInconsistent = errors.New("the server's answers contradict each other")
	// ErrBackupOver: the backup was stopped or aborted before.
	ErrBackupOver = errors.New("the backup is over")
	// ErrInRecovery: the question can only be asked of a primary.
	ErrInRecovery = errors.New("the server is in recovery")
	// ErrNotStreaming: a standby has no connection to the server it follows.
	ErrNotStreaming = errors.New("the standby does not stream now")
)

// ConnectError says that no session could be had, on which server and why.
type ConnectError struct {
	Config Config // without its password
	Err    error

	ended bool // the caller's context ended the attempt
}

// Error names host, port, user and database.
func (e *ConnectError) Error() string {
	return fmt.Sprintf("connecting to PostgreSQL at %s: %v", e.Config, e.Err)
}

// Unwrap gives the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// redacted is an error with a password taken out of its text.
type redacted struct {
	text string
	err  error
}

func (e *redacted) Error() string { return e.text }
func (e *redacted) Unwrap() error { return e.err }

func newConnectError(ctx context.Context, cfg Config, password string, err error) error {
	ended := ctx.Err() != nil
	var ce *pgconn.ConnectError
	if errors.As(err, &ce) {
		err = ce.Unwrap() // its own words repeat the user and the database
	}
	if ended {
		err = contextError(ctx, err)
	}
	if password != "" && strings.Contains(err.Error(), password) {
		err = &redacted{text: strings.ReplaceAll(err.Error(), password, "xxxxx"), err: err}
	}
	return &ConnectError{Config: cfg, Err: err, ended: ended}
}

// contextError puts the end of the context in front of what it led to.
func contextError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); !errors.Is(cause, ctx.Err()) {
		return fmt.Errorf("%w: %w (%v)", ctx.Err(), cause, err)
	}
	return fmt.Errorf("%w (%v)", ctx.Err(), err)
}

// MissingPrivilege says what the role lacks for a question, and what to grant.
type MissingPrivilege struct {
	Role string // the role of the session
	What string // what can't be read or done
	Need string // the role or privilege that would do
}

// Error says so in a sentence.
func (e *MissingPrivilege) Error() string {
	return fmt.Sprintf("role %q may not %s: it needs %s", e.Role, e.What, e.Need)
}

// SQLState gives the five characters of the server's error code, or "".
// Appendix A of PostgreSQL's documentation lists them.
func SQLState(err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code
	}
	return ""
}

// Unavailable says that the server can't be reached, is starting or shutting
// down, has no connection left, or went away: that the same call may work later.
// The end of the caller's own context is not that.
func Unavailable(err error) bool {
	if err == nil {
		return false
	}
	switch code := SQLState(err); {
	case code == "":
	case strings.HasPrefix(code, "08"), // connection exceptions
		code == "53300",                                   // too_many_connections
		code == "57P01", code == "57P02", code == "57P03", // shutdown, crash, cannot_connect_now
		code == "57P05": // idle_session_timeout
		return true
	default:
		return false
	}
	var ce *ConnectError
	if errors.As(err, &ce) {
		return !ce.ended && unreachable(ce.Err)
	}
	return errors.Is(err, ErrLost)
}

// unreachable tells errors of the network, the limit of time for a connection
// among them, from those of the configuration.
func unreachable(err error) bool {
	var ne net.Error // also context.DeadlineExceeded
	var errno syscall.Errno
	return errors.As(err, &ne) || errors.As(err, &errno) || errors.Is(err, ErrLost) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// AuthFailed says that the server refuses this user, password or address
// (SQLSTATE class 28).
func AuthFailed(err error) bool { return strings.HasPrefix(SQLState(err), "28") }

// PermissionDenied says that the role lacks a privilege; ShowSQLGrants tells
// which ones there are.
func PermissionDenied(err error) bool {
	var mp *MissingPrivilege
	return SQLState(err) == "42501" || errors.As(err, &mp)
}
