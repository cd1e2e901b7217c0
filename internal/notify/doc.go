// Package notify tells people and programs what a command did: it runs a program, posts
// to a web address, or shows a dead man's switch a sign of life.
//
// An Event is one JSON object, the same on a program's standard input and in the body of
// a POST. Whoever cannot be told is an error that names them, and nothing else happens: a
// backup does not fail because a chat service does.
package notify
