package restore

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/pg"
	"github.com/salvor-dr/salvor/internal/pg/datadir"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// Action is what the server does when it has reached the target.
type Action string

// The actions, in PostgreSQL's words (recovery_target_action).
const (
	Promote  Action = "promote"
	Pause    Action = "pause"
	Shutdown Action = "shutdown"
)

// Options say what to restore where.
type Options struct {
	Choice  catalog.Choice
	Target  catalog.Target
	Objects *seal.Objects

	To          string            // the new data directory, absolute
	Tablespaces map[pg.OID]string // new locations; the others go where they were
	Action      Action
	Standby     bool // stay in recovery and follow, instead of stopping at a target
	// Incarnation is that of the new directory: for a standby its source's, else a
	// new one.
	Incarnation catalog.Incarnation
	Takeover    bool // take the original's place, and archive as it did
	// Delta restores over what the directory holds: an older copy of the cluster, one
	// that has diverged, or an unfinished restore. What is right already stays.
	Delta bool
	// Confirm is asked before a cluster is replaced, of which it is told what
	// pg_control says; an error of it ends the restore. Nil confirms.
	Confirm func(datadir.Control) error
	// RestoreCommand is the setting, with %f and %p.
	RestoreCommand string

	Workers int
	Clock   clock.Clock
	Events  Events
}

// Events are called while a restore runs, by several goroutines.
type Events struct {
	Phase    func(name string)
	Progress func(done, total uint64) // bytes of the data directory
	Warn     func(message string)
}

func (o *Options) validate() error {
	switch {
	case !filepath.IsAbs(o.To):
		return fmt.Errorf("the target directory %q is not an absolute path", o.To)
	case o.Workers < 1:
		return fmt.Errorf("a restore needs at least one worker, not %d", o.Workers)
	case o.Action != Promote && o.Action != Pause && o.Action != Shutdown:
		return fmt.Errorf("%q is not what a server can do at its recovery target: promote, pause or shutdown", o.Action)
	case o.Standby && o.Takeover:
		return errors.New("a standby cannot take over: promote it for that")
	case o.Standby && o.Target.Kind != catalog.ToLatest:
		return errors.New("a standby has no recovery target")
	case o.Target.Kind == catalog.ToLatest && o.Action != Promote:
		return fmt.Errorf("without a target the server recovers to the end of the WAL, and then always promotes: %s needs a target", o.Action)
	}
	for oid, dir := range o.Tablespaces {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("the location %q of tablespace %d is not an absolute path", dir, oid)
		}
	}
	if o.Confirm == nil {
		o.Confirm = func(datadir.Control) error { return nil }
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
