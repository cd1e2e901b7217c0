// Package mem is a store in memory, for the tests of what is built on
// store.Store. It keeps every promise of the contract except to survive the end
// of the process.
//
// It fails on demand: Options.Hook is asked before each operation and can make
// it wait, fail, or stop in the middle; Options.Capacity fills it up; Crash
// loses what was not committed.
package mem
