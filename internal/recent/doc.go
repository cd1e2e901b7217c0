// Package recent holds the few values that were used last, where what is asked for
// next is mostly near what was asked for before: parts of a table, footers of packs.
package recent
