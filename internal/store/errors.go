package store

import "errors"

// The kinds of error a caller may decide on, by errors.Is. What a Store returns
// wraps one of them where it fits, beside the cause and the words of what
// failed on what. An error of none of these kinds (a broken disk, say) is final.
var (
	// ErrNotFound: the place was asked, and no object has that key.
	ErrNotFound = errors.New("object does not exist")
	// ErrExists: IfAbsent, and there is an object already. That object is
	// durable: a writer that loses may rely on what the winner wrote.
	ErrExists = errors.New("object exists already")
	// ErrChanged: IfMatch or a match, and the object there is another version,
	// or there is none.
	ErrChanged = errors.New("object has changed")
	// ErrNoSpace: the place is full, or a quota is used up.
	ErrNoSpace = errors.New("no space left")
	// ErrInvalidKey: ValidateKey or ValidatePrefix refuses it, or a backend
	// with folders has an object where the key needs a folder, or the reverse.
	ErrInvalidKey = errors.New("invalid object key")
	// ErrUnavailable: a time-out, a cut connection, a throttled request, a place
	// that is not mounted. The same call may succeed later.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrPermission: the place refuses these credentials, or is read-only.
	ErrPermission = errors.New("permission denied by the store")
	// ErrRange: an offset that is negative or lies beyond the object's end.
	ErrRange = errors.New("range is outside of the object")
	// ErrEnded: Write or Commit on a Writer that Commit or Abort has ended.
	ErrEnded = errors.New("writer has ended already")
	// ErrTooLarge: Get met an object that is larger than its caller allows.
	ErrTooLarge = errors.New("object is larger than allowed")
	// ErrUnsafe: the place breaks a promise that the contract needs of it, so
	// that a repository there would lose data. See Prober.
	ErrUnsafe = errors.New("the place is not safe for a repository")
)
