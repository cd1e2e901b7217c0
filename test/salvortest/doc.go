// Package salvortest gives tests the built binary, to be driven as a black box.
package salvortest
