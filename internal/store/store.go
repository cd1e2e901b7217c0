package store

import (
	"context"
	"io"
	"iter"
	"time"
)

// Version is an opaque mark of an object's content: while it stays the same, so
// does the content, and a change of the content changes it. (The reverse does
// not hold: the same content written again may have another version.) It is
// compared for equality only, and means nothing to another store. "" is none.
type Version string

// Object is what a store knows of an object beside its bytes.
type Object struct {
	Key     string
	Size    int64     // bytes
	ModTime time.Time // when it was written, by the writer's or the place's clock
	Version Version
	// Prefix marks a common prefix of a delimited list: Key ends with a slash,
	// and everything else is zero.
	Prefix bool
}

// CreateOptions is the condition under which a Commit publishes. The zero value
// has none: an object that is there is replaced. Both at once are refused.
type CreateOptions struct {
	// IfAbsent publishes only where no object is, else Commit is ErrExists.
	IfAbsent bool
	// IfMatch publishes only over an object of this version, else Commit is
	// ErrChanged.
	IfMatch Version
}

// Writer writes one object. It is for one goroutine, and must be ended by
// Commit or Abort: until then it holds a file or an upload open. The context
// given to Create governs it to its end: once that is done, Write and Commit
// fail with its error.
type Writer interface {
	// Write adds bytes. It does not keep p after it returns. After an error the
	// object cannot be committed any more.
	io.Writer

	// Commit publishes the object, whole, and returns only when it is durable.
	// The condition in CreateOptions is judged here, in one step with the
	// publishing.
	//
	// ErrExists and ErrChanged mean that nothing of this object was published.
	// Any other error leaves it open: the object may be there, and is whole if
	// it is. To retry safely, create with IfAbsent and compare on ErrExists.
	// Whatever the result, the Writer is ended and holds nothing.
	Commit() (Object, error)

	// Abort ends the Writer, and leaves nothing of what was written. After
	// Commit or Abort it is a no-op, so it can be deferred.
	Abort() error
}

// ListOptions narrows a List.
type ListOptions struct {
	// After leaves out every entry whose Key is not greater. Give the Key of
	// the last entry seen to go on after it.
	After string
	// Delimited lists one level: the objects whose key has no slash behind the
	// prefix, and one common prefix for each first part of the others. An empty
	// folder of the backend is no common prefix.
	Delimited bool
}

// Store is a place for objects. What every implementation promises:
//
// Atomicity. An object appears whole or not at all. Replacing one is one step:
// a reader gets the old bytes or the new ones. A reader that is open goes on
// reading what it opened, or fails; it never gets a mixture.
//
// Consistency. When Commit or Delete has returned, every Open, Stat and List
// that begins later, by anybody, sees it.
//
// Durability. What Commit wrote and what Delete removed survives a crash and a
// loss of power once the call has returned. An object may be seen by others
// slightly before that; ErrExists is returned only when it is durable.
//
// Ownership. No method keeps a buffer of its caller. What Get returns is the
// caller's.
//
// Concurrency. All methods may be called at once, from any goroutine and any
// process. A Writer and a reader are for one goroutine at a time.
//
// Retry. An implementation over a network repeats single requests within bounds
// (store/s3), one over a file system repeats nothing; what is ErrUnavailable after
// that may be repeated by a wrapper (store/retry). Open, Stat, List, and Delete
// without match may be repeated freely; for Commit see Writer.
//
// Cancellation. A done context makes the call, and the reader, writer or list
// that came from it, fail with an error that wraps the context's. A single
// system call that a dead network file system holds up is not interrupted.
//
// Keys. ValidateKey holds, else ErrInvalidKey. x and x/y never both exist:
// callers see to it, and a backend with folders refuses the second.
type Store interface {
	// Create starts an object. Nothing is visible before Commit.
	Create(ctx context.Context, key string, o CreateOptions) (Writer, error)

	// Open reads length bytes from offset, or to the end when length < 0. The
	// reader must be closed. An offset below 0 or beyond the size is ErrRange.
	// A range that the object's end cuts delivers what is there and then
	// io.ErrUnexpectedEOF, as does a body that breaks off; io.EOF comes only
	// after every byte that was asked for.
	Open(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error)

	// Stat describes an object. ErrNotFound where there is none.
	Stat(ctx context.Context, key string) (Object, error)

	// List yields every object whose key starts with prefix, in the byte order
	// of the keys, each key once. The prefix need not end at a slash. An object
	// that exists during the whole list is in it; one that comes or goes
	// meanwhile may be. An error is yielded once, as the last entry: a list
	// that ended without one is complete. It is lazy, and memory is bounded by
	// one page or one folder.
	List(ctx context.Context, prefix string, o ListOptions) iter.Seq2[Object, error]

	// Delete removes an object. With match "" it removes whatever is there, and
	// succeeds where there is nothing. Otherwise it removes that version only:
	// ErrChanged where there is another or none.
	Delete(ctx context.Context, key string, match Version) error

	// String is the store's URL without secrets, for messages.
	String() string

	// Close frees what the store holds. It must not be used afterwards. Readers
	// and writers that are open must be ended first.
	Close() error
}

// TempCleaner is an optional ability of a Store: removing what killed writers
// left behind and no reader sees.
type TempCleaner interface {
	// RemoveTemporary removes leftovers that were last written at or before now
	// minus olderThan, and says how many and how large they were. A writer that
	// is alive but silent for that long loses its object and fails at Commit:
	// choose hours, not minutes.
	RemoveTemporary(ctx context.Context, olderThan time.Duration, now time.Time) (n int, bytes int64, err error)
}
