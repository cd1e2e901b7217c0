// Package system tests the built binary as a black box, with real PostgreSQL
// servers: what it promises at the command line must hold whatever is inside.
//
// Each test makes a site: a cluster, a repository and a configuration made by
// "salvor init", with archive_command set as init says. Everything runs as the
// server's user. With -short only TestSmoke runs.
//
// TestAnyMoment draws its load and its targets at random; it prints its seed, and
// SALVOR_TEST_SEED repeats it. SALVOR_TEST_TARGETS says how many moments it
// recovers to. SALVOR_TEST_PROGRAM names a binary to test instead of building one.
package system
