package storetest

import "runtime"

// allocated is how many bytes were allocated while do ran, freed or not. Other
// goroutines count too.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
