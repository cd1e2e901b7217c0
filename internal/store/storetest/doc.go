// Package storetest proves stores, and helps to test what uses one.
//
//   - Run is the conformance suite: each promise of store.Store, as a test. A
//     backend is done when it passes.
//   - Crash takes the power away at each step of random work, for stores over
//     vfs.FS, and CrashFinds proves that Crash would see a fault.
//   - Faulty wraps a store and fails what it is told to, for the tests of the
//     layers above.
package storetest
