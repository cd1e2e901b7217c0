// Package damage holds a whole repository to one promise: of an object that was
// damaged, whatever reads it gives an error that names it, or exactly what was
// stored. Never other data, and never a panic.
//
// A small repository with every kind of object is made in memory. Then each object
// is damaged in turn: every byte changed, cut at every length, made longer, removed,
// exchanged for others. After each, all that anybody does with a repository is done
// with this one: it is opened, backups are listed, targets resolved, files and packs
// read, WAL is fetched, a data directory restored.
//
// The same is done at random to the repository that the built binary makes of a real
// cluster. That test prints its seed, which SALVOR_TEST_SEED repeats;
// SALVOR_TEST_DAMAGES says how many times it damages something.
//
// With -short bytes are sampled, and there is no real cluster.
package damage
