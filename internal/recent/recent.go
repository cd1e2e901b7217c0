package recent

import "sync"

// Values holds values by key. Its methods may be called by several goroutines.
type Values[K comparable, V any] struct {
	most   int
	weight func(V) int

	mu      sync.Mutex
	held    map[K]*held[V]
	total   int                 // weight of all that are held
	uses    uint64              // until now
	loading map[K]chan struct{} // closed when the load has ended
}

type held[V any] struct {
	value V
	used  uint64 // the last use
}

// New makes one that holds values of at most so much weight together, or a single one;
// if weight is nil each has 1, so that most is their number. Those that are being loaded
// come to it.
func New[K comparable, V any](most int, weight func(V) int) *Values[K, V] {
	if weight == nil {
		weight = func(V) int { return 1 }
	}
	return &Values[K, V]{most: most, weight: weight, held: map[K]*held[V]{}, loading: map[K]chan struct{}{}}
}

// Get gives the value of a key, which it calls load for if it is not held. Values of
// several keys are loaded at the same time, and that of one key by one caller, for whom
// the others wait. An error of load is given to who called it, and not held: who waited
// calls its own load.
func (v *Values[K, V]) Get(key K, load func() (V, error)) (V, error) {
	v.mu.Lock()
	for {
		if h := v.held[key]; h != nil {
			v.use(h)
			v.mu.Unlock()
			return h.value, nil
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

// use makes a value the one that was used last.
func (v *Values[K, V]) use(h *held[V]) {
	v.uses++
	h.used = v.uses
}

// hold holds a value, in the place of those that were not used for longest.
func (v *Values[K, V]) hold(key K, value V) {
	h := &held[V]{value: value}
	v.use(h)
	v.held[key] = h
	v.total += v.weight(value)
	for v.total > v.most && len(v.held) > 1 {
		v.drop()
	}
}

// drop forgets the value whose last use is the longest ago.
func (v *Values[K, V]) drop() {
	var oldest K
	least := v.uses + 1
	for key, h := range v.held {
		if h.used < least {
			oldest, least = key, h.used
		}
	}
	v.total -= v.weight(v.held[oldest].value)
	delete(v.held, oldest)
}
