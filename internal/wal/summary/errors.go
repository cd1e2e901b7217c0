package summary

import (
	"errors"
	"fmt"

	"github.com/salvor-dr/salvor/internal/pg"
)

var (
	// ErrGap: WAL that no summary covers lies in the range; see GapError.
	ErrGap = errors.New("WAL without a summary")
	// ErrUnusable: WAL in the range changes more than block references tell; see
	// UnusableError.
	ErrUnusable = errors.New("WAL does not tell all that changed")
	// ErrForeign: a summary of a timeline outside the history.
	ErrForeign = errors.New("summary of another history")
	// ErrFormat: bytes that are no encoded Summary of a known version.
	ErrFormat = errors.New("bad WAL summary")
)

// GapError says which WAL no summary covers. It wraps ErrGap.
type GapError struct{ From, To pg.LSN }

// Error implements error.
func (e *GapError) Error() string {
	return fmt.Sprintf("%v from %s to %s", ErrGap, e.From, e.To)
}

// Unwrap gives ErrGap.
func (e *GapError) Unwrap() error { return ErrGap }

// UnusableError says why a range's WAL does not tell all that changed in it. It
// wraps ErrUnusable.
type UnusableError struct{ Reasons []Reason }

// Error implements error.
func (e *UnusableError) Error() string {
	text := ErrUnusable.Error()
	for i, r := range e.Reasons {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		text += sep + r.String()
	}
	return text
}

// Unwrap gives ErrUnusable.
func (e *UnusableError) Unwrap() error { return ErrUnusable }
