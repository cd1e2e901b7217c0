// Package logging makes the one logger of a process and fixes the names that
// its lines use.
//
// There is no global logger: main builds one with [New] and hands it on. Every
// line is for an operator, in words, with what it speaks of as attributes. The
// Key constants name those that several packages write, so that one search
// finds every line about a backup, a segment or a timeline.
//
// Times are UTC in RFC 3339. A duration is a number of seconds and a size a
// number of bytes, with the unit at the end of the name. Secrets are never
// logged: what holds one implements slog.LogValuer and hides it.
package logging
