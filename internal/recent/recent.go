package recent

import (
	"slices"
	"sync"
)

// Values holds values by key. Its methods may be called by several goroutines.
type Values[K comparable, V any] struct {
	max int

	mu      sync.Mutex
	held    []held[K, V]        // last used first
	loading map[K]chan struct{} // closed when the load has ended
}

type held[K comparable, V any] struct {
	key   K
	value V
}

// New makes one that holds at most so many values, at least 1. Those that are being
// loaded come to it.
func New[K comparable, V any](most int) *Values[K, V] {
	return &Values[K, V]{max: most, loading: map[K]chan struct{}{}}
}

// Get gives the value of a key, which it calls load for if it is not held. Values of
// several keys are loaded at the same time, and that of one key by one caller, for whom
// the others wait. An error of load is given to who called it, and not held: who waited
// calls its own load.
func (v *Values[K, V]) Get(key K, load func() (V, error)) (V, error) {
	v.mu.Lock()
	for {
		if value, ok := v.use(key); ok {
			v.mu.Unlock()
			return value, nil
		}
		ended, is := v.loading[key]
		if !is {
			break
		}
		v.mu.Unlock()
		<-ended
		v.mu.Lock()
	}
	ended := make(chan struct{})
	v.loading[key] = ended
	v.mu.Unlock()

	loaded := false
	var value V
	var err error
	defer func() { // also if load panics, or nobody would get this value any more
		v.mu.Lock()
		defer v.mu.Unlock()
		if loaded {
			v.hold(key, value)
		}
		delete(v.loading, key)
		close(ended)
	}()
	value, err = load()
	loaded = err == nil
	return value, err
}

// use gives a value that is held, and makes it the one that was used last.
func (v *Values[K, V]) use(key K) (value V, ok bool) {
	i := slices.IndexFunc(v.held, func(h held[K, V]) bool { return h.key == key })
	if i < 0 {
		return value, false
	}
	h := v.held[i]
	copy(v.held[1:i+1], v.held[:i])
	v.held[0] = h
	return h.value, true
}

// hold holds a value, in the place of the one that was not used for longest.
func (v *Values[K, V]) hold(key K, value V) {
	v.held = slices.Insert(v.held, 0, held[K, V]{key, value})
	if len(v.held) > v.max {
		clear(v.held[v.max:])
		v.held = v.held[:v.max]
	}
}
