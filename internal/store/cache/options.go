package cache

import (
	"time"

	"github.com/salvor-dr/salvor/internal/clock"
)

// Options of a Store.
type Options struct {
	// Dir is the directory of all caches, and Name that of this store in it: a name
	// that no other store has. Both are made when there is something to keep.
	Dir, Name string
	// Group gives the group of an object: a prefix of its key, under which objects
	// are kept together, and listed. "" is an object that is not kept. The same key
	// must always get the same group.
	Group func(key string) string
	// GroupMax is the most bytes that are kept of one group, 64 MiB if 0. What comes
	// after is read from the store.
	GroupMax int64
	// Failed is told what the cache could not read or write: the store does the work
	// then, only slower. It may be nil.
	Failed func(error)
	// Clock tells the age of files; nil is clock.System.
	Clock clock.Clock
}

const (
	// objectMax is the largest object that is kept, in bytes. Heads have two or
	// three thousand.
	objectMax = 1 << 20
	// groupMax bounds a group, which is held in memory as a whole: about 30,000 heads.
	groupMax = 64 << 20
	// unusedMax is how long a file stays that nobody writes: a cluster that is backed
	// up once a month keeps its own.
	unusedMax = 90 * 24 * time.Hour
	// leftoverMax is how long the file stays of a process that was killed while it
	// wrote: longer than writing takes.
	leftoverMax = 24 * time.Hour
)

func (o Options) withDefaults() Options {
	if o.GroupMax <= 0 {
		o.GroupMax = groupMax
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	return o
}
