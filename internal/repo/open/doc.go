// Package open makes and opens repositories: it puts a store, its keys and its
// seals together, and checks that they belong together.
package open
