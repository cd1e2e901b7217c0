package recent

import (
	"slices"
	"sync"
)

// Values holds values by key. Its methods may be called by several goroutines.
type Values[K comparable, V any] struct {
	max int

	mu   sync.Mutex
	held []held[K, V] // last used first
}

type held[K comparable, V any] struct {
	key   K
	value V
}

// New makes one that holds at most so many values, at least 1.
func New[K comparable, V any](most int) *Values[K, V] { return &Values[K, V]{max: most} }

// Get gives the value of a key, which it loads if it is not held. One is loaded at a
// time, so that none is loaded twice. An error of load is given as it is, and not held.
func (v *Values[K, V]) Get(key K, load func() (V, error)) (V, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i := slices.IndexFunc(v.held, func(h held[K, V]) bool { return h.key == key })
	if i >= 0 {
		h := v.held[i]
		copy(v.held[1:i+1], v.held[:i])
		v.held[0] = h
		return h.value, nil
	}
	value, err := load()
	if err != nil {
		return value, err
	}
	v.held = slices.Insert(v.held, 0, held[K, V]{key, value})
	v.held = v.held[:min(len(v.held), v.max)]
	return value, nil
}
