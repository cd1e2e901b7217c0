package verify

import (
	"fmt"

	"github.com/salvor-dr/salvor/internal/catalog"
	"github.com/salvor-dr/salvor/internal/clock"
	"github.com/salvor-dr/salvor/internal/repo/seal"
)

// Options say what to verify.
type Options struct {
	Objects *seal.Objects
	Place   catalog.Place
	// IDs are the backups of the place to verify; nil means all that it has.
	IDs   []string
	Level catalog.VerifyLevel // VerifyObjects, or else everything up to VerifyData
	// WALOnly leaves packs out: who has repaired WAL has looked at them before.
	WALOnly bool

	Workers int // packs and segments that are read at the same time
	Clock   clock.Clock
	Events  Events
}

// Events are called while a verification runs, by several goroutines.
type Events struct {
	Phase    func(name string)
	Progress func(done, total uint64) // bytes of the phase
	Warn     func(message string)
}

func (o *Options) validate() error {
	if o.Level.Rank() == 0 {
		return fmt.Errorf("%q is no level of verification", o.Level)
	}
	if o.Workers < 1 {
		return fmt.Errorf("a verification needs at least one worker, not %d", o.Workers)
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
