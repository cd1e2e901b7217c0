// Package swifteats is a food delivery platform to protect: the database
// schema, a past of any size, and the load of customers who go on ordering.
// Salvor's demo and its tests back it up, break it and restore it.
//
// [Create] makes the schema in an empty database and [Fill] gives it a past; the
// same size and seed give the same rows on every machine. [Run] is the present:
// it places orders, pays and delivers them at a bounded rate, and reports each
// order that the database acknowledged, so that after a disaster one can count
// what is missing. [FingerprintQuery] says whether two databases hold the same
// data.
//
// The package talks to the database through [Execer] and brings no driver.
package swifteats
