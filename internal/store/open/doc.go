// Package open turns the URL of a store into the store. It is the only place
// that knows every backend.
//
//	file:///absolute/path    a directory (store/file)
package open
