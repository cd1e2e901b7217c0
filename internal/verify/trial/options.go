package trial

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg"
)

// Restored is what a Restorer did, in bytes.
type Restored struct {
	Size    uint64 // what it restored
	Fetched uint64 // from the store, as stored
	Written uint64
}

// Place is where a backup is restored to.
type Place struct {
	DataDir     string // exists, is empty, and has the owner that its server runs as
	Tablespaces map[pg.OID]string
}

// Restorer restores the backup, such that a server on it recovers to the goal's target
// and is then promoted. It calls progress with bytes of the data directory.
type Restorer func(ctx context.Context, to Place, progress func(done, total uint64)) (Restored, error)

// SQLCheck is a question of the operator's: the statement gives one row with one
// boolean, which is true if all is well.
type SQLCheck struct {
	Name     string // for people; else the statement itself
	SQL      string
	Database string // else Options.Database
}

// Dump is how much pg_dump reads.
type Dump string

// The extents of a dump.
const (
	DumpAll    Dump = "all"    // every table's rows too
	DumpSchema Dump = "schema" // the catalogues
)

// Options say what to try, and where.
type Options struct {
	Goal    Goal
	Restore Restorer

	ScratchDir string // an absolute path; what is made is below it, and removed
	Owner      Owner  // whom the scratch belongs to, if this program is root
	BinDir     string // PostgreSQL's programs
	Database   string // to ask first, and for checks that name none
	User       string // a role of the cluster, with any rights

	Dump         Dump
	Workers      int // relations looked at at the same time
	Checks       []SQLCheck
	CheckTimeout time.Duration // of each

	Clock  clock.Clock
	Events Events
}

// Events are called while a trial runs.
type Events struct {
	Phase    func(name string)
	Progress func(done, total uint64) // bytes of the data directory, while it is restored
	Warn     func(message string)
}

func (o *Options) validate() error {
	switch {
	case !filepath.IsAbs(o.ScratchDir):
		return fmt.Errorf("the scratch directory %q is not an absolute path", o.ScratchDir)
	case o.Restore == nil:
		return errors.New("a trial needs a way to restore")
	case o.Dump != DumpAll && o.Dump != DumpSchema:
		return fmt.Errorf("%q is not how much a dump reads: all or schema", o.Dump)
	case o.CheckTimeout <= 0:
		return fmt.Errorf("a check needs time, not %s", o.CheckTimeout)
	case o.Goal.Choice.Backup.ID == "":
		return errors.New("there is no backup to try")
	}
	o.Workers = max(1, o.Workers)
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

func (o *Options) head() catalog.Head { return o.Goal.Choice.Backup }
