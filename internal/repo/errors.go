package repo

import (
	"errors"
	"fmt"
)

var (
	// ErrWrongKey says that no slot of the repository opens with the key given.
	ErrWrongKey = errors.New("the key does not open this repository")
	// ErrUnknownFormat says that a newer release, or something else, wrote this.
	ErrUnknownFormat = errors.New("unknown repository format")
	// ErrNoRepository says that the store holds no repository.
	ErrNoRepository = errors.New("no repository there")
	// ErrDamaged is what every *Damage matches.
	ErrDamaged = errors.New("damaged object")
)

// Unreadable says whether an error is about what an object holds, and not about the
// store: trying again does not help, and other objects may be sound.
func Unreadable(err error) bool {
	return errors.Is(err, ErrDamaged) || errors.Is(err, ErrUnknownFormat) || errors.Is(err, ErrWrongKey)
}

// Damage names an object whose bytes are not those that were written.
type Damage struct {
	Object string // its key in the store
	Detail string
}

// Error implements error.
func (d *Damage) Error() string { return fmt.Sprintf("object %s is damaged: %s", d.Object, d.Detail) }

// Is makes errors.Is(err, ErrDamaged) true.
func (d *Damage) Is(target error) bool { return target == ErrDamaged }

// Damaged makes a *Damage with a formatted detail.
func Damaged(object, format string, args ...any) error {
	return &Damage{Object: object, Detail: fmt.Sprintf(format, args...)}
}
