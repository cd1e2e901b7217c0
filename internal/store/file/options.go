package file

import (
	"time"

	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/vfs"
)

// Options of a Store. The zero value is good.
type Options struct {
	// FS is where the directory is; nil is vfs.OS().
	FS vfs.FS
	// Create makes the directory, and those above it, where it is missing.
	Create bool
	// Now is the clock that dates objects; nil is time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Now == nil {
		o.Now = clock.System().Now
	}
	return o
}

const (
	tmpName  = ".tmp"
	lockName = ".locks"

	filePerm = 0o640
	dirPerm  = 0o750

	// bufferSize is how much of small writes is gathered, in bytes; larger ones
	// go to the file as they are: to copy them costs more than the calls that it
	// saves. A buffer begins with bufferStart and grows, for many objects are small.
	bufferSize  = 64 << 10
	bufferStart = 4 << 10

	// writebackSize is how many bytes are written before the kernel is asked to
	// begin storing them. Less costs calls; more leaves the sync at the end more
	// to do, and takes more of the memory that the database beside us caches in.
	writebackSize = 8 << 20

	// publishAttempts bounds how often Commit makes its folder again because
	// somebody tidied it away in between. Each needs another Delete at just that
	// moment.
	publishAttempts = 100

	// lockPollMin and lockPollMax bound the pause between two looks at a lock
	// that another process holds: flock(2) cannot be waited for and cancelled.
	// It is held for about the time of one sync.
	lockPollMin = time.Millisecond
	lockPollMax = 50 * time.Millisecond
)
