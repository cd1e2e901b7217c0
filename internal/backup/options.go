package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg/conn"
	"github.com/salvor-dr/salvor/internal/repo/chunk"
	"github.com/salvor-dr/salvor/internal/repo/lock"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// DefaultArchiveTimeout is how long a backup waits for WAL to be archived.
const DefaultArchiveTimeout = 5 * time.Minute

// Options say what to back up, and how.
type Options struct {
	Cluster string
	DataDir string     // of the server, on this host
	Conn    *conn.Conn // to the server; the backup's session
	// Connect opens a session on the server that a standby streams from, with the same
	// credentials. It may be nil: then that server is not asked for anything.
	Connect func(ctx context.Context, host string, port int) (*conn.Conn, error)

	Repository string // its name, for messages
	Objects    *seal.Objects
	Locks      *lock.Locks

	From           From
	Kind           Kind
	Detect         catalog.Detector // of an incremental backup, "" chooses the best
	Codec          chunk.Codec
	Workers        int           // readers, at least 1
	RateLimit      int64         // bytes read per second, 0: no limit
	Spread         bool          // let the checkpoint take its time
	WithWAL        bool          // carry the WAL inside
	ArchiveTimeout time.Duration // 0: DefaultArchiveTimeout
	Annotations    map[string]string
	Program        string // this program's version

	Clock  clock.Clock
	Events Events
}

// Kind says which kind of backup to make.
type Kind int

// The kinds.
const (
	Auto        Kind = iota // incremental if there is a backup that can be its parent, else full
	Full                    // everything is read and stored
	Incremental             // fail if it cannot be
)

// Events are called while a backup runs, by several goroutines.
type Events struct {
	Phase    func(name string)        // what begins now
	Progress func(done, total uint64) // bytes of the data directory
	Warn     func(message string)
}

func (o *Options) validate() error {
	switch {
	case o.Workers < 1:
		return fmt.Errorf("a backup needs at least one worker, not %d", o.Workers)
	case o.RateLimit < 0:
		return fmt.Errorf("a rate limit of %d bytes a second makes no sense", o.RateLimit)
	case o.Conn == nil || o.Objects == nil || o.Locks == nil || o.Clock == nil:
		return errors.New("a backup needs a connection, a repository and a clock")
	}
	if o.ArchiveTimeout == 0 {
		o.ArchiveTimeout = DefaultArchiveTimeout
	}
	if o.Events.Phase == nil {
		o.Events.Phase = func(string) {}
	}
	if o.Events.Progress == nil {
		o.Events.Progress = func(_, _ uint64) {}
	}
	if o.Events.Warn == nil {
		o.Events.Warn = func(string) {}
	}
	return nil
}
