// Package clock is the only place where Salvor reads the time of day.
//
// Engines take a [Clock] in their options; pure packages take a time.Time as
// an argument. Whoever builds the engines hands them [System], a test hands
// them [Fixed], or System inside a testing/synctest bubble, where time stands
// still until every goroutine waits.
//
// The linter refuses time.Now, time.Since and time.Until everywhere else, so
// that a decision which depends on the time can always be tested.
package clock
