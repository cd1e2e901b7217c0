package store

import "context"

// Prober is an optional ability of a Store: proving that the place keeps the
// promises of this contract, before anything is trusted to it. A place that only
// speaks a protocol (S3, GCS, ...) may accept a condition and ignore it.
type Prober interface {
	// Probe writes, reads, lists and deletes a few objects under a key of its
	// own, and leaves nothing. Where the place breaks a promise the error is
	// ErrUnsafe and says which one.
	Probe(ctx context.Context) error
}

// Wrapper is a Store that adds a behaviour to another one.
type Wrapper interface {
	// Unwrap is the store behind the behaviour.
	Unwrap() Store
}

// Ability finds an optional ability, such as Prober or TempCleaner, of s or of
// the stores that it wraps.
func Ability[T any](s Store) (T, bool) {
	for {
		if a, ok := s.(T); ok {
			return a, true
		}
		w, ok := s.(Wrapper)
		if !ok {
			var none T
			return none, false
		}
		s = w.Unwrap()
	}
}
